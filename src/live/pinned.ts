/** Opens pinned objects by path and determines their kind. */
import type { PinnedKind } from "../attachments.ts";
import { KtstrError } from "../errors.ts";
import { Fd } from "../ffi.ts";
import { printable } from "../text.ts";
import { BATCH_ATTR, BIND_MAP_ATTR, BPF_F_RDONLY, LINK_UPDATE_ATTR, OBJ_ATTR } from "../uapi/bpf.ts";
import { EACCES, EBADF, ENOTSUPP, EPERM } from "../uapi/errno.ts";
import { Attr } from "./attr.ts";
import { pinned } from "./objects.ts";
import { bpfError, realSys, type Sys } from "./sys.ts";

/**
 * Object kind by the name of the anonymous inode (kernel/bpf/syscall.c: `bpf_map_new_fd`, `bpf_prog_new_fd`,
 * `bpf_link_new_fd` and `bpf_link_prime`). fdinfo is ambiguous: a link's also has the ids of its program and map.
 */
const KINDS: ReadonlyMap<string, PinnedKind> = new Map([
  ["anon_inode:bpf-map", "map"],
  ["anon_inode:bpf-prog", "program"],
  ["anon_inode:bpf-link", "link"],
  ["anon_inode:bpf_link", "link"],
]);

/** Returns an owned descriptor of the object at `path`. Throws `SyscallError`, or `KtstrError` if it is of another kind. */
export function openPinned(path: string, kind: PinnedKind, sys: Sys = realSys): Fd {
  const bytes = Buffer.from(path);
  const shown = printable(bytes);
  const fd = openAt(bytes, sys);
  if (typeof fd === "number") throw bpfError("BPF_OBJ_GET", shown, fd);
  const is = kindOf(fd, sys);
  if (is === kind) return fd;
  fd[Symbol.dispose]();
  throw new KtstrError(
    `${shown}: incorrect object type: a ${is ?? "BPF object of unknown type"} is pinned there, not a ${kind}`,
  );
}

/** Opens an object of any kind; returns `-errno` on failure. `path` is any bytes but NUL. */
export function openAt(path: Uint8Array, sys: Sys): Fd | number {
  const pathname = pinned(path.length + 1);
  pathname.set(path);
  const attr = new Attr(OBJ_ATTR).point("pathname", pathname);
  let result = sys.bpf("BPF_OBJ_GET", attr);
  // Users other than root can open a pin of mode 0444 read-only. Links take no flags.
  if (result === -EACCES || result === -EPERM)
    result = sys.bpf("BPF_OBJ_GET", attr.set("file_flags", BPF_F_RDONLY));
  return result < 0 ? result : new Fd(result, printable(path), sys.close);
}

/**
 * Returns the kind of a descriptor; undefined if it is not a map, program or link. Without /proc, programs are recognized
 * since 5.10, links since 5.7 and maps since 5.6.
 */
export function kindOf(fd: Fd, sys: Sys): PinnedKind | undefined {
  const target = sys.readLink(`/proc/self/fd/${fd.number}`);
  return target === undefined ? kindByCommands(fd, sys) : KINDS.get(target);
}

/** No descriptor has this number. */
const NO_FD = 0xffff_ffff;

/**
 * Determines the kind without /proc. Some commands check the type of their first descriptor before the second one. With an
 * invalid second descriptor they return EBADF if the type matches and EINVAL if not, and change nothing
 * (kernel/bpf/syscall.c: `bpf_prog_bind_map`, 5.10; `link_update`, 5.7). An empty batch succeeds or gives ENOTSUPP only
 * for a map (`bpf_map_do_batch`, 5.6).
 */
function kindByCommands(fd: Fd, sys: Sys): PinnedKind | undefined {
  const bind = new Attr(BIND_MAP_ATTR, { prog_fd: fd.number, map_fd: NO_FD });
  if (sys.bpf("BPF_PROG_BIND_MAP", bind) === -EBADF) return "program";
  const update = new Attr(LINK_UPDATE_ATTR, { link_fd: fd.number, new_prog_fd: NO_FD });
  if (sys.bpf("BPF_LINK_UPDATE", update) === -EBADF) return "link";
  const batch = sys.bpf("BPF_MAP_LOOKUP_BATCH", new Attr(BATCH_ATTR, { map_fd: fd.number }));
  return batch === 0 || batch === -ENOTSUPP ? "map" : undefined;
}
