/** Finds the owner of an element of local storage: `bpf_local_storage.owner`, by map type. */
import { at, bytes, ptr, struct, u16, u32, u64 } from "../../../btf/struct.ts";
import type { StorageOwner } from "../../../state.ts";
import { cutAtNul } from "../../../uapi/layout.ts";
import { MapType } from "../../../uapi/names.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { GuestFault } from "../../memory/fault.ts";
import { isNull, type Pointer, toBigInt } from "../../memory/pointer.ts";

const TASK = struct("task_struct", { pid: u32, tgid: u32, comm: bytes(16) });
const CGROUP = struct("cgroup", { kn: ptr });
const KERNFS_NODE = struct("kernfs_node", {
  id: u64,
  // Named "__parent" since 6.15.
  parent: at(ptr, "__parent", "parent"),
  name: ptr,
});
const INODE = struct("inode", { i_ino: u64, i_sb: ptr });
const SUPER_BLOCK = struct("super_block", { s_id: bytes(32) });
const SOCK = struct("sock", { family: at(u16, "__sk_common.skc_family"), sk_protocol: u16 });

const TASK_COMM_LEN = 16;
const SUPER_ID_LEN = 32;
/** NAME_MAX, and the maximum number of components in PATH_MAX: each takes at least two bytes. */
const MAX_NAME_BYTES = 255;
const MAX_DEPTH = 2048;

/** Does not throw for data that is not in the image: the result says so. */
export function readOwner(kernel: GuestKernel, type: number, owner: Pointer): StorageOwner {
  if (isNull(owner)) return { kind: "unknown", why: "its owner is being freed" };
  try {
    switch (type) {
      case MapType.task_storage:
        return readTask(kernel, owner);
      case MapType.cgrp_storage:
        return readCgroup(kernel, owner);
      case MapType.inode_storage:
        return readInode(kernel, owner);
      default:
        return readSocket(kernel, owner);
    }
  } catch (error) {
    if (error instanceof GuestFault) return { kind: "unknown", why: error.message };
    throw error;
  }
}

function readTask({ memory, btf }: GuestKernel, { hi, lo }: Pointer): StorageOwner {
  const task = TASK.resolve(btf);
  return {
    kind: "task",
    pid: memory.u32(hi, lo, task.pid, "task_struct.pid"),
    tgid: memory.u32(hi, lo, task.tgid, "task_struct.tgid"),
    comm: cutAtNul(memory.copy(hi, lo, task.comm, TASK_COMM_LEN, "task_struct.comm")),
  };
}

function readCgroup(kernel: GuestKernel, { hi, lo }: Pointer): StorageOwner {
  const { memory, btf } = kernel;
  const node = memory.pointer(hi, lo, CGROUP.resolve(btf).kn, "cgroup.kn");
  const id = memory.u64(node.hi, node.lo, KERNFS_NODE.resolve(btf).id, "kernfs_node.id");
  return { kind: "cgroup", id, path: kernfsPath(kernel, node) };
}

/** `kernfs_path()`: the names from the root, which is "/" and has no name. Throws `GuestFault`. */
export function kernfsPath({ memory, btf }: GuestKernel, node: Pointer): Uint8Array {
  const offsets = KERNFS_NODE.resolve(btf);
  const names: Uint8Array[] = [];
  let at = node;
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const parent = memory.pointer(at.hi, at.lo, offsets.parent, "kernfs_node.parent");
    if (isNull(parent)) break;
    const name = memory.pointer(at.hi, at.lo, offsets.name, "kernfs_node.name");
    names.unshift(Buffer.from("/"), memory.cstring(name.hi, name.lo, 0, MAX_NAME_BYTES, "kernfs_node.name"));
    at = parent;
  }
  return names.length === 0 ? Buffer.from("/") : Buffer.concat(names);
}

function readInode({ memory, btf }: GuestKernel, { hi, lo }: Pointer): StorageOwner {
  const offsets = INODE.resolve(btf);
  const superblock = memory.pointer(hi, lo, offsets.i_sb, "inode.i_sb");
  const idAt = SUPER_BLOCK.resolve(btf).s_id;
  return {
    kind: "inode",
    inode: memory.u64(hi, lo, offsets.i_ino, "inode.i_ino"),
    superblock: cutAtNul(memory.copy(superblock.hi, superblock.lo, idAt, SUPER_ID_LEN, "super_block.s_id")),
  };
}

function readSocket({ memory, btf }: GuestKernel, { hi, lo }: Pointer): StorageOwner {
  const sock = SOCK.resolve(btf);
  return {
    kind: "socket",
    address: toBigInt(hi, lo),
    family: memory.u16(hi, lo, sock.family, "sock.skc_family"),
    protocol: memory.u16(hi, lo, sock.sk_protocol, "sock.sk_protocol"),
  };
}
