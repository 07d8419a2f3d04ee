/** What a map of the guest holds, whatever its kind. */
import {
  type EntryCursor,
  found,
  type MapContents,
  type Read,
  type Unreadable,
  unreadable,
} from "../../state.ts";
import { MapType } from "../../uapi/names.ts";
import type { GuestKernel } from "../kernel.ts";
import { arenaPages } from "./arena.ts";
import { arrayEntries, percpuArrayEntries } from "./array.ts";
import { describeBloom } from "./bloom.ts";
import { cgroupStorageEntries } from "./cgroup-storage.ts";
import { devmapHashEntries, rhashEntries, sockhashEntries } from "./chained.ts";
import { hashEntries } from "./hash.ts";
import { insnArrayEntries } from "./insn-array.ts";
import { lpmEntries } from "./lpm.ts";
import { pointerArrayEntries, unreadableEntries } from "./pointer-array.ts";
import { queueRecords } from "./queue.ts";
import { ringbufRecords } from "./ringbuf.ts";
import { stackTraceEntries } from "./stack-trace.ts";
import { storageRecords } from "./storage.ts";
import { structOpsEntries } from "./struct-ops.ts";
import { attempt, type GuestMap, type Records } from "./walk.ts";

type Opener<T> = (kernel: GuestKernel, map: GuestMap) => T;

/** Kinds with keys. */
const ENTRIES: ReadonlyMap<number, Opener<EntryCursor>> = new Map<number, Opener<EntryCursor>>([
  [MapType.hash, hashEntries],
  [MapType.array, arrayEntries],
  [MapType.prog_array, pointerArrayEntries],
  [MapType.perf_event_array, unreadableEntries],
  [MapType.percpu_hash, hashEntries],
  [MapType.percpu_array, percpuArrayEntries],
  [MapType.stack_trace, stackTraceEntries],
  [MapType.cgroup_array, unreadableEntries],
  [MapType.lru_hash, hashEntries],
  [MapType.lru_percpu_hash, hashEntries],
  [MapType.lpm_trie, lpmEntries],
  [MapType.array_of_maps, pointerArrayEntries],
  [MapType.hash_of_maps, hashEntries],
  [MapType.devmap, pointerArrayEntries],
  [MapType.sockmap, pointerArrayEntries],
  [MapType.cpumap, pointerArrayEntries],
  [MapType.xskmap, unreadableEntries],
  [MapType.sockhash, sockhashEntries],
  [MapType.cgroup_storage, cgroupStorageEntries],
  [MapType.reuseport_sockarray, pointerArrayEntries],
  [MapType.percpu_cgroup_storage, cgroupStorageEntries],
  [MapType.devmap_hash, devmapHashEntries],
  [MapType.struct_ops, structOpsEntries],
  [MapType.insn_array, insnArrayEntries],
  [MapType.rhash, rhashEntries],
]);

/** Kinds whose values have no keys. */
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

/** Everything: what a dump prints. */
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
  return cursor.ok ? { kind: "entries", cursor: cursor.value } : cannot(cursor.why);
}

function cannot(why: Unreadable): MapContents {
  return { kind: "unreadable", why };
}

function openEntries(kernel: GuestKernel, map: GuestMap): Read<EntryCursor> {
  const open = ENTRIES.get(map.info.type);
  if (open === undefined)
    return unreadable("unsupported", `maps of type ${map.info.type} have no keys to walk by`);
  return attempt(() => found(open(kernel, map)));
}
