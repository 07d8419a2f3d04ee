/**
 * Memory that cannot be mapped from its file, such as compressed pages or another process's memory. Pages are read into
 * a private mapping when they are first accessed. The mapping covers the machine's whole address range; pages that are
 * not accessed use no memory.
 */
import { SyscallError } from "../../errors.ts";
import { type Mapping, mmapPrivate } from "../../ffi.ts";
import { errnoName } from "../../uapi/errno.ts";
import { viewOf } from "../../uapi/layout.ts";
import type { DataFile, OnDemandPages } from "./file.ts";
import type { Piece } from "./format.ts";
import { WINDOW_BYTES } from "./physical.ts";

/** Consecutive pages in a dump, as physical addresses that are multiples of the source's `pageBytes`. */
export interface PageRange {
  readonly start: number;
  readonly end: number;
}

/** Reads single pages of a dump or process. */
export interface PageSource extends Disposable {
  readonly path: string;
  /** A power of two, 4 KiB to 64 KiB. */
  readonly pageBytes: number;
  /** The pages in the source, ascending, without overlaps. */
  readonly ranges: readonly PageRange[];
  /** Throws `KtstrError` if the file is shorter than when it was opened. */
  check(): void;
  /** Drops cached data if the memory can change. */
  forget?(): void;
  /** Reads the page at a physical address in `ranges` into `pageBytes` bytes. Returns false if the page is damaged. */
  readPage(physical: number, into: Uint8Array<ArrayBuffer>): boolean;
}

const UNREAD = 0;
const READ = 1;
const DAMAGED = 2;

interface Chunk {
  readonly mapping: Mapping;
  /** One byte per page: `UNREAD`, `READ` or `DAMAGED`. */
  readonly state: Uint8Array;
}

/** Bytes that `search` reads at a time. */
const SEARCH_BYTES = 4 * 2 ** 20;

/**
 * A `DataFile` whose offsets are physical addresses, or offsets in a machine's RAM if a stream has no addresses. Callers
 * must call `note` before they read a window (memory/observed.ts); it reads the pages.
 */
export class OnDemandFile implements DataFile, OnDemandPages {
  readonly path: string;
  readonly isMapped = true;
  readonly sizeBytes: number;
  /** Number of pages that could not be read. */
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

  /** All pages, as pieces whose file offset is their physical address. */
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
        "Is there a limit on address space (ulimit -v)?",
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

  /** Reads pages into a buffer, not into the mapping: a search of a whole dump would otherwise keep all of its pages. */
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
