/** Reads the contents of a map of any type. */
import {
  type CpuValue,
  type EntryCursor,
  found,
  type MapContents,
  type Read,
  type Unreadable,
  unreadable,
} from "../../../state.ts";
import { isHashMap, isPerCpuHashMap, MapType } from "../../../uapi/names.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { arenaPages } from "./arena.ts";
import { arrayEntries, percpuArrayEntries, readArray, readArrayPart, readPercpuArray } from "./array.ts";
import { describeBloom } from "./bloom.ts";
import { cgroupStorageEntries } from "./cgroup-storage.ts";
import { devmapHashEntries, rhashEntries, sockhashEntries } from "./chained.ts";
import { elementCount } from "./element-count.ts";
import { openHash } from "./hash.ts";
import { insnArrayEntries } from "./insn-array.ts";
import { lookupPrefix, lpmEntries } from "./lpm.ts";
import { pointerArrayEntries } from "./pointer-array.ts";
import { queueRecords } from "./queue.ts";
import { ringbufRecords } from "./ringbuf.ts";
import { stackTraceEntries } from "./stack-trace.ts";
import { storageRecords } from "./storage.ts";
import { readStructOps, structOpsEntries } from "./struct-ops.ts";
import { attempt, type GuestMap, keyIndex, type Records } from "./walk.ts";
import { withheldEntries } from "./withheld.ts";

export { arenaPages } from "./arena.ts";
export { readArray, readPercpuArray as percpuArray } from "./array.ts";

type Opener<T> = (kernel: GuestKernel, map: GuestMap) => T;

/** Map types with keys. */
const ENTRIES: ReadonlyMap<number, Opener<EntryCursor>> = new Map<number, Opener<EntryCursor>>([
  [MapType.hash, openHash],
  [MapType.array, arrayEntries],
  [MapType.prog_array, pointerArrayEntries],
  [MapType.perf_event_array, withheldEntries],
  [MapType.percpu_hash, openHash],
  [MapType.percpu_array, percpuArrayEntries],
  [MapType.stack_trace, stackTraceEntries],
  [MapType.cgroup_array, withheldEntries],
  [MapType.lru_hash, openHash],
  [MapType.lru_percpu_hash, openHash],
  [MapType.lpm_trie, lpmEntries],
  [MapType.array_of_maps, pointerArrayEntries],
  [MapType.hash_of_maps, openHash],
  [MapType.devmap, pointerArrayEntries],
  [MapType.sockmap, pointerArrayEntries],
  [MapType.cpumap, pointerArrayEntries],
  [MapType.xskmap, withheldEntries],
  [MapType.sockhash, sockhashEntries],
  [MapType.cgroup_storage, cgroupStorageEntries],
  [MapType.reuseport_sockarray, pointerArrayEntries],
  [MapType.percpu_cgroup_storage, cgroupStorageEntries],
  [MapType.devmap_hash, devmapHashEntries],
  [MapType.struct_ops, structOpsEntries],
  [MapType.insn_array, insnArrayEntries],
  [MapType.rhash, rhashEntries],
]);

/** Map types whose values have no keys. */
const RECORDS: ReadonlyMap<number, Opener<Records>> = new Map<number, Opener<Records>>([
  [MapType.queue, queueRecords],
  [MapType.stack, queueRecords],
  [MapType.sk_storage, storageRecords],
  [MapType.ringbuf, ringbufRecords],
  [MapType.inode_storage, storageRecords],
  [MapType.task_storage, storageRecords],
  [MapType.user_ringbuf, ringbufRecords],
  [MapType.cgrp_storage, storageRecords],
]);

/** Reads the whole contents of a map, for a dump. */
export function readContents(kernel: GuestKernel, map: GuestMap): MapContents {
  const { type } = map.info;
  if (type === MapType.arena) {
    const pages = arenaPages(kernel, map);
    return pages.ok ? { kind: "arena", arena: pages.value } : cannot(pages.why);
  }
  const records = RECORDS.get(type);
  if (records !== undefined) {
    const read = attempt(() => found(records(kernel, map)));
    return read.ok ? { kind: "records", ...read.value } : cannot(read.why);
  }
  if (type === MapType.bloom_filter) {
    const why = attempt(() => found(describeBloom(kernel, map)));
    return cannot(why.ok ? why.value : why.why);
  }
  const cursor = openEntries(kernel, map);
  if (!cursor.ok) return cannot(cursor.why);
  return { kind: "entries", cursor: cursor.value, count: elementCount(kernel, map) };
}

function cannot(why: Unreadable): MapContents {
  return { kind: "unreadable", why };
}

function openEntries(kernel: GuestKernel, map: GuestMap): Read<EntryCursor> {
  const open = ENTRIES.get(map.info.type);
  if (open === undefined)
    return unreadable("unsupported", `ktstr does not read keys of maps of type ${map.info.type}`);
  return attempt(() => found(open(kernel, map)));
}

/** Reads `length` bytes at `offset` of a single value: an array's first, or a struct_ops map's. */
export function readValue(
  kernel: GuestKernel,
  map: GuestMap,
  offset: number,
  length: number,
): Read<Uint8Array> {
  const { type, valueSize } = map.info;
  if (type !== MapType.array && type !== MapType.struct_ops)
    return unreadable("wrong-type", "only arrays and struct_ops maps have one value");
  if (!(offset >= 0 && length >= 0 && offset + length <= valueSize))
    return unreadable(
      "out-of-range",
      `bytes ${offset} to ${offset + length} are outside a value of ${valueSize} bytes`,
    );
  if (type === MapType.array) return readArrayPart(kernel, map, offset, length);
  const value = readStructOps(kernel, map);
  return value.ok ? found(value.value.subarray(offset, offset + length)) : value;
}

/** Walks the elements of a hash or LRU hash. */
export function hashEntries(kernel: GuestKernel, map: GuestMap): Read<EntryCursor> {
  return isHashMap(map.info.type) ? openEntries(kernel, map) : unreadable("wrong-type", "not a hash");
}

/** Walks the elements of a per-CPU hash or per-CPU LRU hash, with each CPU's copy. */
export function percpuHashEntries(kernel: GuestKernel, map: GuestMap): Read<EntryCursor> {
  return isPerCpuHashMap(map.info.type)
    ? openEntries(kernel, map)
    : unreadable("wrong-type", "not a per-CPU hash");
}

/**
 * Looks up one key. Hash tables are searched by a walk, because the hash functions differ between releases; a walk of a million
 * elements takes a fraction of a second.
 */
export function lookup(
  kernel: GuestKernel,
  map: GuestMap,
  key: Uint8Array,
): Read<Uint8Array | readonly CpuValue[]> {
  const { type, keySize } = map.info;
  if (key.length !== keySize)
    return unreadable("out-of-range", `the key has ${key.length} bytes; keys of this map have ${keySize}`);
  if (type === MapType.array) return readArray(kernel, map, keyIndex(key));
  if (type === MapType.percpu_array) return readPercpuArray(kernel, map, keyIndex(key));
  const entries = openEntries(kernel, map);
  if (!entries.ok) return entries;
  using cursor = entries.value;
  return type === MapType.lpm_trie ? lookupPrefix(cursor, key) : findKey(kernel, cursor, key);
}

function findKey(
  kernel: GuestKernel,
  cursor: EntryCursor,
  key: Uint8Array,
): Read<Uint8Array | readonly CpuValue[]> {
  while (cursor.next()) {
    if (!isKey(cursor, key)) continue;
    if (cursor.valueMissing !== "") return unreadable("not-present", cursor.valueMissing);
    const copy = (at: number): Uint8Array => cursor.valueBytes.slice(at, at + cursor.valueSize);
    if (cursor.cpuCount === 0) return found(copy(cursor.valueOffset));
    return found(
      kernel.cpus.areas.map(({ cpu }, slot) => ({
        cpu,
        value: copy(cursor.valueOffset + slot * cursor.valueStride),
      })),
    );
  }
  const { stopped } = cursor.end;
  return unreadable("not-present", stopped === "" ? "the map has no such key" : `no such key: ${stopped}`);
}

function isKey({ keyBytes, keyOffset }: EntryCursor, key: Uint8Array): boolean {
  for (let n = 0; n < key.length; n++) if (keyBytes[keyOffset + n] !== key[n]) return false;
  return true;
}
