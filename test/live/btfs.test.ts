/** BTF objects of the running kernel, compared with bpftool. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { openLive } from "../../src/live/live.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { bpftoolJson, expectSame, kernelSkipReason, ktstrJson, missing, only, spawn } from "./bpftool.ts";
import { type Held, type HeldMap, Kit } from "./kit.ts";
import { loadProg, someTypes } from "./kit-progs.ts";

describe.skipIf(kernelSkipReason() !== "")("btf show has every key and value of bpftool's", () => {
  const kit = new Kit();
  let used: Held;
  let unused: Held;
  let map: HeldMap;
  let prog: Held;
  beforeAll(() => {
    const { btf, intId, structId, functionId } = someTypes(kit);
    used = btf;
    const types = { btfFd: btf.fd, btfKeyTypeId: intId, btfValueTypeId: structId };
    map = kit.map({ type: "hash", valueSize: 16, ...types });
    prog = loadProg(kit, { type: "xdp", btfFd: btf.fd, funcTypeId: functionId });
    unused = someTypes(kit).btf;
  });
  afterAll(() => kit[Symbol.dispose]());

  test("of types with a map and a program that use them", () => {
    expectSame("btf", used.id);
    expect(ktstrJson("btf", "show", "id", String(used.id))).toMatchObject({
      prog_ids: [prog.id],
      map_ids: [map.id],
      kernel: false,
    });
  });

  test("of types without users", () => {
    expectSame("btf", unused.id);
    expect(ktstrJson("btf", "show", "id", String(unused.id))).toMatchObject({ prog_ids: [], map_ids: [] });
  });

  test("of the kernel, in a listing of all", () => {
    const theirs = bpftoolJson("btf", "show") as { id: number; name?: string; kernel?: boolean }[];
    const vmlinux = theirs.find(({ name }) => name === "vmlinux");
    const ids = [vmlinux?.id ?? 0, used.id, unused.id];
    // Other processes may load or unload programs that hook the kernel between the two listings.
    const plain = (list: unknown): unknown[] =>
      only(list, ids).map((btf) => {
        const { prog_ids: _, ...rest } = btf as Record<string, unknown>;
        return rest;
      });
    const mine = ktstrJson("btf", "show");
    expect(missing(plain(mine), plain(theirs))).toEqual([]);
    expect(only(mine, ids)).toHaveLength(3);
  });

  test("and the types of a map are read as they were written", () => {
    using live = openLive({ keep: () => false });
    const info = live.maps().find(({ id }) => id === map.id);
    const btf = info && live.programBtf(info);
    if (btf?.ok !== true) throw new Error("no BTF");
    const pair = btf.value.find("pair", BTF_KIND.STRUCT) ?? 0;
    expect([...btf.value.members(pair)].map(({ name, bitOffset }) => [name, bitOffset])).toEqual([
      ["first", 0],
      ["second", 64],
    ]);
    const dumped = spawn(["bpftool", "-j", "btf", "dump", "map", "id", String(map.id), "value"]).out;
    expect(JSON.parse(dumped)).toMatchObject({
      types: [{ kind: "STRUCT", name: "pair", size: btf.value.sizeOf(pair) }],
    });
  });
});
