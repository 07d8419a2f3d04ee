/** What every renderer shares: where it reads, and how far it may go. */
import { FormatError } from "../errors.ts";
import type { Btf } from "./btf.ts";

/** Structs and arrays in each other; the kernel accepts 32 (kernel/bpf/btf.c, MAX_RESOLVE_DEPTH). */
const MAX_DEPTH = 64;
/** Parts that a value of no bytes may still have, and how many more each of its bytes allows: unions repeat them. */
const PARTS_BASE = 10_000;
const PARTS_PER_BYTE = 64;

/** One rendering. A type that was made to be hostile ends it with a `FormatError`. */
export class Walk {
  readonly btf: Btf;
  readonly bytes: Uint8Array;
  /** Where a flexible array must end: the value's end, within a section the variable's. */
  end: number;
  #parts: number;
  #depth = 0;

  constructor(btf: Btf, bytes: Uint8Array) {
    this.btf = btf;
    this.bytes = bytes;
    this.end = bytes.length;
    this.#parts = PARTS_BASE + PARTS_PER_BYTE * bytes.length;
  }

  /** Whether all of these bytes are there. */
  has(at: number, size: number): boolean {
    return at + size <= this.bytes.length;
  }

  /** Counts one part of the value, before it is rendered. */
  part(): void {
    if (--this.#parts < 0) throw this.#tooMuch("its type has more parts than its bytes can fill");
  }

  enter(): void {
    if (++this.#depth > MAX_DEPTH) throw this.#tooMuch(`its type nests deeper than ${MAX_DEPTH}`);
  }

  leave(): void {
    this.#depth--;
  }

  #tooMuch(problem: string): FormatError {
    return new FormatError(
      this.btf.name === "" ? "BTF" : `BTF ${this.btf.name}`,
      0,
      `a value cannot be shown: ${problem}`,
    );
  }
}
