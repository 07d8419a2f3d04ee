/** Lists the programs attached to the running kernel's cgroups (`BPF_PROG_QUERY`). */
import type { CgroupProg, CgroupProgs, CgroupQuery } from "../attachments.ts";
import { KtstrError, SyscallError } from "../errors.ts";
import type { Fd } from "../ffi.ts";
import { BPF_F_QUERY_EFFECTIVE, QUERY_ATTR } from "../uapi/bpf.ts";
import { E2BIG, EBADF, EINVAL, ENOENT, ENOSPC, errnoName } from "../uapi/errno.ts";
import { CGROUP_ATTACH_TYPES } from "../uapi/names.ts";
import { Attr } from "./attr.ts";
import { forEachCgroup } from "./cgroups.ts";
import { mountsOf } from "./mounts.ts";
import { pinned } from "./objects.ts";
import { bpfError, type Sys } from "./sys.ts";

/** Limit: a cgroup and each of its ancestors can have 64 programs of an attach type (BPF_CGROUP_MAX_PROGS). */
const MAX_PROGS = 4096;

/** Throws `SyscallError`, or `KtstrError` if cgroup2 or /proc is not mounted. */
export function queryCgroups(sys: Sys, { path, isTree, isEffective }: CgroupQuery): CgroupProgs[] {
  const mounts = path === undefined ? mountsOf(sys, "cgroup2") : [path];
  if (mounts === undefined)
    throw new KtstrError("/proc/self/mounts, which lists the mounts of cgroup2, cannot be read", {
      hint: "`mount -t proc proc /proc` mounts it, or `ktstr cgroup tree DIR` lists the cgroups of DIR",
    });
  const [root] = mounts;
  if (root === undefined)
    throw new KtstrError("cgroup2 is not mounted", {
      hint: "`mount -t cgroup2 none DIR` mounts it, and `ktstr cgroup tree DIR` lists it",
    });
  const where = Buffer.from(root);
  if (!isTree) {
    const directory = sys.openDirectory(where);
    if (typeof directory === "number") throw openError(root, -directory);
    using fd = directory.fd;
    return [{ path: where, level: 0, progs: progsOf(sys, fd, root, isEffective) }];
  }
  const cgroups: CgroupProgs[] = [];
  const failed: number[] = [];
  let isThere = false;
  const visit = (below: Uint8Array, fd: Fd, level: number): void => {
    isThere = true;
    const whole = level === 0 ? where : Buffer.concat([Buffer.from(root.replace(/\/+$/, "")), below]);
    const progs = progsOf(sys, fd, whole.toString(), isEffective);
    if (progs.length > 0) cgroups.push({ path: whole, level, progs });
  };
  const stopped = forEachCgroup(
    sys,
    root,
    (below, { fd }, level) => visit(below, fd, level),
    (errno) => failed.push(errno),
  );
  if (!isThere && failed.length === 0) failed.push(ENOENT);
  if (failed[0] !== undefined) throw openError(root, failed[0]);
  if (stopped !== "") throw new KtstrError(`${root}: ${stopped}`);
  return cgroups;
}

function openError(path: string, errno: number): SyscallError {
  return new SyscallError("open", path, errno, errnoName(errno), "give the directory of a cgroup");
}

function progsOf(sys: Sys, fd: Fd, path: string, isEffective: boolean): CgroupProg[] {
  return CGROUP_ATTACH_TYPES.flatMap((type) => ofType(sys, fd, path, type, isEffective));
}

/** Queries one attach type. The kernel returns EINVAL for a type that it does not have; the result is then empty. */
function ofType(sys: Sys, fd: Fd, path: string, attachType: number, isEffective: boolean): CgroupProg[] {
  const count = new Attr(QUERY_ATTR, {
    target_fd: fd.number,
    attach_type: attachType,
    query_flags: isEffective ? BPF_F_QUERY_EFFECTIVE : 0,
  });
  const counted = sys.bpf("BPF_PROG_QUERY", count);
  if (counted === -EINVAL) return [];
  if (counted === -EBADF) throw new KtstrError(`${path} is not the directory of a cgroup of cgroup2`);
  if (counted < 0) throw bpfError("BPF_PROG_QUERY", path, counted);
  if (count.get("prog_cnt") === 0) return [];
  const ids = pinned(MAX_PROGS * 4);
  const flags = pinned(MAX_PROGS * 4);
  const attr = new Attr(QUERY_ATTR, {
    target_fd: fd.number,
    attach_type: attachType,
    query_flags: isEffective ? BPF_F_QUERY_EFFECTIVE : 0,
    prog_cnt: MAX_PROGS,
  }).point("prog_ids", ids);
  // Flags of each program, since 6.0. The kernel rejects them in a query of effective programs.
  if (!isEffective) attr.point("prog_attach_flags", flags);
  let done = sys.bpf("BPF_PROG_QUERY", attr);
  if (done === -E2BIG) done = sys.bpf("BPF_PROG_QUERY", attr.point("prog_attach_flags", undefined));
  if (done < 0 && done !== -ENOSPC) throw bpfError("BPF_PROG_QUERY", path, done);
  const [idView, flagView] = [new DataView(ids.buffer), new DataView(flags.buffer)];
  return Array.from({ length: Math.min(attr.get("prog_cnt"), MAX_PROGS) }, (_, index) => ({
    attachType,
    progId: idView.getUint32(index * 4, true),
    flags: isEffective ? undefined : flagView.getUint32(index * 4, true) || attr.get("attach_flags"),
  }));
}
