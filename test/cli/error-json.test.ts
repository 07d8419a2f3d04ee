/** Properties that scripts rely on besides data: errors in JSON, the version, options. Compared with bpftool. */
import { describe, expect, test } from "bun:test";
import pkg from "../../package.json" with { type: "json" };
import { kernelSkipReason, ktstr, type Ran, spawn } from "../live/bpftool.ts";
import { Kit } from "../live/kit.ts";

const kernel = describe.skipIf(kernelSkipReason() !== "");

/** Returns the sentence of an answer that consists only of bpftool's `{"error":"..."}`. */
function errorOf({ out }: Ran): string {
  const answer: unknown = JSON.parse(out);
  expect(Object.keys(answer as object)).toEqual(["error"]);
  const { error } = answer as { error: unknown };
  expect(typeof error).toBe("string");
  return String(error);
}

kernel("with -j an error is on standard output, and nothing on standard error", () => {
  test.each([
    ["map show id 4294967295", 1],
    ["link show id 4294967295", 1],
    ["btf show id 4294967295", 1],
    ["map dump id 4294967295", 1],
    ["map lookup id 4294967295 key 1", 1],
    ["map getnext id 4294967295", 1],
    ["map show pinned /nowhere", 1],
    ["prog show pinned /proc/version", 1],
    ["btf dump file /nowhere", 1],
    ["batch file /nowhere", 1],
    ["map show foo", 2],
    ["map show id x", 2],
    ["map show id", 2],
    ["prog show tag 01", 2],
    ["--nothing map show", 2],
    ["batch", 2],
  ])("%s", (line, status) => {
    for (const flag of ["-j", "-p"]) {
      const words = [flag, ...line.split(" ")];
      const [mine, theirs] = [ktstr(words), spawn(["bpftool", ...words])];
      expect([theirs.status === 0, theirs.err]).toEqual([false, ""]);
      expect(errorOf(theirs)).not.toBe("");
      expect([mine.status, mine.err]).toEqual([status, ""]);
      expect(errorOf(mine)).not.toBe("");
      expect(mine.out.endsWith("}\n")).toBe(true);
    }
  });

  test("without -j the same sentence is on standard error only", () => {
    const words = ["map", "show", "id", "4294967295"];
    const theirs = spawn(["bpftool", ...words]);
    expect([theirs.out, theirs.err.startsWith("Error: ")]).toEqual(["", true]);
    const sentence = errorOf(ktstr(["-j", ...words]));
    expect(ktstr(words)).toEqual({ status: 1, out: "", err: `ktstr: error: ${sentence}\n` });
  });

  test("cases in which bpftool prints nothing or `null` are also errors", () => {
    for (const line of ["prog show name nosuchname", "map show name nosuchname", "nope", "map nope"]) {
      const words = ["-j", ...line.split(" ")];
      const theirs = spawn(["bpftool", ...words]);
      expect([theirs.status === 0, ["", "null"].includes(theirs.out.trim())]).toEqual([false, true]);
      expect(errorOf(ktstr(words))).not.toBe("");
    }
  });

  test("invalid UTF-8 and control characters in a word are escaped", () => {
    const { out } = ktstr(["-j", "map", "show", "name", 'a"\u001b[31m\u202e']);
    expect(out).not.toMatch(/[\u001b\u202e]/);
    expect(JSON.parse(out).error).toContain('"a\\"');
  });

  test("an incomplete answer has status 1 and is one document; standard error says what is missing", () => {
    using kit = new Kit();
    const map = kit.map({ type: "stack_trace", valueSize: 8 });
    const { status, out, err } = ktstr([
      "-j",
      "map",
      "lookup",
      "id",
      String(map.id),
      "key",
      "1",
      "0",
      "0",
      "0",
    ]);
    const theirs = spawn(["bpftool", "-j", "map", "lookup", "id", String(map.id), "key", "1", "0", "0", "0"]);
    expect([theirs.status === 0, JSON.parse(theirs.out)]).toEqual([false, null]);
    expect([status, JSON.parse(out), err]).toEqual([1, null, ""]);
  });
});

test("--json=yes is not -j: the error is text", () => {
  expect(ktstr(["--json=yes", "map"])).toMatchObject({ status: 2, out: "" });
});

test("words after -- are not read as options if there is an error", () => {
  expect(ktstr(["map", "nope", "--", "-j"])).toMatchObject({ status: 2, out: "" });
});

describe("version", () => {
  const text = `ktstr v${pkg.version}\nusing Bun ${Bun.version}, and no libbpf\n`;

  test("is the package's, with every spelling and after any command", () => {
    for (const line of ["version", "v", "--version", "-V", "map -V", "-V map show", "-V nope"])
      expect([line, ktstr(line.split(" "))]).toEqual([line, { status: 0, out: text, err: "" }]);
    expect(ktstr(["version", "more"])).toMatchObject({ status: 2, out: "" });
    const licenses = ktstr(["version", "licenses"]);
    for (const [name, holder] of [
      ["capstone-js", "Alexandro Sanchez Bach"],
      ["citty", "Pooya Parsa"],
      ["uplot", "Leon Sorokin"],
    ])
      expect([name, licenses.out.includes(holder!)]).toEqual([name, true]);
  });

  kernel("in JSON", () => {
    test("has bpftool's keys", () => {
      const theirs = JSON.parse(spawn(["bpftool", "-j", "version"]).out) as Record<string, unknown>;
      const mine = JSON.parse(ktstr(["-j", "version"]).out) as Record<string, unknown>;
      expect(Object.keys(mine)).toEqual([...Object.keys(theirs), "bun_version"]);
      expect(Object.keys(mine["features"] as object)).toEqual(
        expect.arrayContaining(Object.keys(theirs["features"] as object)),
      );
      expect(mine).toMatchObject({ version: pkg.version, libbpf_version: null, bun_version: Bun.version });
      expect(JSON.parse(ktstr(["-p", "-V"]).out)).toEqual(mine);
    });
  });
});

kernel("bpftool's options that change nothing here", () => {
  test.each(["-n", "--nomount", "-m", "--mapcompat", "-L", "--use-loader", "-nmL"])(
    "%s is accepted",
    (flag) => {
      using kit = new Kit();
      const { id } = kit.map({ type: "array", name: "by_option" });
      const words = ["map", "show", "id", String(id)];
      expect(ktstr([flag, ...words])).toEqual(ktstr(words));
      expect(spawn(["bpftool", flag, ...words]).status).toBe(0);
    },
  );

  test("are described in every --help", () => {
    for (const command of [[], ["inspect"], ["map", "dump"]]) {
      const { out } = ktstr([...command, "--help"]);
      for (const option of ["-n, --nomount", "-m, --mapcompat", "-L, --use-loader"])
        expect(out).toMatch(new RegExp(`${option} +for bpftool's scripts; no effect: ktstr \\w+`));
    }
  });
});
