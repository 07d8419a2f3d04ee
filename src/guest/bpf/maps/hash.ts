/**
 * Walks `struct bpf_htab`: buckets with `hlist_nulls` chains of `struct htab_elem`, for hash, LRU hash, their per-CPU variants,
 * and hash of maps. A chain ends with a nulls marker, an odd word with the bucket's number.
 */
import { at, optional, place, ptr, struct, u32 } from "../../../btf/struct.ts";
import type { EntryCursor } from "../../../state.ts";
import { isPerCpuMap, MapType } from "../../../uapi/names.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { isNull } from "../../memory/pointer.ts";
import { ChainCursor } from "./chain-cursor.ts";
import type { Elements } from "./chain-layout.ts";
import { perCpuPointerAt } from "./hash-percpu.ts";
import { mapIdReader } from "./object-id.ts";
import { PerCpuValue } from "./percpu-value.ts";
import { readSpecialFields } from "./special-fields.ts";
import { MaskingReader, ObjectIdReader, PerCpuReader, type ValueReader } from "./value-reader.ts";
import { CorruptMap, type GuestMap, roundUp8 } from "./walk.ts";

const HTAB = struct("bpf_htab", {
  buckets: ptr,
  elems: optional(ptr, "for preallocated tables"),
  n_buckets: u32,
});
const BUCKET = struct("bucket", { first: at(ptr, "head.first") });
const HTAB_ELEM = struct("htab_elem", { node: at(place, "hash_node"), hash: u32, key: place });

/** Walks the elements by bucket and chain. Throws `GuestFault` and `CorruptMap`. */
export function openHash(kernel: GuestKernel, map: GuestMap): EntryCursor {
  const { memory, btf } = kernel;
  const { id, type, keySize } = map.info;
  const htab = HTAB.resolve(btf);
  const bucket = BUCKET.resolve(btf);
  const element = HTAB_ELEM.resolve(btf);
  const count = memory.u32(map.at.hi, map.at.lo, htab.n_buckets, `map ${id}.n_buckets`);
  if (count === 0 || (count & (count - 1)) !== 0)
    throw new CorruptMap(`map ${id}: it has ${count} buckets, which is not a power of two`);
  const table = {
    at: memory.pointer(map.at.hi, map.at.lo, htab.buckets, `map ${id}.buckets`),
    count,
    bytesEach: bucket.sizeof,
    first: bucket.first,
  };
  const layout = { node: element.node, hash: element.hash, key: element.key };
  const isPerCpu = isPerCpuMap(type);
  const value = element.key + (isPerCpu ? perCpuPointerAt(kernel, map, table, layout) : roundUp8(keySize));
  const reader = valueReader(kernel, map);
  const elements =
    reader === undefined && htab.elems !== undefined
      ? preallocated(kernel, map, htab.elems, value + roundUp8(map.info.valueSize))
      : undefined;
  const cpuCount = isPerCpu ? kernel.cpus.areas.length : 0;
  return new ChainCursor(kernel, map, [table], { ...layout, value, reader, cpuCount, elements });
}

/**
 * `bpf_htab.elems`: `max_entries` elements of `bytesEach`, and one more for each CPU (`prealloc_init`). Undefined if elements
 * are not preallocated, or if they are in a linear run.
 */
function preallocated(
  { memory, cpus }: GuestKernel,
  { info, at: { hi, lo } }: GuestMap,
  elems: number,
  bytesEach: number,
): Elements | undefined {
  const at = memory.pointer(hi, lo, elems, `map ${info.id}.elems`);
  if (isNull(at) || memory.runAt(at.hi, at.lo) !== undefined) return undefined;
  const length = Math.min((info.maxEntries + cpus.areas.length) * bytesEach, memory.physical.sizeBytes);
  return { ...at, length };
}

/** Returns the reader for values that are not stored after the key. */
function valueReader(kernel: GuestKernel, map: GuestMap): ValueReader | undefined {
  if (isPerCpuMap(map.info.type)) return new PerCpuReader(new PerCpuValue(kernel, map));
  if (map.info.type === MapType.hash_of_maps) return new ObjectIdReader(mapIdReader(kernel));
  const fields = readSpecialFields(kernel, map);
  return fields.length === 0 ? undefined : new MaskingReader(map.info.valueSize, fields);
}
