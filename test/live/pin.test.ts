/** `pinByName` on a fake kernel: which map is held, and errors. */
import { describe, expect, test } from "bun:test";
import { SyscallError } from "../../src/errors.ts";
import { MapFreedError, NoSuchMapError, pinByName } from "../../src/live/pin.ts";
import { EMFILE, ENOENT, EPERM } from "../../src/uapi/errno.ts";
import { FakeKernel } from "./fake.ts";

function errorOf<T extends Error>(kind: new (...args: never[]) => T, run: () => unknown): T {
  try {
    run();
  } catch (error) {
    if (error instanceof kind) return error;
    throw error;
  }
  throw new Error(`nothing was thrown, ${kind.name} was expected`);
}

describe("pin by name", () => {
  test("takes the lowest id of several, and lists the others", () => {
    const kernel = new FakeKernel();
    for (const [id, name] of [
      [12, "scx_simp.bss"],
      [30, "scx_simp.bss"],
      [7, "other"],
      [44, "scx_simp.bss"],
    ] as const) {
      kernel.addMap({ id, name });
    }
    {
      using held = pinByName("scx_simp.bss", kernel);
      expect(held.info.id).toBe(12);
      expect(held.alsoNamed).toEqual([30, 44]);
      expect(kernel.openCount).toBe(1);
    }
    expect(kernel.openCount).toBe(0);
  });

  test("holds the map even if the kernel frees its id", () => {
    const kernel = new FakeKernel();
    kernel.addMap({ id: 3, name: "a" });
    const held = pinByName("a", kernel);
    kernel.maps.clear();
    expect(held.fd.closed).toBe(false);
    expect(kernel.openCount).toBe(1);
    held[Symbol.dispose]();
    held[Symbol.dispose]();
    expect(held.fd.closed).toBe(true);
    expect(kernel.openCount).toBe(0);
  });

  test("compares bytes: a prefix or another case does not match", () => {
    const kernel = new FakeKernel();
    kernel.addMap({ id: 1, name: "stats" });
    kernel.addMap({ id: 2, name: "Stats_x" });
    kernel.addMap({ id: 3, name: "sta" });
    kernel.addMap({ id: 4, name: new Uint8Array([0xff, 0x62, 0x61, 0x64]) });
    kernel.addMap({ id: 5, name: "zähler" });
    for (const [name, id] of [
      ["stats", 1],
      ["Stats_x", 2],
      ["zähler", 5],
    ] as const) {
      using held = pinByName(name, kernel);
      expect(held.info.id).toBe(id);
    }
    expect(() => pinByName("Stats", kernel)).toThrow(NoSuchMapError);
    expect(() => pinByName("\ufffdbad", kernel)).toThrow(NoSuchMapError);
  });

  test("the error for a missing map lists the existing maps, their number, and the three usual causes", () => {
    const kernel = new FakeKernel();
    kernel.addMap({ id: 1, name: "first" });
    kernel.addMap({ id: 2, name: "second" });
    kernel.addMap({ id: 3, name: "" });
    kernel.addMap({ id: 4, name: "evil\u001b[31m\n" });
    const error = errorOf(NoSuchMapError, () => pinByName("third", kernel));
    expect(error.message).toBe(
      'no map is named "third"; 4 maps were seen: first, second, evil\\x1b[31m\\x0a',
    );
    expect(error.seen.map(({ id }) => id)).toEqual([1, 2, 3, 4]);
    expect(error.hint).toContain("not loaded yet");
    expect(error.hint).toContain("15 usable characters of BPF_OBJ_NAME_LEN");
    expect(error.hint).toContain("freed already");
    expect(kernel.openCount).toBe(0);
  });

  test("the error on a kernel without maps says so", () => {
    const error = errorOf(NoSuchMapError, () => pinByName("x", new FakeKernel()));
    expect(error.message).toBe('no map is named "x"; 0 maps were seen');
  });

  test("a map without a name never matches", () => {
    const kernel = new FakeKernel();
    kernel.addMap({ id: 3, name: "" });
    expect(() => pinByName("", kernel)).toThrow(NoSuchMapError);
  });

  test("a map that is freed between the look-up and the open is a separate error", () => {
    const kernel = new FakeKernel();
    kernel.addMap({ id: 3, name: "a" });
    let opened = 0;
    kernel.fail("BPF_MAP_GET_FD_BY_ID", ENOENT, { when: () => ++opened === 2 });
    const error = errorOf(MapFreedError, () => pinByName("a", kernel));
    expect(error.message).toContain("map 3");
    expect(error.message).toContain("freed between the look-up and the open");
    expect(kernel.openCount).toBe(0);
  });

  test("a reused id of another map is not returned", () => {
    const kernel = new FakeKernel();
    kernel.addMap({ id: 3, name: "a" });
    let opened = 0;
    kernel.before = (command) => {
      if (command === "BPF_MAP_GET_FD_BY_ID" && ++opened === 2) kernel.addMap({ id: 3, name: "b" });
    };
    expect(() => pinByName("a", kernel)).toThrow(MapFreedError);
    expect(kernel.openCount).toBe(0);
  });

  for (const [errno, code] of [
    [EPERM, "EPERM"],
    [EMFILE, "EMFILE"],
  ] as const) {
    test(`the second open can fail in other ways (${code}): the error has the errno`, () => {
      const kernel = new FakeKernel();
      kernel.addMap({ id: 3, name: "a" });
      let opened = 0;
      kernel.fail("BPF_MAP_GET_FD_BY_ID", errno, { when: () => ++opened === 2 });
      const error = errorOf(SyscallError, () => pinByName("a", kernel));
      expect(error).toMatchObject({ command: "BPF_MAP_GET_FD_BY_ID", code });
      expect(kernel.openCount).toBe(0);
    });
  }

  test("a walk without privilege is an error that names the privilege", () => {
    const kernel = new FakeKernel();
    kernel.fail("BPF_MAP_GET_NEXT_ID", EPERM);
    const error = errorOf(SyscallError, () => pinByName("a", kernel));
    expect(error.hint).toContain("CAP_SYS_ADMIN");
  });

  test("the error for a missing map lists the maps that could not be read, because it may be one of them", () => {
    const kernel = new FakeKernel();
    kernel.addMap({ id: 3, name: "a" });
    kernel.addMap({ id: 4, name: "b" });
    kernel.fail("BPF_MAP_GET_FD_BY_ID", EPERM, { when: (attr) => attr.get("start_id") === 3 });
    const error = errorOf(NoSuchMapError, () => pinByName("a", kernel));
    expect(error.message).toContain("1 map was seen: b");
    expect(error.message).toContain("BPF_MAP_GET_FD_BY_ID map 3: EPERM (errno 1)");
  });
});
