/**
 * A kernel virtual address: the two words of a little-endian u64 as int32, as `DataView.getInt32` returns them. A double
 * cannot hold it (5-level paging uses 57 bits), and reading a BigInt costs 20 to 30 ns. Addresses are converted when printed.
 */
export interface Pointer {
  readonly hi: number;
  readonly lo: number;
}

export const NULL: Pointer = { hi: 0, lo: 0 };

/** Returns the pointer with these words, which can be signed or unsigned. */
export function pointer(hi: number, lo: number): Pointer {
  return { hi: hi | 0, lo: lo | 0 };
}

export function isNull(at: Pointer): boolean {
  return (at.hi | at.lo) === 0;
}

/** Returns `at + offset` modulo 2^64. `offset` is an integer, negative for a `container_of`. */
export function add(at: Pointer, offset: number): Pointer {
  const sum = (at.lo >>> 0) + offset;
  return { hi: (at.hi + Math.floor(sum / 2 ** 32)) | 0, lo: sum | 0 };
}

/** Returns `to - from` in bytes; exact if it fits 53 bits. */
export function distance(from: Pointer, to: Pointer): number {
  return ((to.hi >>> 0) - (from.hi >>> 0)) * 2 ** 32 + ((to.lo >>> 0) - (from.lo >>> 0));
}

/** Returns whether `a < b`, both unsigned. */
export function isBelow(a: Pointer, b: Pointer): boolean {
  return a.hi === b.hi ? a.lo >>> 0 < b.lo >>> 0 : a.hi >>> 0 < b.hi >>> 0;
}

/** Returns 0 to 2^64-1. */
export function toBigInt(hi: number, lo: number): bigint {
  return (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
}

/** Converts an address modulo 2^64. */
export function fromBigInt(address: bigint): Pointer {
  return { hi: Number(BigInt.asIntN(32, address >> 32n)), lo: Number(BigInt.asIntN(32, address)) };
}

/** Formats as 16 hexadecimal digits: "0xffffffff81000000". */
export function hex(hi: number, lo: number): string {
  return `0x${(hi >>> 0).toString(16).padStart(8, "0")}${(lo >>> 0).toString(16).padStart(8, "0")}`;
}
