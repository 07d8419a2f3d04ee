/** What maps, programs, links and BTF objects share: an id space, and a descriptor by id. */
import { SyscallError } from "../errors.ts";
import { Fd, type PinnedBytes } from "../ffi.ts";
import { log } from "../log.ts";
import { type BpfCommand, ID_ATTR, INFO_ATTR } from "../uapi/bpf.ts";
import { EMFILE, ENFILE, ENOENT } from "../uapi/errno.ts";
import type { Layout } from "../uapi/layout.ts";
import { Attr } from "./attr.ts";
import { bpfError, bpfOrThrow, type Sys } from "./sys.ts";

/** One kind of object with ids. */
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

/** More ids than any kernel hands out in one session (`idr_alloc_cyclic` runs to INT_MAX, ids in use do not). */
const MAX_IDS = 16_777_216;

/**
 * Every id of a kind, ascending. The cursor moves before the id is given out, so an object that goes away while
 * it is looked at does not end the walk. Throws `SyscallError` for anything but the end.
 */
export function* ids(sys: Sys, kind: ObjectKind): Generator<number, void, undefined> {
  const attr = new Attr(ID_ATTR);
  let id = 0;
  for (let steps = 0; steps < MAX_IDS; steps++) {
    attr.set("start_id", id);
    const result = sys.bpf(kind.nextId, attr);
    if (result === -ENOENT) return;
    if (result < 0) throw bpfError(kind.nextId, id === 0 ? "" : `after ${kind.noun} ${id}`, result);
    id = attr.get("next_id");
    yield id;
  }
}

// One call at a time, so one attribute for all of them: a listing asks for thousands.
const byId = new Attr(ID_ATTR);
const getInfo = new Attr(INFO_ATTR);

/** An owned descriptor for an id, or `-errno`. */
export function openId(sys: Sys, kind: ObjectKind, id: number): Fd | number {
  const result = sys.bpf(kind.fdById, byId.set("start_id", id));
  return result < 0 ? result : new Fd(result, `${kind.noun} ${id}`, sys.close);
}

/** The same, or throws `SyscallError`. */
export function openIdOrThrow(sys: Sys, kind: ObjectKind, id: number): Fd {
  const fd = openId(sys, kind, id);
  if (typeof fd === "number") throw bpfError(kind.fdById, `${kind.noun} ${id}`, fd);
  return fd;
}

/**
 * Opens every object of a kind and hands it to `visit`, which owns the descriptor from then on. One that went
 * away is the normal race; another failure is a warning that names id and errno, and the walk goes on. Only a
 * full descriptor table ends it: all that follow would fail too.
 */
export function forEachObject(
  sys: Sys,
  kind: ObjectKind,
  warn: (sentence: string) => void,
  visit: (id: number, fd: Fd) => void,
): void {
  for (const id of ids(sys, kind)) {
    const fd = openId(sys, kind, id);
    if (typeof fd !== "number") {
      visitOrWarn(id, fd, kind, warn, visit);
    } else if (fd === -ENOENT) {
      log.debug(`${kind.noun} ${id} went away before it was opened`);
    } else {
      const error = bpfError(kind.fdById, `${kind.noun} ${id}`, fd);
      if (fd === -EMFILE || fd === -ENFILE) throw error;
      warn(`${error.message}: skipped`);
    }
  }
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
    if (!(error instanceof SyscallError)) throw error;
    warn(`${kind.noun} ${id}: ${error.message}: skipped`);
  }
}

/** `BPF_OBJ_GET_INFO_BY_FD` into a buffer of at least the layout's size. Throws `SyscallError`. */
export function objectInfo(
  sys: Sys,
  fd: Fd,
  layout: Layout,
  object: string,
  into: PinnedBytes = pinned(layout.size),
): DataView {
  getInfo.set("bpf_fd", fd.number).set("info_len", into.length).point("info", into);
  bpfOrThrow(sys, "BPF_OBJ_GET_INFO_BY_FD", getInfo, object);
  return new DataView(into.buffer, into.byteOffset, into.length);
}

/** Zeroed bytes that do not move; never empty, for an empty array has no address. */
export function pinned(length: number): PinnedBytes {
  return new Uint8Array(new ArrayBuffer(Math.max(8, length)));
}
