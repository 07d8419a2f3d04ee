/** Base class for decoders of files that are sequences of records with a stored length. */
import type { Decoder, Step } from "./unpack.ts";

const FIRST_BYTES = 2 ** 18;

export abstract class RecordDecoder implements Decoder {
  #held: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(FIRST_BYTES));
  #length = 0;
  #wanted = 0;
  /** Output that does not fit the caller's buffer yet. */
  #output: Uint8Array<ArrayBuffer>[] = [];

  /**
   * Called with at least the wanted number of bytes. Consumes bytes with `next`, or asks for more with `want`. Throws `Error`
   * with a clause as its message if the data is damaged.
   */
  protected abstract parse(held: Uint8Array<ArrayBuffer>): void;

  /** Whether the decoder is between records, so that the file may end here. */
  protected abstract get isBetweenRecords(): boolean;

  /** Called at the end of the file with the remaining bytes. May output data. */
  protected atEnd(_held: Uint8Array<ArrayBuffer>): void {}

  /** Keeps the held bytes, and calls `parse` when there are `bytes` of them. */
  protected want(bytes: number): void {
    this.#wanted = bytes;
  }

  /** Drops the first `taken` of the held bytes, and calls `parse` when there are `wanted` bytes. */
  protected next(taken: number, wanted: number): void {
    this.#held.copyWithin(0, taken, this.#length);
    this.#length -= taken;
    this.#wanted = wanted;
  }

  /** Appends to the output. `bytes` must not change afterwards. */
  protected give(bytes: Uint8Array<ArrayBuffer>): void {
    if (bytes.length > 0) this.#output.push(bytes);
  }

  step(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): Step {
    if (this.#output.length > 0) return { taken: 0, given: this.#flush(into) };
    // Zeros between records can be padding; the caller decides.
    if (this.isBetweenRecords && this.#length === 0 && from[0] === 0) return { taken: 0, given: 0 };
    const taken = Math.max(0, Math.min(from.length, this.#wanted - this.#length));
    this.#hold(from.subarray(0, taken));
    if (this.#length >= this.#wanted) this.parse(this.#held.subarray(0, this.#length));
    return { taken, given: this.#flush(into) };
  }

  end(into: Uint8Array<ArrayBuffer>): Step {
    if (this.#output.length === 0) {
      this.atEnd(this.#held.subarray(0, this.#length));
      if (this.#output.length === 0 && !(this.isBetweenRecords && this.#length === 0))
        throw new Error("the file is truncated");
    }
    return { taken: 0, given: this.#flush(into) };
  }

  #flush(into: Uint8Array<ArrayBuffer>): number {
    const [first] = this.#output;
    if (first === undefined) return 0;
    const part = first.subarray(0, into.length);
    into.set(part);
    if (part.length === first.length) this.#output.shift();
    else this.#output[0] = first.subarray(part.length);
    return part.length;
  }

  #hold(bytes: Uint8Array<ArrayBuffer>): void {
    const length = this.#length + bytes.length;
    if (length > this.#held.length) {
      const larger = new Uint8Array(new ArrayBuffer(2 * length));
      larger.set(this.#held.subarray(0, this.#length));
      this.#held = larger;
    }
    this.#held.set(bytes, this.#length);
    this.#length = length;
  }

  [Symbol.dispose](): void {}
}
