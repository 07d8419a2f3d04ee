/**
 * Walks the elements of a map through bpf(2). `BPF_MAP_LOOKUP_BATCH` returns thousands of elements per call.
 * `BPF_MAP_GET_NEXT_KEY` with `BPF_MAP_LOOKUP_ELEM` returns one and works for every type. Both have the same cursor interface.
 */
import type { Fd, PinnedBytes } from "../ffi.ts";
import type { EntryCursor, MapInfo, WalkEnd } from "../state.ts";
import { BATCH_ATTR, ELEMENT_ATTR } from "../uapi/bpf.ts";
import {
  EFAULT,
  EINTR,
  EINVAL,
  ENOENT,
  ENOSPC,
  ENOTSUPP,
  EOPNOTSUPP,
  errnoName,
  strerror,
} from "../uapi/errno.ts";
import { isArrayMap, isHashMap, isPerCpuHashMap, isPerCpuMap, MapType } from "../uapi/names.ts";
import { Attr } from "./attr.ts";
import { pinned } from "./objects.ts";
import type { Sys } from "./sys.ts";

/** Layout of a value in the buffers that the kernel fills. */
export interface ValueShape {
  readonly cpuCount: number;
  /** Distance between the values of two CPUs in bytes; 0 if there is one value. */
  readonly stride: number;
  /** Size of one look-up in bytes. */
  readonly total: number;
}

/**
 * Returns the shape of a value: `possible CPUs x round_up(value_size, 8)` for per-CPU types (kernel/bpf/syscall.c,
 * `bpf_map_value_size`), else one value of `value_size` bytes in a buffer of at least 4 bytes.
 */
export function valueShape(map: MapInfo, cpuCount: number): ValueShape {
  if (isPerCpuMap(map.type)) {
    const stride = roundUp8(map.valueSize);
    return { cpuCount, stride, total: stride * cpuCount };
  }
  return { cpuCount: 0, stride: 0, total: Math.max(map.valueSize, 4) };
}

const roundUp8 = (size: number): number => Math.ceil(size / 8) * 8;

/** Types whose batch walk visits each bucket or index once and returns no holes. */
function hasBatch(type: number): boolean {
  return isHashMap(type) || isPerCpuHashMap(type) || isArrayMap(type);
}

/** Opens a walk over all keys. `map` must be of a type that has keys. */
export function openWalk(sys: Sys, fd: Fd, map: MapInfo, cpuCount: number): EntryCursor {
  const shape = valueShape(map, cpuCount);
  if (hasBatch(map.type)) return new BatchCursor(sys, fd, map, shape);
  return new KeyCursor(sys, fd, map, shape);
}

/** Target size of a batch: large enough to amortize the call, small enough for the caches. */
const BATCH_BYTES = 512 * 1024;
const BATCH_MIN = 16;
const BATCH_MAX = 16_384;

/** Limit on the size of one bucket's elements. */
const BATCH_LIMIT_BYTES = 1 << 30;

class BatchCursor implements EntryCursor {
  readonly keySize: number;
  readonly valueSize: number;
  readonly cpuCount: number;
  readonly valueStride: number;
  keyBytes: PinnedBytes = pinned(0);
  keyOffset = 0;
  valueBytes: PinnedBytes = pinned(0);
  valueOffset = 0;
  valueMissing = "";

  readonly #sys: Sys;
  readonly #fd: Fd;
  readonly #map: MapInfo;
  readonly #shape: ValueShape;
  readonly #attr: Attr<keyof typeof BATCH_ATTR.fields>;
  // in_batch and out_batch are swapped after each call. They are large enough for any key, which the generic walk
  // stores there for arrays (kernel/bpf/syscall.c, generic_map_lookup_batch).
  #positions: [PinnedBytes, PinnedBytes];
  #capacity = 0;
  #count = 0;
  #index = -1;
  #visited = 0;
  #last = false;
  #stopped = "";
  /** The cursor that does the whole walk if the kernel has no batch look-up for the map. */
  #fallback: KeyCursor | undefined;

  constructor(sys: Sys, fd: Fd, map: MapInfo, shape: ValueShape) {
    this.#sys = sys;
    this.#fd = fd;
    this.#map = map;
    this.#shape = shape;
    this.keySize = map.keySize;
    this.valueSize = map.valueSize;
    this.cpuCount = shape.cpuCount;
    this.valueStride = shape.stride;
    this.#positions = [pinned(map.keySize), pinned(map.keySize)];
    this.#attr = new Attr(BATCH_ATTR, { map_fd: fd.number });
    const fitting = Math.floor(BATCH_BYTES / (map.keySize + shape.total));
    this.#allocate(Math.min(Math.max(fitting, BATCH_MIN), BATCH_MAX, Math.max(map.maxEntries, 1)));
  }

  get end(): WalkEnd {
    if (this.#fallback !== undefined) return this.#fallback.end;
    return { complete: this.#stopped === "", stopped: this.#stopped, skipped: new Map() };
  }

  next(): boolean {
    if (this.#fallback !== undefined) return this.#nextOfFallback(this.#fallback);
    this.#index++;
    while (this.#index >= this.#count) {
      if (this.#last || !this.#fill()) return this.#fallback === undefined ? false : this.next();
    }
    this.keyOffset = this.#index * this.keySize;
    this.valueOffset = this.#index * this.#elementStride();
    return true;
  }

  [Symbol.dispose](): void {
    this.#last = true;
    this.#count = 0;
    this.#fallback?.[Symbol.dispose]();
  }

  /** Values that are not per-CPU have a stride of `value_size`, not rounded (kernel/bpf/hashtab.c, __htab_map_lookup_and_delete_batch). */
  #elementStride(): number {
    return this.cpuCount > 0 ? this.#shape.total : this.valueSize;
  }

  #allocate(capacity: number): void {
    this.#capacity = capacity;
    this.keyBytes = pinned(capacity * this.keySize);
    this.valueBytes = pinned(capacity * this.#shape.total);
    this.#attr.point("keys", this.keyBytes).point("values", this.valueBytes);
  }

  /** Reads one batch. Returns false at the end, on an error, or if `#fallback` was set. */
  #fill(): boolean {
    // ENOSPC: a bucket is larger than the buffer. The buffer is doubled up to a limit.
    for (;;) {
      const [from, to] = this.#positions;
      this.#attr
        .set("map_fd", this.#fd.number) // throws if it is closed: the number may belong to another map by then
        .point("in_batch", this.#visited === 0 && this.#count === 0 ? undefined : from)
        .point("out_batch", to)
        .set("count", this.#capacity);
      const result = this.#sys.bpf("BPF_MAP_LOOKUP_BATCH", this.#attr);
      if (result === -ENOSPC && this.#grow()) continue;
      if (result < 0 && result !== -ENOENT) return this.#fail(-result);
      this.#last = result === -ENOENT;
      this.#positions = [to, from];
      this.#count = Math.min(this.#attr.get("count"), this.#capacity);
      this.#index = 0;
      this.#visited += this.#count;
      if (!this.#last && this.#visited > 2 * this.#map.maxEntries) {
        this.#stopped = `stopped after ${this.#visited} elements of at most ${this.#map.maxEntries}: the map changes faster than it can be read`;
        this.#last = true;
      }
      // An empty batch that is not the last would repeat forever.
      if (this.#count === 0 && !this.#last) return this.#fail(EFAULT);
      return this.#count > 0;
    }
  }

  #grow(): boolean {
    if (this.#capacity * 2 * (this.keySize + this.#shape.total) > BATCH_LIMIT_BYTES) return false;
    this.#allocate(this.#capacity * 2);
    return true;
  }

  #fail(errno: number): boolean {
    this.#last = true;
    this.#count = 0;
    const noBatch = errno === ENOTSUPP || errno === EOPNOTSUPP || errno === EINVAL;
    if (this.#visited === 0 && noBatch) {
      // Hash tables support it since 5.6, per-CPU arrays since 5.13.
      this.#fallback = new KeyCursor(this.#sys, this.#fd, this.#map, this.#shape);
    } else {
      const advice =
        errno === EINTR ? "elements were deleted faster than they could be read" : strerror(errno);
      this.#stopped = `BPF_MAP_LOOKUP_BATCH: ${errnoName(errno)}: ${advice}`;
    }
    return false;
  }

  #nextOfFallback(cursor: KeyCursor): boolean {
    const more = cursor.next();
    this.keyBytes = cursor.keyBytes;
    this.keyOffset = cursor.keyOffset;
    this.valueBytes = cursor.valueBytes;
    this.valueMissing = cursor.valueMissing;
    this.valueOffset = 0;
    return more;
  }
}

/** Types whose keys can be deleted: a key that is not found was deleted during the walk. In other types every key exists. */
const HAVE_DELETABLE_KEYS: readonly number[] = [
  MapType.hash,
  MapType.lru_hash,
  MapType.percpu_hash,
  MapType.lru_percpu_hash,
  MapType.lpm_trie,
  MapType.devmap_hash,
  MapType.sockhash,
  MapType.rhash,
];

/** Types whose holes are not reported, such as the empty slots of a program array. */
function holesAreSilent(type: number): boolean {
  return type === MapType.prog_array || type === MapType.array_of_maps || type === MapType.hash_of_maps;
}

const MAX_UNBOUNDED_KEYS = 1 << 24;

class KeyCursor implements EntryCursor {
  readonly keySize: number;
  readonly valueSize: number;
  readonly cpuCount: number;
  readonly valueStride: number;
  keyBytes: PinnedBytes;
  readonly keyOffset = 0;
  readonly valueBytes: PinnedBytes;
  readonly valueOffset = 0;
  valueMissing = "";

  readonly #sys: Sys;
  readonly #fd: Fd;
  readonly #map: MapInfo;
  /** Two keys and their calls, set up once, so that a step allocates nothing. */
  readonly #steps: readonly [Step, Step];
  #turn: 0 | 1 = 0;
  #taken = 0;
  #stopped = "";
  #ended = false;
  readonly #skipped = new Map<string, number>();

  constructor(sys: Sys, fd: Fd, map: MapInfo, shape: ValueShape) {
    this.#sys = sys;
    this.#fd = fd;
    this.#map = map;
    this.keySize = map.keySize;
    this.valueSize = map.valueSize;
    this.cpuCount = shape.cpuCount;
    this.valueStride = shape.stride;
    const keys = [pinned(map.keySize), pinned(map.keySize)] as const;
    this.valueBytes = pinned(shape.total);
    this.keyBytes = keys[0];
    const step = (from: PinnedBytes, to: PinnedBytes): Step => ({
      key: to,
      next: new Attr(ELEMENT_ATTR, { map_fd: fd.number }).point("key", from).point("value", to),
      lookup: new Attr(ELEMENT_ATTR, { map_fd: fd.number }).point("key", to).point("value", this.valueBytes),
    });
    this.#steps = [step(keys[1], keys[0]), step(keys[0], keys[1])];
    this.#steps[0].next.point("key", undefined); // NULL returns the first key
    this.#firstKey = keys[1];
  }

  readonly #firstKey: PinnedBytes;

  get end(): WalkEnd {
    return { complete: this.#stopped === "", stopped: this.#stopped, skipped: this.#skipped };
  }

  next(): boolean {
    // Cgroup storage has no max_entries; the number of cgroups bounds it.
    const bound = this.#map.maxEntries === 0 ? MAX_UNBOUNDED_KEYS : 2 * this.#map.maxEntries;
    while (!this.#ended) {
      if (this.#taken > bound) {
        return this.#stop(
          `stopped after ${this.#taken} keys of at most ${this.#map.maxEntries}: the map changes faster than it can be read`,
        );
      }
      const step = this.#steps[this.#turn];
      // Throws if it is closed: the number may belong to another map by then, with longer values.
      step.next.set("map_fd", this.#fd.number);
      const result = this.#sys.bpf("BPF_MAP_GET_NEXT_KEY", step.next);
      if (result === -ENOENT) return this.#stop("");
      if (result < 0) return this.#stop(`BPF_MAP_GET_NEXT_KEY: ${errnoName(-result)}: ${strerror(-result)}`);
      if (this.#taken === 0) step.next.point("key", this.#firstKey);
      this.#taken++;
      this.#turn = this.#turn === 0 ? 1 : 0;
      this.keyBytes = step.key;
      if (this.#readValue(step)) return true;
    }
    return false;
  }

  [Symbol.dispose](): void {
    this.#ended = true;
  }

  #readValue(step: Step): boolean {
    const result = this.#sys.bpf("BPF_MAP_LOOKUP_ELEM", step.lookup);
    this.valueMissing = result < 0 ? strerror(-result) : "";
    if (result >= 0) return true;
    if (result === -ENOENT) {
      if (holesAreSilent(this.#map.type)) return false;
      if (HAVE_DELETABLE_KEYS.includes(this.#map.type)) {
        this.#skipped.set("lost-race", (this.#skipped.get("lost-race") ?? 0) + 1);
        return false;
      }
    }
    return true;
  }

  #stop(why: string): false {
    this.#ended = true;
    this.#stopped = why;
    return false;
  }
}

interface Step {
  readonly key: PinnedBytes;
  readonly next: Attr<keyof typeof ELEMENT_ATTR.fields>;
  readonly lookup: Attr<keyof typeof ELEMENT_ATTR.fields>;
}
