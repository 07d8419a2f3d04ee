/** Exact 64-bit integers as JavaScript values. */

/**
 * A u64 or i64 from its two u32 halves: a number where 53 bits hold it, else a bigint. Both print the same digits, and
 * `===` between two results of this function means equal values.
 */
export function exactInteger(low: number, high: number, signed: boolean): number | bigint {
  const top = signed ? high | 0 : high;
  const value = top * 0x1_0000_0000 + low;
  if (Number.isSafeInteger(value)) return value;
  return (BigInt(top) << 32n) | BigInt(low);
}
