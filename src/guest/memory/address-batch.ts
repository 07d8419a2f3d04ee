/**
 * A batch of addresses and the places where they were found. Locating many addresses at once lets memory accesses overlap.
 */
export interface AddressBatch {
  readonly hi: Int32Array;
  readonly lo: Int32Array;
  /** Offset of each in its window; -1 if it is split or not found here. */
  readonly at: Int32Array;
  /** The index of that window in `physical.windows`. */
  readonly index: Int32Array;
}

/** Allocates a batch for `size` addresses. */
export function addressBatch(size: number): AddressBatch {
  const words = (): Int32Array => new Int32Array(size);
  return { hi: words(), lo: words(), at: words(), index: words() };
}

/** With the sign bit flipped, int32 words compare like unsigned ones. */
const SIGN = 0x8000_0000 | 0;

/** Sets the addresses of a batch to `hi:lo` plus each of `offsetHi:offsetLo`: a per-CPU address on each CPU. */
export function addEach(
  { hi: highs, lo: lows }: AddressBatch,
  hi: number,
  lo: number,
  offsetHi: Int32Array,
  offsetLo: Int32Array,
): void {
  for (let n = 0; n < offsetLo.length; n++) {
    const low = (lo + offsetLo[n]!) | 0;
    lows[n] = low;
    highs[n] = (hi + offsetHi[n]! + ((low ^ SIGN) < (lo ^ SIGN) ? 1 : 0)) | 0;
  }
}
