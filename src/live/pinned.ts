/** Objects behind paths of a bpffs. */
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

/** What a descriptor is; undefined: nothing that can be pinned, or a kernel before 5.10 where /proc is not mounted. */
export function kindOf(fd: Fd, sys: Sys): PinnedKind | undefined {
  const target = sys.readLink(`/proc/self/fd/${fd.number}`);
  return target === undefined ? kindByCommands(fd, sys) : KINDS.get(target);
}

/** No descriptor has this number. */
const NO_FD = 0xffff_ffff;

/**
 * The same where /proc is not mounted. Commands that want a descriptor of one type and another descriptor beside it look at
 * the first one first. So with none beside it they answer EBADF for an object of that type and EINVAL for any other, and
 * change nothing (kernel/bpf/syscall.c: `bpf_prog_bind_map`, 5.10; `link_update`, 5.7). A batch of no elements is no
 * error, or ENOTSUPP, of a map alone (`bpf_map_do_batch`, 5.6).
 */
function kindByCommands(fd: Fd, sys: Sys): PinnedKind | undefined {
  const bind = new Attr(BIND_MAP_ATTR, { prog_fd: fd.number, map_fd: NO_FD });
  if (sys.bpf("BPF_PROG_BIND_MAP", bind) === -EBADF) return "program";
  const update = new Attr(LINK_UPDATE_ATTR, { link_fd: fd.number, new_prog_fd: NO_FD });
  if (sys.bpf("BPF_LINK_UPDATE", update) === -EBADF) return "link";
  const batch = sys.bpf("BPF_MAP_LOOKUP_BATCH", new Attr(BATCH_ATTR, { map_fd: fd.number }));
  return batch === 0 || batch === -ENOTSUPP ? "map" : undefined;
}
