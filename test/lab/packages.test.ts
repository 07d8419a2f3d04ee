import { describe, expect, test } from "bun:test";
import { newestOf, releaseIn } from "./kernels.ts";
import { dependsOf, mirrorIn, parseStanzas } from "./packages.ts";

describe("apt's sources", () => {
  test("a deb822 file names its archive in URIs", () => {
    const text = "Types: deb\n# a comment\nURIs: http://mirror.example/debian/\nSuites: sid\n";
    expect(mirrorIn([{ name: "debian.sources", text }])).toBe("http://mirror.example/debian");
  });

  test("a one-line list may have options before the URI", () => {
    const text =
      "# deb http://old.example/debian x main\ndeb [arch=amd64 signed-by=/k] http://m.example/debian sid main\n";
    expect(mirrorIn([{ name: "sources.list", text }])).toBe("http://m.example/debian");
  });

  test("an archive of something else is not the Debian archive", () => {
    const other = {
      name: "node.sources",
      text: "Types: deb\nURIs: https://deb.example/node_20.x\nSuites: x\n",
    };
    const security = { name: "s.list", text: "deb http://m.example/debian-security sid main\n" };
    expect(mirrorIn([other, security])).toBeUndefined();
  });
});

describe("releases of a series", () => {
  const packages = [
    "linux-image-6.18.5+deb13-amd64",
    "linux-image-6.18.15+deb13-amd64",
    "linux-image-6.18.9+deb13-amd64",
    "linux-image-6.18.20+deb13-rt-amd64",
    "linux-image-6.18.20+deb13-amd64-unsigned",
    "linux-image-6.1.80+deb13-amd64",
    "linux-image-amd64",
  ];

  test("the newest is told by its number, not by its letters, and of the plain flavour", () => {
    expect(newestOf("6.18", "amd64", packages)).toBe("6.18.15+deb13-amd64");
    expect(newestOf("6.1", "amd64", packages)).toBe("6.1.80+deb13-amd64");
  });

  test("a series that is not there has none", () => {
    expect(newestOf("6.2", "amd64", packages)).toBeUndefined();
    expect(newestOf("6.18", "arm64", packages)).toBeUndefined();
  });
});

describe("package stanzas", () => {
  test("continuation lines belong to the field before them", () => {
    const [first, second] = parseStanzas("Package: a\nDescription: x\n more\nVersion: 1\n\nPackage: b\n");
    expect(first?.get("Description")).toBe("x\nmore");
    expect(first?.get("Version")).toBe("1");
    expect(second?.get("Package")).toBe("b");
  });

  test("a dependency is its first alternative, without its bound", () => {
    expect(
      dependsOf({ depends: "dracut | initramfs-tools (>= 0.1), linux-base-7 (= 7.2-1), libc6:any" }),
    ).toEqual(["dracut", "linux-base-7", "libc6"]);
    expect(dependsOf({ depends: "" })).toEqual([]);
  });

  test("a metapackage's image names the release; its other packages do not", () => {
    const sid = ["linux-base-amd64", "linux-image-7.2.13+deb14-amd64"];
    expect(releaseIn(sid)).toBe("7.2.13+deb14-amd64");
    expect(releaseIn(["linux-image-6.1.0-50-amd64"])).toBe("6.1.0-50-amd64");
    expect(releaseIn(["linux-image-amd64"])).toBeUndefined();
  });
});
