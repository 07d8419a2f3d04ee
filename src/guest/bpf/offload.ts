/** Reads the devices of offloaded programs and maps (kernel/bpf/offload.c). */
import { at, bytes, i32, ptr, struct, u32 } from "../../btf/struct.ts";
import type { OffloadDevice } from "../../state.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { isNull, type Pointer } from "../memory/pointer.ts";

/** include/uapi/linux/if.h */
export const IFNAMSIZ = 16;
const OFFLOAD = struct("bpf_prog_offload", { netdev: ptr, jited_len: u32 });
const OFFLOADED_MAP = struct("bpf_offloaded_map", { netdev: ptr });
const NET_DEVICE = struct("net_device", { ifindex: i32, name: bytes(IFNAMSIZ), net: at(ptr, "nd_net.net") });
const NET = struct("net", { inum: at(u32, "ns.inum") });
const VFSMOUNT = struct("vfsmount", { mnt_sb: ptr });
const SUPER_BLOCK = struct("super_block", { s_dev: u32 });

export interface Offload {
  /** Undefined if the device was removed (ENODEV of `bpf_prog_offload_info_fill`). */
  readonly device: OffloadDevice | undefined;
  /** Size of the device's code in bytes. */
  readonly jitedBytes: number;
}

/** Reads `struct bpf_prog_offload`, like `bpf_prog_offload_info_fill`. Throws `GuestFault`. */
export function readOffload(kernel: GuestKernel, offload: Pointer): Offload {
  const { memory, btf } = kernel;
  const { netdev, jited_len } = OFFLOAD.resolve(btf);
  return {
    jitedBytes: memory.u32(offload.hi, offload.lo, jited_len, "bpf_prog_offload.jited_len"),
    device: readDevice(kernel, memory.pointer(offload.hi, offload.lo, netdev, "bpf_prog_offload.netdev")),
  };
}

/** Reads `struct bpf_offloaded_map`, like `bpf_map_offload_info_fill`. Throws `GuestFault`. */
export function readMapDevice(kernel: GuestKernel, map: Pointer, path: string): OffloadDevice | undefined {
  const { netdev } = OFFLOADED_MAP.resolve(kernel.btf);
  return readDevice(kernel, kernel.memory.pointer(map.hi, map.lo, netdev, `${path}.netdev`));
}

/** Reads a `struct net_device *`; undefined for NULL. */
function readDevice(kernel: GuestKernel, device: Pointer): OffloadDevice | undefined {
  if (isNull(device)) return undefined;
  const { memory, btf, symbols } = kernel;
  const layout = NET_DEVICE.resolve(btf);
  const net = memory.pointer(device.hi, device.lo, layout.net, "net_device.nd_net");
  const mount = symbols.address("nsfs_mnt");
  return {
    ifindex: memory.i32(device.hi, device.lo, layout.ifindex, "net_device.ifindex"),
    netnsDev: mount === undefined ? 0n : BigInt(nsfsDevice({ memory, btf }, mount)),
    netnsIno: BigInt(memory.u32(net.hi, net.lo, NET.resolve(btf).inum, "net.ns.inum")),
    name: memory.cstring(device.hi, device.lo, layout.name, IFNAMSIZ, "net_device.name"),
  };
}

/** fs/nsfs.c: `struct vfsmount *nsfs_mnt` -> the `dev_t` of its superblock, in user space's encoding. */
function nsfsDevice({ memory, btf }: Pick<GuestKernel, "memory" | "btf">, symbol: Pointer): number {
  const mount = memory.pointer(symbol.hi, symbol.lo, 0, "nsfs_mnt");
  const block = memory.pointer(mount.hi, mount.lo, VFSMOUNT.resolve(btf).mnt_sb, "nsfs_mnt->mnt_sb");
  const device = memory.u32(block.hi, block.lo, SUPER_BLOCK.resolve(btf).s_dev, "nsfs_mnt->mnt_sb->s_dev");
  // include/linux/kdev_t.h: MINORBITS is 20; new_encode_dev stores the minor's low byte first.
  const major = device >>> 20;
  const minor = device & 0xfffff;
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}
