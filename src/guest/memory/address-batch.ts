/**
 * Addresses that are looked for together, and what was found: what waits for memory does so for many of them at once.
 */
export interface AddressBatch {
  readonly hi: Int32Array;
  readonly lo: Int32Array;
  /** Where each lies in its window; -1: in parts, or not known here. */
  readonly at: Int32Array;
  /** Which of `physical.windows` that is. */
  readonly index: Int32Array;
}

/** Room for `size` addresses. */
export function addressBatch(size: number): AddressBatch {
  const words = (): Int32Array => new Int32Array(size);
  return { hi: words(), lo: words(), at: words(), index: words() };
}
