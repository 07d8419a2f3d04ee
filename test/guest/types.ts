/** The few kernel structs that finding a kernel needs, as BTF with offsets that no kernel has. */
import { Btf } from "../../src/btf/btf.ts";
import { BtfWriter } from "../btf/support/encode.ts";

/** Offsets of the members in `kernelTypes`, in bytes. */
export const IDR_BYTES = 40;
export const IDR_HEAD = 16;
export const IDR_BASE = 24;
export const IDR_NEXT = 28;
export const NODE_BYTES = 568;
export const NODE_SHIFT = 3;
export const NODE_SLOTS = 32;
export const RESOURCE = { start: 8, end: 0, name: 16, sibling: 24, child: 32, size: 40 } as const;
export const CPUMASK_BYTES = 16;

/** Types for a synthetic kernel, and the offsets that its builder needs. */
export interface KernelTypes {
  readonly bytes: Uint8Array;
  readonly idrBytes: number;
  readonly cpumaskBytes: number;
  readonly resource: Readonly<Record<keyof typeof RESOURCE, number>>;
}

export const ownTypes = (): KernelTypes => ({
  bytes: kernelTypesBytes(),
  idrBytes: IDR_BYTES,
  cpumaskBytes: CPUMASK_BYTES,
  resource: RESOURCE,
});

export function kernelTypesBytes(): Uint8Array {
  const w = new BtfWriter();
  const u8 = w.int("unsigned char", 1);
  const u32 = w.int("unsigned int", 4);
  const u64 = w.int("unsigned long", 8);
  const pointer = w.pointer(0);
  const xarray = w.struct("xarray", 16, [["xa_head", pointer, 8 * 8]]);
  w.struct("idr", IDR_BYTES, [
    ["idr_rt", xarray, 8 * 8],
    ["idr_base", u32, IDR_BASE * 8],
    ["idr_next", u32, IDR_NEXT * 8],
  ]);
  const slots = w.array(pointer, 64, u32);
  const marks = w.array(u64, 3, u32);
  w.struct("xa_node", NODE_BYTES, [
    ["shift", u8, NODE_SHIFT * 8],
    ["slots", slots, NODE_SLOTS * 8],
    ["marks", marks, (NODE_SLOTS + 512) * 8],
  ]);
  w.struct("resource", RESOURCE.size, [
    ["start", u64, RESOURCE.start * 8],
    ["end", u64, RESOURCE.end * 8],
    ["name", pointer, RESOURCE.name * 8],
    ["sibling", pointer, RESOURCE.sibling * 8],
    ["child", pointer, RESOURCE.child * 8],
  ]);
  const bits = w.array(u64, CPUMASK_BYTES / 8, u32);
  w.struct("cpumask", CPUMASK_BYTES, [["bits", bits, 0]]);
  return w.bytes();
}

export function kernelTypes(): Btf {
  return Btf.parse(kernelTypesBytes(), { name: "synthetic" });
}
