/**
 * Memory that cannot be mapped from its file: compressed pages, or bytes of another process. It is a private mapping
 * with an address for every page of the machine, into which pages are read before somebody looks at them. Pages that
 * nobody looks at cost nothing.
 */
import { SyscallError } from "../../errors.ts";
import { type Mapping, mmapPrivate } from "../../ffi.ts";
import { errnoName } from "../../uapi/errno.ts";
import { viewOf } from "../../uapi/layout.ts";
import type { DataFile } from "./file.ts";
import type { Piece } from "./format.ts";
import type { PageObserver } from "./observed.ts";
import { WINDOW_BYTES } from "./physical.ts";

/** Consecutive pages that a dump holds, as physical addresses: multiples of the source's `pageBytes`. */
export interface PageRange {
  readonly start: number;
  readonly end: number;
}

/** Where pages come from. */
export interface PageSource extends Disposable {
  readonly path: string;
  /** A power of two, 4 KiB to 64 KiB. */
  readonly pageBytes: number;
  /** What it holds, ascending, without overlaps. */
  readonly ranges: readonly PageRange[];
  /** Throws `KtstrError` where its file shrank. */
  check(): void;
  /** Drops what it keeps of memory that changes. */
  forget?(): void;
  /** Reads the page at a physical address (which `ranges` hold) into `pageBytes` bytes; false: it is damaged. */
  readPage(physical: number, into: Uint8Array<ArrayBuffer>): boolean;
}

const UNREAD = 0;
const READ = 1;
const DAMAGED = 2;

interface Chunk {
  readonly mapping: Mapping;
  /** One byte a page: `UNREAD`, `READ` or `DAMAGED`. */
  readonly state: Uint8Array;
}

/** How many pages `search` reads at a time. */
const SEARCH_BYTES = 4 * 2 ** 20;

/**
 * A `DataFile` whose offsets are physical addresses, or places in a machine's RAM where a stream does not say where that
 * belongs. Windows are filled by `note`, which whoever reads them calls first
 * (memory/observed.ts).
 */
export class OnDemandFile implements DataFile, PageObserver {
  readonly path: string;
  readonly isMapped = true;
  readonly sizeBytes: number;
  /** Pages that could not be read when they were asked for. */
  damagedPages = 0;
  readonly #source: PageSource;
  readonly #pageBytes: number;
  readonly #chunks: Map<number, Chunk> = new Map();

  constructor(source: PageSource) {
    this.path = source.path;
    this.#source = source;
    this.#pageBytes = source.pageBytes;
    this.sizeBytes = source.ranges.at(-1)?.end ?? 0;
  }

  /** All that it holds. */
  get pieces(): readonly Piece[] {
    return this.#source.ranges.map(({ start, end }) => ({
      fileOffset: start,
      physical: start,
      length: end - start,
    }));
  }

  check(): void {
    this.#source.check();
  }

  note(physical: number, length: number): boolean {
    const pageBytes = this.#pageBytes;
    const end = physical + length;
    for (let at = physical - (physical % pageBytes); at < end; at += pageBytes)
      if (!this.#fill(at)) return false;
    return true;
  }

  /** Reads every page anew that somebody looks at from now on: the memory is that of a machine that goes on. */
  forget(): void {
    for (const { state } of this.#chunks.values()) state.fill(UNREAD);
    this.#source.forget?.();
  }

  #fill(physical: number): boolean {
    const index = Math.floor(physical / WINDOW_BYTES);
    const { mapping, state } = this.#chunks.get(index) ?? this.#map(index);
    const inChunk = physical - index * WINDOW_BYTES;
    const page = inChunk / this.#pageBytes;
    if (state[page] === UNREAD) {
      const into = new Uint8Array(mapping.buffer, inChunk, this.#pageBytes);
      state[page] = this.#source.readPage(physical, into) ? READ : DAMAGED;
      if (state[page] === DAMAGED) this.damagedPages++;
    }
    return state[page] === READ;
  }

  #map(index: number): Chunk {
    const mapping = mmapPrivate(WINDOW_BYTES);
    if (typeof mapping === "number")
      throw new SyscallError(
        "mmap",
        this.path,
        -mapping,
        errnoName(-mapping),
        "Is there a limit (ulimit -v)?",
      );
    const chunk = { mapping, state: new Uint8Array(WINDOW_BYTES / this.#pageBytes) };
    this.#chunks.set(index, chunk);
    return chunk;
  }

  window(offset: number, length: number): Uint8Array {
    const index = Math.floor(offset / WINDOW_BYTES);
    const { mapping } = this.#chunks.get(index) ?? this.#map(index);
    const inChunk = offset - index * WINDOW_BYTES;
    return new Uint8Array(mapping.buffer, inChunk, Math.min(length, WINDOW_BYTES - inChunk));
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const into = new Uint8Array(new ArrayBuffer(length));
    let done = 0;
    while (done < length && this.note(offset + done, 1)) {
      const part = this.window(
        offset + done,
        Math.min(length - done, this.#pageBytes - ((offset + done) % this.#pageBytes)),
      );
      into.set(part, done);
      done += part.length;
    }
    return into.subarray(0, done);
  }

  /** Pages are read past the windows: a search of a whole dump keeps none of them. */
  search(from: number, to: number, visit: (view: DataView, offset: number) => boolean): void {
    const buffer = new Uint8Array(new ArrayBuffer(SEARCH_BYTES));
    const pageBytes = this.#pageBytes;
    for (const { start, end } of this.#source.ranges) {
      const stop = Math.min(end, to);
      for (let at = Math.max(start, from); at < stop; ) {
        let filled = 0;
        for (; filled < SEARCH_BYTES && at + filled < stop; filled += pageBytes) {
          const into = new Uint8Array(buffer.buffer, filled, pageBytes);
          if (!this.#source.readPage(at + filled, into)) into.fill(0);
        }
        if (visit(viewOf(buffer.subarray(0, Math.min(filled, stop - at))), at)) return;
        at += filled;
      }
    }
  }

  [Symbol.dispose](): void {
    for (const { mapping } of this.#chunks.values()) mapping[Symbol.dispose]();
    this.#chunks.clear();
    this.#source[Symbol.dispose]();
  }
}
