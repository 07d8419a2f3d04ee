/** `map show` of the running kernel, compared with bpftool for every type of map. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { MAP_TYPES, type MapTypeName } from "../../src/uapi/names.ts";
import { bpftoolJson, expectSame, kernelSkipReason, ktstrJson, missing, only } from "./bpftool.ts";
import { type HeldMap, Kit, type MapOptions } from "./kit.ts";
import { loadProg, someTypes, usesMaps } from "./kit-progs.ts";

const NO_PREALLOC = 0x1;
const MMAPABLE = 0x400;

/** One map of each type that needs no program. */
const PLAIN: readonly MapOptions[] = [
  { type: "hash", keySize: 8, valueSize: 24, maxEntries: 100 },
  { type: "array", valueSize: 12 },
  { type: "prog_array" },
  { type: "perf_event_array" },
  { type: "percpu_hash", valueSize: 12 },
  { type: "percpu_array", valueSize: 20 },
  { type: "stack_trace", valueSize: 127 * 8 },
  { type: "cgroup_array" },
  { type: "lru_hash", maxEntries: 64 },
  { type: "lru_percpu_hash", maxEntries: 64 },
  { type: "lpm_trie", keySize: 8, flags: NO_PREALLOC },
  { type: "devmap" },
  { type: "sockmap" },
  { type: "cpumap", maxEntries: 2 },
  { type: "xskmap" },
  { type: "sockhash" },
  { type: "cgroup_storage", keySize: 16, maxEntries: 0 },
  { type: "reuseport_sockarray" },
  { type: "percpu_cgroup_storage", keySize: 16, maxEntries: 0 },
  { type: "queue", keySize: 0 },
  { type: "stack", keySize: 0 },
  { type: "devmap_hash" },
  { type: "ringbuf", keySize: 0, valueSize: 0, maxEntries: 4096 },
  { type: "bloom_filter", keySize: 0 },
  { type: "user_ringbuf", keySize: 0, valueSize: 0, maxEntries: 4096 },
  { type: "arena", keySize: 0, valueSize: 0, maxEntries: 10, flags: MMAPABLE },
];

describe.skipIf(kernelSkipReason() !== "")("map show has every key and value of bpftool's", () => {
  const kit = new Kit();
  const made = new Map<string, HeldMap>();

  beforeAll(() => {
    for (const options of PLAIN)
      made.set(options.type, kit.map({ name: options.type.slice(0, 15), ...options }));
    const { btf, intId, structId } = someTypes(kit);
    const typed = { btfFd: btf.fd, btfKeyTypeId: intId };
    for (const type of ["sk_storage", "inode_storage", "task_storage", "cgrp_storage"] as const) {
      const options = {
        type,
        name: type,
        maxEntries: 0,
        flags: NO_PREALLOC,
        btfValueTypeId: intId,
        ...typed,
      };
      made.set(type, kit.map(options));
    }
    made.set(
      "typed",
      kit.map({ type: "hash", name: "typed", valueSize: 16, btfValueTypeId: structId, ...typed }),
    );
    const inner = kit.map({ type: "array", name: "inner", valueSize: 8 });
    made.set("inner", inner);
    made.set("array_of_maps", kit.map({ type: "array_of_maps", name: "outer", innerFd: inner.fd }));
    made.set("hash_of_maps", kit.map({ type: "hash_of_maps", name: "outer_h", innerFd: inner.fd }));
    made.set("nameless", kit.map({ type: "hash" }));
    made.set("dots", kit.map({ type: "hash", name: "..a_1.bss.rodat" }));
    const frozen = kit.map({ type: "array", name: "frozen" });
    kit.freeze(frozen);
    made.set("frozen", frozen);
    const owned = kit.map({ type: "prog_array", name: "owned" });
    made.set("owned prog_array", owned);
    loadProg(kit, { type: "socket_filter", code: usesMaps(owned) });
  });
  afterAll(() => kit[Symbol.dispose]());

  test("every type is included except struct_ops and types newer than this kernel", () => {
    const absent: readonly MapTypeName[] = ["unspec", "struct_ops", "insn_array", "rhash"];
    const tested = [...made.keys()];
    expect(MAP_TYPES.filter((type) => !tested.includes(type))).toEqual([...absent]);
  });

  for (const name of [...PLAIN.map(({ type }) => type), "sk_storage", "inode_storage", "task_storage"]) {
    test(name, () => expectSame("map", made.get(name)?.id ?? 0));
  }
  for (const name of ["cgrp_storage", "typed", "array_of_maps", "hash_of_maps", "nameless", "dots"]) {
    test(name, () => expectSame("map", made.get(name)?.id ?? 0));
  }

  test("a frozen map", () => {
    expectSame("map", made.get("frozen")?.id ?? 0);
    expect(ktstrJson("map", "show", "id", String(made.get("frozen")?.id))).toMatchObject({ frozen: 1 });
  });

  test("a prog array with the owner's program type", () => {
    expectSame("map", made.get("owned prog_array")?.id ?? 0);
    expect(ktstrJson("map", "show", "id", String(made.get("owned prog_array")?.id))).toMatchObject({
      owner_prog_type: "socket_filter",
      owner_jited: true,
    });
  });

  test("all of them in one listing, in the order of their ids", () => {
    const ids = [...made.values()].map(({ id }) => id);
    const mine = only(ktstrJson("map", "show"), ids);
    // bpftool reads the maps with the same struct, and since 6.18 the kernel keeps the fields that a map does not have
    // (kernel/bpf/syscall.c, bpf_map_get_info_by_fd), so a btf_id is repeated for the following maps.
    const theirs = only(bpftoolJson("map", "show"), ids).map((map, index) => {
      const { btf_id, ...rest } = map as Record<string, unknown>;
      return Object.hasOwn(mine[index] as object, "btf_id") ? { ...rest, btf_id } : rest;
    });
    expect(mine).toHaveLength(ids.length);
    expect(missing(mine, theirs)).toEqual([]);
    const single = ids.map((id) => ktstrJson("map", "show", "id", String(id)));
    expect(mine).toEqual(single.sort((a, b) => (a as { id: number }).id - (b as { id: number }).id));
  });

  test("`list` is `show`, and `-p` has the same data", () => {
    const ids = [...made.values()].map(({ id }) => id);
    expect(only(ktstrJson("map", "list"), ids)).toEqual(only(ktstrJson("map", "show"), ids));
    expect(only(ktstrJson("map", "show", "-p"), ids)).toEqual(only(ktstrJson("map", "show"), ids));
  });
});
