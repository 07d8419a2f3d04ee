/** What a map holds, for every type: walked by key where it has keys, else in the way that its type allows. */
import type { Fd } from "../ffi.ts";
import { type ContentRecord, type MapContents, type MapInfo, unreadable, type WalkEnd } from "../state.ts";
import { EACCES, EINVAL, EPERM, ESRCH, errnoName } from "../uapi/errno.ts";
import { isArrayMap, isPerCpuMap, MapType } from "../uapi/names.ts";
import { forEachCgroup } from "./cgroups.ts";
import { lookupElement } from "./lookup.ts";
import { mountsOf } from "./mounts.ts";
import type { Sys } from "./sys.ts";
import { openWalk } from "./walk.ts";

const WHOLE: WalkEnd = { complete: true, stopped: "", skipped: new Map() };

/** `cpuCount` is asked only for per-CPU types. Arenas have a reader of their own. */
export function readContents(sys: Sys, fd: Fd, map: MapInfo, cpuCount: () => number): MapContents {
  switch (map.type) {
    case MapType.queue:
    case MapType.stack:
      return peek(sys, fd, map);
    case MapType.ringbuf:
    case MapType.user_ringbuf:
      return readRingBuffer(sys, fd, map);
    case MapType.task_storage:
      return readTaskStorage(sys, fd, map);
    case MapType.cgrp_storage:
      return readCgroupStorage(sys, fd, map);
    case MapType.bloom_filter:
      return cannot("a bloom filter can be asked about one value; it keeps no list of them");
    case MapType.sk_storage:
    case MapType.inode_storage:
      return cannot(
        "the kernel looks storage up by its owner's descriptor; sockets and inodes of others cannot be opened",
      );
    default:
      return {
        kind: "entries",
        cursor: openWalk(sys, fd, map, isPerCpuMap(map.type) ? cpuCount() : 0),
        count: isArrayMap(map.type) ? map.maxEntries : undefined,
      };
  }
}

function cannot(why: string): MapContents {
  return { kind: "unreadable", why: unreadable("unsupported", why).why };
}

/** Queues and stacks show the element that a pop would take (kernel/bpf/queue_stack_maps.c, peek); no more. */
function peek(sys: Sys, fd: Fd, map: MapInfo): MapContents {
  const next = lookupElement(sys, fd, map, new Uint8Array(), () => 0);
  if (!next.ok) {
    if (next.why.reason === "not-present") return { kind: "records", records: [], end: WHOLE };
    return { kind: "unreadable", why: next.why };
  }
  const stopped = "only the element that a pop would take can be seen without taking it";
  return {
    kind: "records",
    records: [{ value: next.value, note: "next" }],
    end: { complete: false, stopped, skipped: new Map() },
  };
}

/** `BPF_RINGBUF_BUSY_BIT`, `BPF_RINGBUF_DISCARD_BIT` and the header in front of a record (uapi/linux/bpf.h). */
const BUSY = 0x8000_0000;
const DISCARDED = 0x4000_0000;
const LENGTH_MASK = 0x3fff_ffff;
const HEADER_BYTES = 8;
/** One mapping is one ArrayBuffer. */
const MAX_MAPPING_BYTES = 2 ** 32;

/**
 * The records between the consumer's and the producer's position, without consuming them: both positions and the
 * data are mapped read-only (kernel/bpf/ringbuf.c, `ringbuf_map_mmap_kern`: page 0 has the consumer's position, page
 * 1 the producer's, the data follows twice so that no record is cut).
 */
function readRingBuffer(sys: Sys, fd: Fd, map: MapInfo): MapContents {
  const page = sys.pageSize();
  const size = map.maxEntries;
  const length = 2 * page + 2 * size;
  if (length > MAX_MAPPING_BYTES) return cannot("a ring buffer of 2 GiB or more does not fit one mapping");
  const mapping = sys.mmap({ fd: fd.number, offset: 0, length });
  if (typeof mapping === "number") {
    const reason = mapping === -EPERM || mapping === -EACCES ? "not-permitted" : "unsupported";
    return { kind: "unreadable", why: unreadable(reason, `mmap of the ring: ${errnoName(-mapping)}`).why };
  }
  using owned = mapping;
  const view = new DataView(owned.buffer);
  const records: ContentRecord[] = [];
  // Positions only grow; what lies between them is at most the ring's size.
  let position = Number(view.getBigUint64(0, true));
  const producer = Number(view.getBigUint64(page, true));
  // The consumer's is written by user space: it may be anything.
  const isSound =
    producer <= Number.MAX_SAFE_INTEGER &&
    position % 8 === 0 &&
    position <= producer &&
    producer - position <= size;
  const start = position;
  let stopped = isSound ? "" : "the positions contradict each other";
  while (stopped === "" && position < producer) {
    const at = 2 * page + (position % size);
    const header = view.getUint32(at, true);
    const bytes = header & LENGTH_MASK;
    if (bytes > size) stopped = "a record is longer than the ring: it was overwritten while it was read";
    else {
      const value = new Uint8Array(owned.buffer, at + HEADER_BYTES, bytes).slice();
      const note = header >>> 0 >= BUSY ? "busy" : (header & DISCARDED) !== 0 ? "discarded" : undefined;
      records.push(note === undefined ? { value } : { value, note });
    }
    position += Math.ceil((bytes + HEADER_BYTES) / 8) * 8;
  }
  if (stopped === "" && Number(view.getBigUint64(page, true)) - start > size) {
    stopped = "the ring went round while it was read: the first records may be later ones";
  }
  return { kind: "records", records, end: { complete: stopped === "", stopped, skipped: new Map() } };
}

/** Task storage is asked process by process: its key is a pidfd (kernel/bpf/bpf_task_storage.c). */
function readTaskStorage(sys: Sys, fd: Fd, map: MapInfo): MapContents {
  const records: ContentRecord[] = [];
  const skipped = new Map<string, number>();
  // Our own process is among them wherever /proc is mounted.
  const processes = sys.readDirectory("/proc").filter((name) => Number.isInteger(Number(name)));
  if (processes.length === 0)
    return cannot("tasks are asked one by one, and /proc, which lists them, is not mounted");
  for (const name of processes) {
    const tgid = Number(name);
    for (const thread of sys.readDirectory(`/proc/${name}/task`)) {
      const pid = Number(thread);
      const opened = sys.openPid(pid, pid !== tgid);
      if (typeof opened === "number") {
        if (opened !== -ESRCH) skip(skipped, threadsWhy(-opened, pid !== tgid));
        continue;
      }
      using task = opened;
      const value = lookupOwner(sys, fd, map, task, skipped);
      if (value === undefined) continue;
      const comm = sys.readFile(`/proc/${name}/task/${thread}/comm`) ?? new Uint8Array();
      records.push({ value, owner: { kind: "task", pid, tgid, comm: trimNewline(comm) } });
    }
  }
  return { kind: "records", records, end: { complete: skipped.size === 0, stopped: "", skipped } };
}

/** A pidfd of a thread that leads no process is EINVAL before 6.9 (kernel/pid.c, pidfd_open: PIDFD_THREAD). */
function threadsWhy(errno: number, isThread: boolean): string {
  if (isThread && errno === EINVAL) return "threads cannot be asked before Linux 6.9";
  return `pidfd_open: ${errnoName(errno)}`;
}

/** Cgroup storage is asked cgroup by cgroup: its key is the descriptor of a cgroup2 directory. */
function readCgroupStorage(sys: Sys, fd: Fd, map: MapInfo): MapContents {
  const mounts = mountsOf(sys, "cgroup2");
  if (mounts === undefined)
    return cannot(
      "cgroups are asked by their directories, and /proc, which tells where these are, is not mounted",
    );
  const [root] = mounts;
  if (root === undefined) return cannot("cgroup2 is not mounted, and cgroups are asked by their directories");
  const records: ContentRecord[] = [];
  const skipped = new Map<string, number>();
  const stopped = forEachCgroup(
    sys,
    root,
    (path, { fd: cgroup, inode }) => {
      const value = lookupOwner(sys, fd, map, cgroup, skipped);
      if (value !== undefined) records.push({ value, owner: { kind: "cgroup", id: inode, path } });
    },
    (errno) => skip(skipped, `open: ${errnoName(errno)}`),
  );
  return {
    kind: "records",
    records,
    end: { complete: stopped === "" && skipped.size === 0, stopped, skipped },
  };
}

/** The value that an owner has in a storage map; undefined: none, or one that is counted as skipped. */
function lookupOwner(
  sys: Sys,
  fd: Fd,
  map: MapInfo,
  owner: Fd,
  skipped: Map<string, number>,
): Uint8Array | undefined {
  const value = lookupElement(sys, fd, map, keyOfFd(owner), () => 0);
  if (value.ok) return value.value;
  if (value.why.reason !== "not-present") skip(skipped, value.why.detail);
  return undefined;
}

function skip(skipped: Map<string, number>, reason: string): void {
  skipped.set(reason, (skipped.get(reason) ?? 0) + 1);
}

function keyOfFd(fd: Fd): Uint8Array {
  const key = new Uint8Array(4);
  new DataView(key.buffer).setUint32(0, fd.number, true);
  return key;
}

function trimNewline(bytes: Uint8Array): Uint8Array {
  return bytes.at(-1) === 0x0a ? bytes.subarray(0, -1) : bytes;
}
