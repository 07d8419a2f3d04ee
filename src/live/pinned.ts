/** Objects behind paths of a bpffs. */
import { KtstrError } from "../errors.ts";
import { Fd } from "../ffi.ts";
import { OBJ_ATTR } from "../uapi/bpf.ts";
import { Attr } from "./attr.ts";
import { fdInfoNumber } from "./fdinfo.ts";
import { pinned } from "./objects.ts";
import { bpfOrThrow, realSys, type Sys } from "./sys.ts";

/** Which line of its fdinfo tells what a descriptor is (kernel/bpf/syscall.c, `bpf_*_show_fdinfo`). */
export const ID_KEYS = { map: "map_id", program: "prog_id", link: "link_id" } as const;

export type PinnedKind = keyof typeof ID_KEYS;

/** An owned descriptor of the object at `path`. Throws `SyscallError`, or `KtstrError` where it is of another kind. */
export function openPinned(path: string, kind: PinnedKind, sys: Sys = realSys): Fd {
  const encoded = Buffer.from(`${path}\0`);
  const pathname = pinned(encoded.length);
  pathname.set(encoded);
  const attr = new Attr(OBJ_ATTR).point("pathname", pathname);
  const fd = new Fd(bpfOrThrow(sys, "BPF_OBJ_GET", attr, path), path, sys.close);
  const fdInfo = sys.readFdInfo(fd.number);
  if (fdInfoNumber(fdInfo, ID_KEYS[kind]) !== undefined) return fd;
  fd[Symbol.dispose]();
  const is =
    Object.entries(ID_KEYS).find(([, key]) => fdInfoNumber(fdInfo, key) !== undefined)?.[0] ??
    "something else";
  throw new KtstrError(`${path}: a ${is} is pinned there, not a ${kind}`);
}

/** The id of the object at `path`. */
export function pinnedId(path: string, kind: PinnedKind, sys: Sys = realSys): number {
  using fd = openPinned(path, kind, sys);
  return fdInfoNumber(sys.readFdInfo(fd.number), ID_KEYS[kind]) ?? 0;
}
