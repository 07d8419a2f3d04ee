/** State and limits of a walk over the parts of a value. Every renderer uses it. */
import { FormatError } from "../errors.ts";
import type { Btf } from "./btf.ts";

/** Maximum nesting of structs and arrays. The kernel accepts 32 levels (kernel/bpf/btf.c, MAX_RESOLVE_DEPTH). */
const MAX_DEPTH = 64;
/** Limit on the number of parts: a base for a value of 0 bytes, plus an amount per byte, because unions repeat bytes. */
const PARTS_BASE = 10_000;
const PARTS_PER_BYTE = 64;

/** A walk over the parts of a value. Throws `FormatError` if the type is hostile. */
export class ValueWalk {
  readonly btf: Btf;
  readonly bytes: Uint8Array;
  /** End of a flexible array: the end of the value, or in a section the end of the variable. */
  end: number;
  #parts: number;
  #depth = 0;

  constructor(btf: Btf, bytes: Uint8Array) {
    this.btf = btf;
    this.bytes = bytes;
    this.end = bytes.length;
    this.#parts = PARTS_BASE + PARTS_PER_BYTE * bytes.length;
  }

  /** Returns whether the bytes `at .. at + size` exist. */
  has(at: number, size: number): boolean {
    return at + size <= this.bytes.length;
  }

  /** Counts one part of the value. Call it before the part is rendered. */
  countPart(): void {
    if (--this.#parts < 0) throw this.#limitError("its type has more parts than its bytes can fill");
  }

  enter(): void {
    if (++this.#depth > MAX_DEPTH) throw this.#limitError(`its type nests deeper than ${MAX_DEPTH}`);
  }

  leave(): void {
    this.#depth--;
  }

  #limitError(problem: string): FormatError {
    return new FormatError(
      this.btf.name === "" ? "BTF" : `BTF ${this.btf.name}`,
      0,
      `a value cannot be shown: ${problem}`,
    );
  }
}
