/** Reads and writes exact integers in little-endian bytes. Reads return a bigint only if a value needs more than 53 bits. */

/**
 * Combines two u32 halves to a u64 or i64: a number if it fits in 53 bits, else a bigint. Both print the same digits.
 * `===` on two results compares their values.
 */
export function exactInteger(low: number, high: number, signed: boolean): number | bigint {
  const top = signed ? high | 0 : high;
  const value = top * 0x1_0000_0000 + low;
  if (Number.isSafeInteger(value)) return value;
  return (BigInt(top) << 32n) | BigInt(low);
}

/** Reads an integer of 1 to 16 bytes. The caller checks the bounds. */
export function readInteger(bytes: Uint8Array, at: number, size: number, signed: boolean): number | bigint {
  switch (size) {
    case 1:
      return signed ? (bytes[at]! << 24) >> 24 : bytes[at]!;
    case 2: {
      const value = bytes[at]! | (bytes[at + 1]! << 8);
      return signed ? (value << 16) >> 16 : value;
    }
    case 4:
      return signed ? readU32(bytes, at) | 0 : readU32(bytes, at);
    case 8:
      return exactInteger(readU32(bytes, at), readU32(bytes, at + 4), signed);
    default:
      return readBits(bytes, at, 0, size * 8, signed);
  }
}

export function readU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Reads `bitCount` (at most 255) bits, starting at bit `bitOffset` of byte `at`. */
export function readBits(
  bytes: Uint8Array,
  at: number,
  bitOffset: number,
  bitCount: number,
  signed: boolean,
): number | bigint {
  const first = at + (bitOffset >>> 3);
  const shift = bitOffset & 7;
  if (shift + bitCount > 32) return readWideBits(bytes, first, shift, bitCount, signed);
  if (bitCount === 0) return 0;
  let word = 0;
  for (let n = 0; n * 8 < shift + bitCount; n++) word |= bytes[first + n]! << (8 * n);
  const aligned = word << (32 - shift - bitCount);
  return signed ? aligned >> (32 - bitCount) : aligned >>> (32 - bitCount);
}

function readWideBits(
  bytes: Uint8Array,
  first: number,
  shift: number,
  bitCount: number,
  signed: boolean,
): number | bigint {
  let value = 0n;
  for (let n = 0; n * 8 < shift + bitCount; n++) value |= BigInt(bytes[first + n]!) << BigInt(8 * n);
  value >>= BigInt(shift);
  const exact = signed ? BigInt.asIntN(bitCount, value) : BigInt.asUintN(bitCount, value);
  const number = Number(exact);
  return Number.isSafeInteger(number) ? number : exact;
}

/** Returns the number of bytes that contain `bitCount` bits starting at bit `bitOffset`. */
export function bytesOfBits(bitOffset: number, bitCount: number): number {
  return Math.ceil((bitOffset + bitCount) / 8);
}

/** Writes `bitCount` bits and preserves the bits around them. A value that does not fit loses its upper bits. */
export function writeBits(
  bytes: Uint8Array,
  at: number,
  bitOffset: number,
  bitCount: number,
  value: bigint,
): void {
  let rest = BigInt.asUintN(bitCount, value) << BigInt(bitOffset);
  let mask = ((1n << BigInt(bitCount)) - 1n) << BigInt(bitOffset);
  for (let n = at; mask > 0n; n++, mask >>= 8n, rest >>= 8n)
    bytes[n] = (bytes[n]! & ~Number(mask & 0xffn)) | Number(rest & 0xffn);
}

/** Writes an integer of 1, 2, 4 or 8 bytes. The caller checks the range. */
export function writeInteger(bytes: Uint8Array, at: number, size: number, value: number): void {
  const high = Math.floor(value / 0x1_0000_0000);
  for (let n = 0; n < size; n++) bytes[at + n] = n < 4 ? value >>> (8 * n) : high >> (8 * (n - 4));
}
