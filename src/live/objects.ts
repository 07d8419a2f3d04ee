/** Walks ids of maps, programs, links and BTF objects, and opens descriptors by id. */
import { SyscallError } from "../errors.ts";
import { Fd, type PinnedBytes } from "../ffi.ts";
import { log } from "../log.ts";
import { type BpfCommand, ID_ATTR, INFO_ATTR } from "../uapi/bpf.ts";
import { ENOENT } from "../uapi/errno.ts";
import type { Layout } from "../uapi/layout.ts";
import { Attr } from "./attr.ts";
import { bpfError, bpfOrThrow, isTableFull, type Sys } from "./sys.ts";

/** A kind of object that has ids. */
export interface ObjectKind {
  readonly noun: string;
  readonly nextId: BpfCommand;
  readonly fdById: BpfCommand;
}

export const MAPS: ObjectKind = {
  noun: "map",
  nextId: "BPF_MAP_GET_NEXT_ID",
  fdById: "BPF_MAP_GET_FD_BY_ID",
};
export const PROGS: ObjectKind = {
  noun: "program",
  nextId: "BPF_PROG_GET_NEXT_ID",
  fdById: "BPF_PROG_GET_FD_BY_ID",
};
export const LINKS: ObjectKind = {
  noun: "link",
  nextId: "BPF_LINK_GET_NEXT_ID",
  fdById: "BPF_LINK_GET_FD_BY_ID",
};
export const BTFS: ObjectKind = {
  noun: "BTF object",
  nextId: "BPF_BTF_GET_NEXT_ID",
  fdById: "BPF_BTF_GET_FD_BY_ID",
};

/** Limit on the ids of one walk. `idr_alloc_cyclic` counts to INT_MAX, but far fewer are in use at a time. */
const MAX_IDS = 16_777_216;

// Calls are sequential, so one attribute per command is enough; a listing makes thousands of calls.
const nextIdAttr = new Attr(ID_ATTR);
const byIdAttr = new Attr(ID_ATTR);
const infoAttr = new Attr(INFO_ATTR);

/** Returns an owned descriptor for an id, or `-errno`. */
export function openId(sys: Sys, kind: ObjectKind, id: number): Fd | number {
  const result = sys.bpf(kind.fdById, byIdAttr.set("start_id", id));
  return result < 0 ? result : new Fd(result, `${kind.noun} ${id}`, sys.close);
}

/** Like `openId`, but throws `SyscallError`. */
export function openIdOrThrow(sys: Sys, kind: ObjectKind, id: number): Fd {
  const fd = openId(sys, kind, id);
  if (typeof fd === "number") throw bpfError(kind.fdById, `${kind.noun} ${id}`, fd);
  return fd;
}

/**
 * Opens every object of a kind by ascending id and passes it to `visit`, which owns the descriptor. The cursor advances
 * before an object is opened, so an object that is freed during the walk does not end it. Any other failure gives a warning
 * with id and errno, and the walk continues. A full descriptor table ends the walk, because all further opens would fail.
 * Throws `SyscallError` if the ids cannot be walked.
 */
export function forEachObject(
  sys: Sys,
  kind: ObjectKind,
  warn: (sentence: string) => void,
  visit: (id: number, fd: Fd) => void,
): void {
  let id = 0;
  let isRun = false;
  for (let steps = 0; steps < MAX_IDS; steps++) {
    // Ids are allocated in sequence: opening id + 1 succeeds within a run, which saves the call for the next id.
    let fd = isRun ? openId(sys, kind, id + 1) : -ENOENT;
    let next = id + 1;
    if (fd === -ENOENT) {
      next = nextId(sys, kind, id);
      if (next < 0) return;
      fd = openId(sys, kind, next);
    }
    isRun = next === id + 1;
    id = next;
    if (typeof fd !== "number") visitOrWarn(id, fd, kind, warn, visit);
    else skip(id, kind, fd, warn);
  }
}

/** Visits every id of a kind in ascending order without opening it. Throws `SyscallError`. */
export function forEachId(sys: Sys, kind: ObjectKind, visit: (id: number) => void): void {
  let id = nextId(sys, kind, 0);
  for (let steps = 0; id > 0 && steps < MAX_IDS; steps++) {
    visit(id);
    id = nextId(sys, kind, id);
  }
}

/** Returns the id after `id`, or `-ENOENT` after the last. */
function nextId(sys: Sys, kind: ObjectKind, id: number): number {
  const result = sys.bpf(kind.nextId, nextIdAttr.set("start_id", id));
  if (result === 0) return nextIdAttr.get("next_id");
  if (result === -ENOENT) return result;
  throw bpfError(kind.nextId, id === 0 ? "" : `after ${kind.noun} ${id}`, result);
}

function skip(id: number, kind: ObjectKind, errno: number, warn: (sentence: string) => void): void {
  if (errno === -ENOENT) {
    log.debug(`${kind.noun} ${id} was freed before it was opened`);
    return;
  }
  const error = bpfError(kind.fdById, `${kind.noun} ${id}`, errno);
  if (isTableFull(-errno)) throw error;
  warn(`${error.message}: skipped`);
}

function visitOrWarn(
  id: number,
  fd: Fd,
  kind: ObjectKind,
  warn: (sentence: string) => void,
  visit: (id: number, fd: Fd) => void,
): void {
  try {
    visit(id, fd);
  } catch (error) {
    fd[Symbol.dispose]();
    if (!(error instanceof SyscallError) || isTableFull(error.errno)) throw error;
    warn(`${kind.noun} ${id}: ${error.message}: skipped`);
  }
}

/** `BPF_OBJ_GET_INFO_BY_FD` into a buffer of at least the size of the layout. Throws `SyscallError`. */
export function objectInfo(
  sys: Sys,
  fd: Fd,
  layout: Layout,
  object: string,
  into: PinnedBytes = pinned(layout.size),
): DataView {
  infoAttr.set("bpf_fd", fd.number).set("info_len", into.length).point("info", into);
  bpfOrThrow(sys, "BPF_OBJ_GET_INFO_BY_FD", infoAttr, object);
  return new DataView(into.buffer, into.byteOffset, into.length);
}

/** Returns the id of a map, program or link: their info structs have it at the same offset. Returns undefined on error. */
export function objectId(sys: Sys, fd: Fd): number | undefined {
  const into = pinned(8);
  infoAttr.set("bpf_fd", fd.number).set("info_len", into.length).point("info", into);
  return sys.bpf("BPF_OBJ_GET_INFO_BY_FD", infoAttr) < 0
    ? undefined
    : new DataView(into.buffer).getUint32(4, true);
}

/** Allocates zeroed bytes at a fixed address; never empty, because an empty array has no address. */
export function pinned(length: number): PinnedBytes {
  return new Uint8Array(new ArrayBuffer(Math.max(8, length)));
}
