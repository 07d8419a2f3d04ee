/** Objects behind paths of a bpffs. */
import { KtstrError } from "../errors.ts";
import { Fd } from "../ffi.ts";
import { printable } from "../text.ts";
import { BPF_F_RDONLY, OBJ_ATTR } from "../uapi/bpf.ts";
import { EACCES, EPERM } from "../uapi/errno.ts";
import { Attr } from "./attr.ts";
import { pinned } from "./objects.ts";
import { bpfError, realSys, type Sys } from "./sys.ts";

/** What can be pinned. */
export type PinnedKind = "map" | "program" | "link";

/**
 * What a descriptor's anonymous inode is called (kernel/bpf/syscall.c: `bpf_map_new_fd`, `bpf_prog_new_fd`,
 * `bpf_link_new_fd` and `bpf_link_prime`). An fdinfo does not tell: a link's names its program and its map, too.
 */
const KINDS: ReadonlyMap<string, PinnedKind> = new Map([
  ["anon_inode:bpf-map", "map"],
  ["anon_inode:bpf-prog", "program"],
  ["anon_inode:bpf-link", "link"],
  ["anon_inode:bpf_link", "link"],
]);

/** An owned descriptor of the object at `path`. Throws `SyscallError`, or `KtstrError` where it is of another kind. */
export function openPinned(path: string, kind: PinnedKind, sys: Sys = realSys): Fd {
  const fd = openAt(Buffer.from(path), sys);
  if (typeof fd === "number") throw bpfError("BPF_OBJ_GET", path, fd);
  const is = kindOf(fd, sys);
  if (is === kind) return fd;
  fd[Symbol.dispose]();
  throw new KtstrError(
    `${path}: incorrect object type: a ${is ?? "BPF object of unknown type"} is pinned there, not a ${kind}`,
  );
}

/** The same for whatever is pinned there; `-errno` where it cannot be opened. `path`: any bytes but NUL. */
export function openAt(path: Uint8Array, sys: Sys): Fd | number {
  const pathname = pinned(path.length + 1);
  pathname.set(path);
  const attr = new Attr(OBJ_ATTR).point("pathname", pathname);
  let result = sys.bpf("BPF_OBJ_GET", attr);
  // A pin of mode 0444 can be opened by others than root for reading alone; links take no flags.
  if (result === -EACCES || result === -EPERM)
    result = sys.bpf("BPF_OBJ_GET", attr.set("file_flags", BPF_F_RDONLY));
  return result < 0 ? result : new Fd(result, printable(path), sys.close);
}

/** What a descriptor is; undefined: nothing that can be pinned, or there is no /proc. */
export function kindOf(fd: Fd, sys: Sys): PinnedKind | undefined {
  const target = sys.readLink(`/proc/self/fd/${fd.number}`);
  return target === undefined ? undefined : KINDS.get(target);
}
