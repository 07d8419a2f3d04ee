/** A page source for files that can be read but not mapped, such as a kdump file inside a flattened dump. */
import type { ReadableFile } from "./file.ts";
import type { Piece } from "./format.ts";
import type { PageRange, PageSource } from "./on-demand.ts";

const PAGE_BYTES = 4096;

/** @public Loaded by formats.ts. */
export class ReadPages implements PageSource {
  readonly path: string;
  readonly pageBytes: number = PAGE_BYTES;
  readonly ranges: readonly PageRange[];
  readonly #file: ReadableFile;
  /** Sorted by physical address. */
  readonly #pieces: readonly Piece[];
  #piece: Piece | undefined;

  /** `pieces` do not overlap. Partial pages at their ends are left out. */
  constructor(file: ReadableFile, pieces: readonly Piece[]) {
    this.path = file.path;
    this.#file = file;
    this.#pieces = pieces.toSorted((a, b) => a.physical - b.physical);
    this.ranges = this.#pieces
      .map(({ physical, length }) => ({
        start: Math.ceil(physical / PAGE_BYTES) * PAGE_BYTES,
        end: Math.floor((physical + length) / PAGE_BYTES) * PAGE_BYTES,
      }))
      .filter(({ start, end }) => start < end);
  }

  check(): void {
    this.#file.check();
  }

  readPage(physical: number, into: Uint8Array<ArrayBuffer>): boolean {
    const piece = this.#pieceAt(physical);
    if (piece === undefined) return false;
    const bytes = this.#file.read(piece.fileOffset + physical - piece.physical, PAGE_BYTES);
    if (bytes.length < PAGE_BYTES) return false;
    into.set(bytes);
    return true;
  }

  #pieceAt(physical: number): Piece | undefined {
    const last = this.#piece;
    if (last !== undefined && physical >= last.physical && physical < last.physical + last.length)
      return last;
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { physical: start, length } = this.#pieces[middle]!;
      if (start + length <= physical) low = middle + 1;
      else high = middle;
    }
    this.#piece = this.#pieces[low];
    return this.#piece;
  }

  [Symbol.dispose](): void {}
}
