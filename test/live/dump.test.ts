/** `map dump` of the running kernel, compared with bpftool for every type of map. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { possibleCpus } from "../../src/live/cpus.ts";
import { realSys } from "../../src/live/sys.ts";
import { bpftoolJson, kernelSkipReason, ktstr, ktstrJson, missing, parseExact, spawn } from "./bpftool.ts";
import { type HeldMap, Kit, type MapOptions, u32, u64 } from "./kit.ts";
import { addCongestionControl, createLink } from "./kit-links.ts";
import { loadProg, someTypes } from "./kit-progs.ts";

const NO_PREALLOC = 0x1;

type Entry = Record<string, unknown>;

/** Compares both dumps of a map, by id, and returns the number of entries. */
function expectSameDump(map: HeldMap): number {
  const theirs = bpftoolJson("map", "dump", "id", String(map.id)) as Entry[];
  const mine = ktstrJson("map", "dump", "id", String(map.id));
  expect(missing(mine, theirs)).toEqual([]);
  return theirs.length;
}

describe.skipIf(kernelSkipReason() !== "")("map dump has the entries of bpftool's", () => {
  const kit = new Kit();
  const cpus = possibleCpus(realSys).length;
  afterAll(() => kit[Symbol.dispose]());

  /** Different bytes for every CPU, at the kernel's stride. */
  function percpu(valueSize: number, seed: number): Uint8Array {
    const stride = Math.ceil(valueSize / 8) * 8;
    const bytes = new Uint8Array(stride * cpus);
    for (let cpu = 0; cpu < cpus; cpu++)
      bytes.fill(seed * 16 + cpu + 1, cpu * stride, cpu * stride + valueSize);
    return bytes;
  }

  test("with types: also bpftool's `formatted`", () => {
    const { btf, intId, structId } = someTypes(kit);
    const types = { btfFd: btf.fd, btfKeyTypeId: intId, btfValueTypeId: structId };
    for (const type of ["array", "hash", "percpu_array", "lru_percpu_hash"] as const) {
      const map = kit.map({
        type,
        valueSize: 16,
        maxEntries: type === "lru_percpu_hash" ? 512 : 4,
        ...types,
      });
      const value = type.includes("percpu") ? percpu(16, 3) : new Uint8Array(16).fill(0xfd);
      kit.update(map, u32(2), value);
      expect(expectSameDump(map)).toBe(type.endsWith("array") ? 4 : 1);
      const [first] = ktstrJson("map", "dump", "id", String(map.id)) as Entry[];
      expect(first).toHaveProperty("formatted");
    }
  });

  const plain: readonly (MapOptions & { readonly count: number })[] = [
    { type: "array", valueSize: 1, maxEntries: 5, count: 5 },
    { type: "array", valueSize: 12, maxEntries: 100, count: 3 },
    { type: "array", valueSize: 5000, maxEntries: 3, count: 3 },
    { type: "hash", keySize: 4, valueSize: 3, maxEntries: 1000, count: 700 },
    { type: "hash", keySize: 5, valueSize: 24, maxEntries: 50, count: 50 },
    { type: "hash", keySize: 8, valueSize: 8, maxEntries: 10, flags: NO_PREALLOC, count: 10 },
    { type: "hash", keySize: 100, valueSize: 1000, maxEntries: 10, count: 7 },
    { type: "hash", maxEntries: 10, count: 0 },
    { type: "lru_hash", keySize: 8, valueSize: 16, maxEntries: 512, count: 100 },
  ];
  for (const { count, ...options } of plain) {
    test(`${options.type}, ${options.keySize ?? 4} to ${options.valueSize ?? 4} bytes, ${count} of them`, () => {
      const map = kit.map(options);
      kit.fill(map, count);
      expect(expectSameDump(map)).toBe(options.type === "array" ? (options.maxEntries ?? 0) : count);
    });
  }

  for (const type of ["percpu_array", "percpu_hash", "lru_percpu_hash"] as const) {
    for (const valueSize of [4, 8, 12, 100]) {
      test(`${type}, ${valueSize} bytes on each possible CPU`, () => {
        const map = kit.map({ type, valueSize, maxEntries: type === "lru_percpu_hash" ? 512 : 20 });
        for (let key = 0; key < 10; key++) kit.update(map, u32(key), percpu(valueSize, key));
        expect(expectSameDump(map)).toBe(type === "percpu_array" ? 20 : 10);
        const [first] = ktstrJson("map", "dump", "id", String(map.id)) as { values: { cpu: number }[] }[];
        expect(first?.values.map(({ cpu }) => cpu)).toEqual(possibleCpus(realSys) as number[]);
      });
    }
  }

  test("lpm_trie", () => {
    const map = kit.map({ type: "lpm_trie", keySize: 8, valueSize: 4, maxEntries: 10, flags: NO_PREALLOC });
    for (const [bits, address] of [
      [0, 0],
      [8, 10],
      [16, 0x0a01],
      [24, 0x0a0102],
      [32, 0x0a010203],
    ] as const) {
      kit.update(map, u32(bits, address), u32(bits));
    }
    expect(expectSameDump(map)).toBe(5);
  });

  test("array_of_maps and hash_of_maps: the inner map's id, holes left out", () => {
    const inner = kit.map({ type: "array", valueSize: 8, maxEntries: 1 });
    const other = kit.map({ type: "array", valueSize: 8, maxEntries: 1 });
    for (const type of ["array_of_maps", "hash_of_maps"] as const) {
      const map = kit.map({ type, maxEntries: 5, innerFd: inner.fd });
      kit.update(map, u32(1), u32(inner.fd));
      kit.update(map, u32(3), u32(other.fd));
      expect(expectSameDump(map)).toBe(2);
      const mine = ktstrJson("map", "dump", "id", String(map.id)) as { inner_map_id: number }[];
      expect(mine.map((entry) => entry.inner_map_id).sort()).toEqual([inner.id, other.id].sort());
    }
  });

  test("prog_array: the program's id, holes left out", () => {
    const prog = loadProg(kit, { type: "socket_filter" });
    const map = kit.map({ type: "prog_array", maxEntries: 1000 });
    kit.update(map, u32(7), u32(prog.fd));
    expect(expectSameDump(map)).toBe(1);
    expect(ktstrJson("map", "dump", "id", String(map.id))).toMatchObject([{ prog_id: prog.id }]);
  });

  test("struct_ops", () => {
    const { map } = addCongestionControl(kit, `ktd${process.pid}`);
    expect(expectSameDump(map)).toBe(1);
    createLink(kit, map, { attach: "struct_ops" });
    expect(expectSameDump(map)).toBe(1);
  });

  const refused: readonly MapOptions[] = [
    { type: "perf_event_array", maxEntries: 2 },
    { type: "cgroup_array", maxEntries: 2 },
    { type: "stack_trace", valueSize: 80, maxEntries: 8 },
    { type: "sockmap", maxEntries: 2 },
    { type: "sockmap", maxEntries: 2, valueSize: 8 },
    { type: "sockhash", maxEntries: 2 },
    { type: "cpumap", maxEntries: 2 },
    { type: "devmap", maxEntries: 2 },
    { type: "devmap_hash", maxEntries: 2 },
    { type: "xskmap", maxEntries: 2 },
    { type: "reuseport_sockarray", maxEntries: 2, valueSize: 8 },
    { type: "cgroup_storage", keySize: 16, maxEntries: 0 },
    { type: "percpu_cgroup_storage", keySize: 16, maxEntries: 0 },
    { type: "queue", keySize: 0 },
    { type: "stack", keySize: 0 },
    { type: "bloom_filter", keySize: 0 },
    { type: "ringbuf", keySize: 0, valueSize: 0, maxEntries: 4096 },
    { type: "user_ringbuf", keySize: 0, valueSize: 0, maxEntries: 4096 },
  ];
  for (const options of refused) {
    test(`${options.type} of ${options.valueSize ?? 4} bytes, for which bpftool prints errors or nothing`, () => {
      const map = kit.map(options);
      const theirs = bpftoolJson("map", "dump", "id", String(map.id));
      const ran = ktstr(["-j", "map", "dump", "id", String(map.id)]);
      const mine = parseExact(ran.out);
      if (Array.isArray(theirs)) expect(missing(mine, theirs)).toEqual([]);
      else expect(theirs).toHaveProperty("error");
      // Status 1 comes with a message that says why the dump is incomplete.
      expect(ran.err === "").toBe(ran.status === 0);
      if (ran.err !== "") expect(ran.err).toMatch(/^ktstr: warn: map \d+[^\n]*: incomplete: [^\n]+\n$/);
    });
  }
});

describe.skipIf(kernelSkipReason() !== "")("selectors of map dump", () => {
  const kit = new Kit();
  const name = `k${process.pid}.bss`;
  let maps: HeldMap[] = [];
  beforeAll(() => {
    maps = [1, 2].map((count) => {
      const map = kit.map({ type: "hash", name, maxEntries: 8 });
      kit.fill(map, count);
      return map;
    });
  });
  afterAll(() => kit[Symbol.dispose]());

  test("a name that two maps have selects both, with bpftool's JSON around them", () => {
    const mine = ktstrJson("map", "dump", "name", name);
    expect(missing(mine, bpftoolJson("map", "dump", "name", name))).toEqual([]);
    expect((mine as { id: number }[]).map(({ id }) => id)).toEqual(maps.map(({ id }) => id));
    const shown = ktstrJson("map", "show", "name", name);
    expect(missing(shown, bpftoolJson("map", "show", "name", name))).toEqual([]);
  });

  test("a pinned path", () => {
    const path = kit.pin(maps[0] as HeldMap, "a pinned map");
    expect(
      missing(ktstrJson("map", "dump", "pinned", path), bpftoolJson("map", "dump", "pinned", path)),
    ).toEqual([]);
    expect(
      missing(ktstrJson("map", "show", "pinned", path), bpftoolJson("map", "show", "pinned", path)),
    ).toEqual([]);
  });

  test("--bpffs has the paths of pinned objects, as in bpftool", () => {
    const [first, second] = [maps[0]!, maps[1]!];
    kit.pin(first, "with a blank");
    mkdirSync(`${kit.bpffs}/folder/deeper`, { recursive: true });
    kit.pin(first, "folder/deeper/again");
    kit.pin(second, "folder/other");
    kit.pin(loadProg(kit, { type: "xdp", name: "pinned_too" }), "folder/program");
    for (const flag of ["-f", "--bpffs"]) {
      // The order of files in a directory is undefined, and other processes may create and free maps at the same time.
      const shown = (list: unknown): unknown =>
        (list as { id: number; pinned?: string[] }[])
          .filter(({ id }) => id === first.id || id === second.id)
          .map(({ id, pinned = [] }) => [id, pinned.sort()]);
      const mine = shown(ktstrJson(flag, "map", "show"));
      expect(mine).toEqual(shown(bpftoolJson(flag, "map", "show")));
      expect(JSON.stringify(mine)).toContain(`${kit.bpffs}/folder/deeper/again`);
    }
    const own = ["-f", "prog", "show", "name", "pinned_too"];
    expect(missing(ktstrJson(...own), bpftoolJson(...own))).toEqual([]);
    expect(ktstrJson(...own)).toMatchObject({ pinned: [`${kit.bpffs}/folder/program`] });
    const text = ktstr(["-f", "map", "show", "id", String(second.id)]).out;
    expect(text).toContain(`\n\tpinned ${kit.bpffs}/folder/other\n`);
    expect(ktstr(["map", "show", "--sample", "-f"])).toMatchObject({ status: 0, err: "" });
  });

  test("a pinned program and link, and paths of another kind", () => {
    const prog = loadProg(kit, { type: "xdp", name: "pinned_prog" });
    const path = kit.pin(prog, "prog");
    expect(ktstrJson("prog", "show", "pinned", path)).toMatchObject({ id: prog.id });
    const wrong = ktstr(["map", "show", "pinned", path]);
    expect([wrong.status, wrong.out]).toEqual([1, ""]);
    expect(wrong.err).toContain("a program is pinned there, not a map");
    const nothing = ktstr(["map", "show", "pinned", `${kit.bpffs}/nothing`]);
    expect(nothing.status).toBe(1);
    expect(nothing.err).toContain("ENOENT");
    const plainFile = ktstr(["map", "show", "pinned", "/etc/passwd"]);
    expect(plainFile.status).toBe(1);
    expect(plainFile.err).toContain("BPF_OBJ_GET /etc/passwd");
  });

  test("-p has the same data as -j", () => {
    const id = String(maps[1]?.id);
    const pretty = ktstr(["-p", "map", "dump", "id", id]);
    expect(JSON.parse(pretty.out)).toEqual(ktstrJson("map", "dump", "id", id));
    expect(pretty.out.split("\n").length).toBeGreaterThan(2);
  });

  test("text without types is bpftool's, line for line", () => {
    const trie = kit.map({ type: "lpm_trie", keySize: 8, flags: NO_PREALLOC });
    kit.update(trie, u32(8, 10), u32(0xfe));
    const wide = kit.map({ type: "hash", keySize: 20, valueSize: 40, maxEntries: 4 });
    kit.fill(wide, 2);
    const percpu = kit.map({ type: "percpu_array", valueSize: 8, maxEntries: 1 });
    kit.update(percpu, u32(0), u64(...possibleCpus(realSys).map((cpu) => cpu + 1)));
    const middle = kit.map({ type: "array", valueSize: 16, maxEntries: 2 });
    const longKeys = kit.map({ type: "percpu_hash", keySize: 20, valueSize: 8, maxEntries: 2 });
    kit.update(longKeys, new Uint8Array(20).fill(7), u64(...possibleCpus(realSys)));
    const longValues = kit.map({ type: "percpu_array", valueSize: 24, maxEntries: 2 });
    const all = [...maps, trie, wide, percpu, middle, longKeys, longValues, kit.map({ type: "hash" })];
    for (const { id } of all) {
      const plain = ktstr(["map", "dump", "id", String(id)]);
      expect(plain.out).toBe(spawn(["bpftool", "map", "dump", "id", String(id)]).out);
    }
  });
});
