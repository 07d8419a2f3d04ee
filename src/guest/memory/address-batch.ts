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
