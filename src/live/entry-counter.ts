/** Counts the elements of small hash tables of the running kernel. bpf(2) gives no count, so all elements are read in batches. */
import type { Fd } from "../ffi.ts";
import type { MapInfo } from "../state.ts";
import { BATCH_ATTR } from "../uapi/bpf.ts";
import { ENOENT } from "../uapi/errno.ts";
import { isPerCpuHashMap } from "../uapi/names.ts";
import { Attr } from "./attr.ts";
import { pinned } from "./objects.ts";
import type { Sys } from "./sys.ts";
import { valueShape } from "./walk.ts";

/** Larger tables are not counted: counting takes as long as reading them. */
const MAX_ENTRIES = 4096;
const MAX_BYTES = 2 ** 20;
/** The kernel's cursor is a u32 bucket number (kernel/bpf/hashtab.c, `__htab_map_lookup_and_delete_batch`). */
const CURSOR_BYTES = 8;
const MAX_BATCHES = 64;

/** Counts tables one at a time with one set of buffers. */
export class EntryCounter {
  readonly #sys: Sys;
  readonly #cpuCount: () => number | undefined;
  readonly #attr = new Attr(BATCH_ATTR);
  readonly #cursor = pinned(CURSOR_BYTES);
  #keys = pinned(0);
  #values = pinned(0);

  /** `cpuCount` is called only for per-CPU maps; if it returns undefined, they are not counted. */
  constructor(sys: Sys, cpuCount: () => number | undefined) {
    this.#sys = sys;
    this.#cpuCount = cpuCount;
  }

  /** Returns true if the hash table is small enough to be counted and the size of its values is known. */
  canCount(map: MapInfo): boolean {
    const valueBytes = this.#valueBytes(map);
    if (valueBytes === undefined || map.maxEntries > MAX_ENTRIES) return false;
    return map.maxEntries * (map.keySize + valueBytes) <= MAX_BYTES;
  }

  /** Returns undefined if the kernel has no batches for the map, or the map changed too fast. */
  count(map: MapInfo, fd: Fd): number | undefined {
    const room = map.maxEntries;
    const valueBytes = this.#valueBytes(map);
    if (valueBytes === undefined) return undefined;
    this.#keys = atLeast(this.#keys, room * map.keySize);
    this.#values = atLeast(this.#values, room * valueBytes);
    const attr = this.#attr
      .set("map_fd", fd.number)
      .point("in_batch", undefined)
      .point("out_batch", this.#cursor)
      .point("keys", this.#keys)
      .point("values", this.#values);
    let sum = 0;
    for (let batch = 0; batch < MAX_BATCHES; batch++) {
      const result = this.#sys.bpf("BPF_MAP_LOOKUP_BATCH", attr.set("count", room));
      if (result !== 0 && result !== -ENOENT) return undefined;
      sum += attr.get("count");
      if (result === -ENOENT) return sum;
      attr.point("in_batch", this.#cursor);
    }
    return undefined;
  }

  #valueBytes(map: MapInfo): number | undefined {
    const cpuCount = isPerCpuHashMap(map.type) ? this.#cpuCount() : 0;
    return cpuCount === undefined ? undefined : valueShape(map, cpuCount).total;
  }
}

function atLeast(bytes: ReturnType<typeof pinned>, length: number): ReturnType<typeof pinned> {
  return bytes.length >= length ? bytes : pinned(length);
}
