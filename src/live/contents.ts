/** Reads the contents of any map type but arenas: by key if the type has keys, else with the type's own interface. */
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

/** `cpuCount` is called only for per-CPU types. */
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
      return cannot("a bloom filter does not store its values; it can only be tested for one value");
    case MapType.sk_storage:
    case MapType.inode_storage:
      return cannot(
        "the kernel looks up local storage by the owner's descriptor; sockets and inodes of other processes cannot be opened",
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

/** Reads the element at the head of a queue or stack (kernel/bpf/queue_stack_maps.c, peek). */
function peek(sys: Sys, fd: Fd, map: MapInfo): MapContents {
  const next = lookupElement(sys, fd, map, new Uint8Array(), () => 0);
  if (!next.ok) {
    if (next.why.reason === "not-present") return { kind: "records", records: [], end: WHOLE };
    return { kind: "unreadable", why: next.why };
  }
  const stopped = "only the element that a pop would return can be read without removing it";
  return {
    kind: "records",
    records: [{ value: next.value, note: "next" }],
    end: { complete: false, stopped, skipped: new Map() },
  };
}

/** `BPF_RINGBUF_BUSY_BIT`, `BPF_RINGBUF_DISCARD_BIT` and the record header (uapi/linux/bpf.h). */
const BUSY = 0x8000_0000;
const DISCARDED = 0x4000_0000;
const LENGTH_MASK = 0x3fff_ffff;
const HEADER_BYTES = 8;
/** Size limit of one mapping, which is one ArrayBuffer. */
const MAX_MAPPING_BYTES = 2 ** 32;

/**
 * Reads the records between the consumer and the producer position without consuming them. Positions and data are mapped
 * read-only (kernel/bpf/ringbuf.c, `ringbuf_map_mmap_kern`): page 0 holds the consumer position, page 1 the producer
 * position. The data follows, mapped twice in a row so that every record is contiguous.
 */
function readRingBuffer(sys: Sys, fd: Fd, map: MapInfo): MapContents {
  const page = sys.pageSize();
  const size = map.maxEntries;
  const length = 2 * page + 2 * size;
  if (length > MAX_MAPPING_BYTES) return cannot("a ring buffer of 2 GiB or more does not fit in one mapping");
  const mapping = sys.mmap({ fd: fd.number, offset: 0, length });
  if (typeof mapping === "number") {
    const reason = mapping === -EPERM || mapping === -EACCES ? "not-permitted" : "unsupported";
    return { kind: "unreadable", why: unreadable(reason, `mmap of the ring: ${errnoName(-mapping)}`).why };
  }
  using owned = mapping;
  const view = new DataView(owned.buffer);
  const records: ContentRecord[] = [];
  // Positions only grow; their distance is at most the size of the ring.
  let position = Number(view.getBigUint64(0, true));
  const producer = Number(view.getBigUint64(page, true));
  // User space writes the consumer position, so any value is possible.
  const isSound =
    producer <= Number.MAX_SAFE_INTEGER &&
    position % 8 === 0 &&
    position <= producer &&
    producer - position <= size;
  const start = position;
  let stopped = isSound ? "" : "the consumer and producer positions are inconsistent";
  while (stopped === "" && position < producer) {
    const at = 2 * page + (position % size);
    const header = view.getUint32(at, true);
    const bytes = header & LENGTH_MASK;
    if (bytes > size) stopped = "a record is longer than the ring: it was overwritten during the read";
    else {
      const value = new Uint8Array(owned.buffer, at + HEADER_BYTES, bytes).slice();
      const note = header >>> 0 >= BUSY ? "busy" : (header & DISCARDED) !== 0 ? "discarded" : undefined;
      records.push(note === undefined ? { value } : { value, note });
    }
    position += Math.ceil((bytes + HEADER_BYTES) / 8) * 8;
  }
  if (stopped === "" && Number(view.getBigUint64(page, true)) - start > size) {
    stopped = "the ring wrapped around during the read: the first records may have been overwritten";
  }
  return { kind: "records", records, end: { complete: stopped === "", stopped, skipped: new Map() } };
}

/** Task storage is looked up for each task: the key is a pidfd (kernel/bpf/bpf_task_storage.c). */
function readTaskStorage(sys: Sys, fd: Fd, map: MapInfo): MapContents {
  const records: ContentRecord[] = [];
  const skipped = new Map<string, number>();
  // If /proc is mounted, it lists at least this process.
  const processes = sys.readDirectory("/proc").filter((name) => Number.isInteger(Number(name)));
  if (processes.length === 0)
    return cannot("task storage is looked up for each task, and /proc, which lists tasks, is not mounted");
  for (const name of processes) {
    const tgid = Number(name);
    for (const thread of sys.readDirectory(`/proc/${name}/task`)) {
      const pid = Number(thread);
      const opened = sys.openPid(pid, pid !== tgid);
      if (typeof opened === "number") {
        if (opened !== -ESRCH) skip(skipped, pidfdProblem(-opened, pid !== tgid));
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

/** Before 6.9 pidfd_open(2) returns EINVAL for a thread that is not a group leader (kernel/pid.c, PIDFD_THREAD). */
function pidfdProblem(errno: number, isThread: boolean): string {
  if (isThread && errno === EINVAL) return "threads cannot be looked up before Linux 6.9";
  return `pidfd_open: ${errnoName(errno)}`;
}

/** Cgroup storage is looked up for each cgroup: the key is the descriptor of a cgroup2 directory. */
function readCgroupStorage(sys: Sys, fd: Fd, map: MapInfo): MapContents {
  const mounts = mountsOf(sys, "cgroup2");
  if (mounts === undefined)
    return cannot(
      "cgroup storage is looked up by cgroup directory, and /proc, which lists the mounts, is not mounted",
    );
  const [root] = mounts;
  if (root === undefined)
    return cannot("cgroup storage is looked up by cgroup directory, and cgroup2 is not mounted");
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

/** Returns the owner's value in a storage map; undefined if it has none or the look-up failed, which `skipped` counts. */
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
