/** Programs that run on a device: `struct bpf_prog_offload`, as `bpf_prog_offload_info_fill` tells of it. */
import { at, i32, ptr, struct, u32 } from "../../btf/struct.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { isNull, type Pointer } from "../memory/pointer.ts";

const OFFLOAD = struct("bpf_prog_offload", { netdev: ptr, jited_len: u32 });
const NET_DEVICE = struct("net_device", { ifindex: i32, net: at(ptr, "nd_net.net") });
const NET = struct("net", { inum: at(u32, "ns.inum") });
const VFSMOUNT = struct("vfsmount", { mnt_sb: ptr });
const SUPER_BLOCK = struct("super_block", { s_dev: u32 });

export interface Offload {
  readonly ifindex: number;
  /** The network namespace's file: the device and inode number that `stat` gives. */
  readonly netnsDev: bigint;
  readonly netnsIno: bigint;
  /** Of the device's code; undefined: the program runs on the CPUs. */
  readonly jitedBytes: number | undefined;
}

export const NOT_OFFLOADED: Offload = { ifindex: 0, netnsDev: 0n, netnsIno: 0n, jitedBytes: undefined };

/** Throws `GuestFault`. A device that went away leaves no name behind (kernel/bpf/offload.c: ENODEV). */
export function readOffload({ memory, btf, symbols }: GuestKernel, offload: Pointer): Offload {
  const { netdev, jited_len } = OFFLOAD.resolve(btf);
  const jitedBytes = memory.u32(offload.hi, offload.lo, jited_len, "bpf_prog_offload.jited_len");
  const device = memory.pointer(offload.hi, offload.lo, netdev, "bpf_prog_offload.netdev");
  if (isNull(device)) return { ...NOT_OFFLOADED, jitedBytes };
  const layout = NET_DEVICE.resolve(btf);
  const net = memory.pointer(device.hi, device.lo, layout.net, "net_device.nd_net");
  const mount = symbols.address("nsfs_mnt");
  return {
    ifindex: memory.i32(device.hi, device.lo, layout.ifindex, "net_device.ifindex"),
    netnsDev: mount === undefined ? 0n : BigInt(nsfsDevice({ memory, btf }, mount)),
    netnsIno: BigInt(memory.u32(net.hi, net.lo, NET.resolve(btf).inum, "net.ns.inum")),
    jitedBytes,
  };
}

/** fs/nsfs.c: `struct vfsmount *nsfs_mnt` -> the `dev_t` of its superblock, as user space sees it. */
function nsfsDevice({ memory, btf }: Pick<GuestKernel, "memory" | "btf">, symbol: Pointer): number {
  const mount = memory.pointer(symbol.hi, symbol.lo, 0, "nsfs_mnt");
  const block = memory.pointer(mount.hi, mount.lo, VFSMOUNT.resolve(btf).mnt_sb, "nsfs_mnt->mnt_sb");
  const device = memory.u32(block.hi, block.lo, SUPER_BLOCK.resolve(btf).s_dev, "nsfs_mnt->mnt_sb->s_dev");
  // include/linux/kdev_t.h: MINORBITS is 20; new_encode_dev puts the minor's low byte first.
  const major = device >>> 20;
  const minor = device & 0xfffff;
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}
