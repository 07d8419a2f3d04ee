/** A decoder of files that are records one after the other, each of which says how long it is. */
import type { Decoder, Step } from "./unpack.ts";

const FIRST_BYTES = 2 ** 18;

export abstract class RecordDecoder implements Decoder {
  #held: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(FIRST_BYTES));
  #length = 0;
  #wanted = 0;
  /** Pieces of output that are not given yet. */
  #output: Uint8Array<ArrayBuffer>[] = [];

  /**
   * Given as many bytes as were wanted: takes them (`next`), or wants more of them (`want`). Throws `Error`, whose message
   * is a clause, where they are damaged.
   */
  protected abstract parse(held: Uint8Array<ArrayBuffer>): void;

  /** Whether the file may end here. */
  protected abstract get isBetween(): boolean;

  /** At the end of the file, with the bytes that are held then: gives what is still to be given, if it knows. */
  protected atEnd(_held: Uint8Array<ArrayBuffer>): void {}

  /** Keeps what is held, until there are so many bytes. */
  protected want(bytes: number): void {
    this.#wanted = bytes;
  }

  /** Goes behind the first `taken` of the bytes that are held, and then wants so many. */
  protected next(taken: number, wanted: number): void {
    this.#held.copyWithin(0, taken, this.#length);
    this.#length -= taken;
    this.#wanted = wanted;
  }

  /** Adds to the output; `bytes` stays as it is. */
  protected give(bytes: Uint8Array<ArrayBuffer>): void {
    if (bytes.length > 0) this.#output.push(bytes);
  }

  step(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): Step {
    if (this.#output.length > 0) return { taken: 0, given: this.#flush(into) };
    // Zeros between two records are padding: the caller's to judge.
    if (this.isBetween && this.#length === 0 && from[0] === 0) return { taken: 0, given: 0 };
    const taken = Math.max(0, Math.min(from.length, this.#wanted - this.#length));
    this.#hold(from.subarray(0, taken));
    if (this.#length >= this.#wanted) this.parse(this.#held.subarray(0, this.#length));
    return { taken, given: this.#flush(into) };
  }

  end(into: Uint8Array<ArrayBuffer>): Step {
    if (this.#output.length === 0) {
      this.atEnd(this.#held.subarray(0, this.#length));
      if (this.#output.length === 0 && !(this.isBetween && this.#length === 0))
        throw new Error("it ends too early");
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
