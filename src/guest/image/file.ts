/** Access to a memory file's bytes: copies, mapped windows, and a search that skips the file's holes. */

import { KtstrError, SyscallError } from "../../errors.ts";
import { Fd, lseek, Mapping, mmap, pread, SEEK_DATA, SEEK_END, SEEK_HOLE } from "../../ffi.ts";
import { EINVAL, errnoName } from "../../uapi/errno.ts";
import type { PageObserver } from "./observed.ts";
import { WINDOW_BYTES } from "./physical.ts";

/**
 * A search maps this many bytes at a time, and populates the page tables in one call. Measured on 512 MiB, 8 MiB at a time:
 * 21 ms; by page faults 34 ms and 512 MiB resident; by read(2) 58 ms. The size of a larger mapping would trigger a garbage
 * collection.
 */
const SEARCH_BYTES = 4 * 2 ** 20;
/** Offsets of mappings are multiples of the page size, which is at most 64 KiB. */
const MAP_ALIGNMENT = 65_536;
/** asm-generic/mman-common.h, since 5.14. Older kernels reject it, and pages are then populated by page faults. */
const MADV_POPULATE_READ = 22;
/** asm-generic/mman-common.h. */
const MADV_DONTNEED = 4;
const GUEST_PAGE_BYTES = 4096;
/** Limit on extents. After that many, the rest of the file is read including its holes. */
const MAX_EXTENTS = 1_000_000;

/** A file whose bytes can be read at any offset. */
export interface ReadableFile extends Disposable {
  readonly path: string;
  /** Size when the file was opened. */
  readonly sizeBytes: number;
  /** Throws `KtstrError` if the file is shorter than when it was opened. */
  check(): void;
  /** Removes mapped pages from this process's resident memory; absent if the file is not mapped. */
  releasePages?(): void;
  /** Reads up to `length` bytes at an offset; fewer at the end of the file. */
  read(offset: number, length: number): Uint8Array<ArrayBuffer>;
}

/**
 * A file whose bytes can also be accessed in place: mapped (`ImageFile`), read whole (small-file.ts), or filled page by
 * page (on-demand.ts).
 */
export interface DataFile extends ReadableFile {
  /** Whether windows become invalid when the file is closed. If false, they are views of a copy in the heap. */
  readonly isMapped: boolean;
  /** Returns up to `length` bytes at `offset`, at most `WINDOW_BYTES`. Valid until the file is closed. */
  window(offset: number, length: number): Uint8Array;
  /**
   * Visits the data between two offsets. `view` holds whole 4 KiB pages, counted from `from`; it starts at `offset` in
   * the file. Stops if `visit` returns true. `view` is only valid during the call.
   */
  search(from: number, to: number, visit: (view: DataView, offset: number) => boolean): void;
}

/** A file with pages that are read when they are first accessed. */
export interface OnDemandPages extends PageObserver {
  /** Marks all pages as unread, because the memory belongs to a running machine. The next access reads them again. */
  forget(): void;
}

export class ImageFile implements DataFile {
  readonly path: string;
  readonly isMapped = true;
  readonly sizeBytes: number;
  readonly #fd: Fd;
  readonly #chunks: (Mapping | undefined)[] = [];

  /**
   * Opens the file, or takes ownership of the open descriptor `fd`. Throws `SyscallError` if the file cannot be opened or
   * read, `KtstrError` if it is empty.
   */
  constructor(path: string, fd?: Fd) {
    this.path = path;
    this.#fd = fd ?? Fd.openFile(path, "Check the path, and that this user may read the file.");
    try {
      this.sizeBytes = this.#currentSize();
      if (this.sizeBytes === 0) throw new KtstrError(`read ${path}: the file is empty`);
      this.read(0, 1);
    } catch (error) {
      this.#fd[Symbol.dispose]();
      throw error;
    }
  }

  #currentSize(): number {
    const size = lseek(this.#fd.number, 0, SEEK_END);
    if (size < 0) throw new SyscallError("lseek", this.path, -size, errnoName(-size));
    return size;
  }

  /**
   * Throws `KtstrError` if the file is shorter than when it was opened: an access to its mapping would end the process
   * with SIGBUS. Called before every search and every listing. A file that shrinks during one of them is not detected.
   */
  check(): void {
    const size = this.#currentSize();
    if (size >= this.sizeBytes) return;
    throw new KtstrError(
      `read ${this.path}: the file shrank from ${this.sizeBytes} to ${size} bytes since it was opened`,
      { hint: "Use a file that is not being written to: stop the machine, or copy the memory first." },
    );
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const into = new Uint8Array(new ArrayBuffer(Math.max(0, Math.min(length, this.sizeBytes - offset))));
    if (into.length === 0) return into;
    const got = pread(this.#fd.number, into, offset);
    if (got < 0) throw new SyscallError("pread", this.path, -got, errnoName(-got));
    return into.subarray(0, got);
  }

  /** Returns a mapped view that ends at most at the end of the window that contains `offset`. */
  window(offset: number, length: number): Uint8Array {
    const index = Math.floor(offset / WINDOW_BYTES);
    const start = index * WINDOW_BYTES;
    this.#chunks[index] ??= this.#map(start, Math.min(WINDOW_BYTES, this.sizeBytes - start));
    const { buffer } = this.#chunks[index]!;
    return new Uint8Array(buffer, offset - start, Math.min(length, buffer.byteLength - (offset - start)));
  }

  /**
   * Removes the file's pages from this process's resident memory. Windows stay valid: the next access to a page maps it again,
   * usually from the page cache.
   */
  releasePages(): void {
    for (const mapping of this.#chunks) mapping?.advise(MADV_DONTNEED);
  }

  #map(offset: number, length: number): Mapping {
    return mapped(this.path, mmap({ fd: this.#fd.number, offset, length }));
  }

  /** Yields the ranges between two offsets that hold data. If the file system does not report holes, all of it is data. */
  *extents(from: number, to: number): Generator<{ readonly start: number; readonly end: number }> {
    let at = from;
    for (let count = 0; at < to && count < MAX_EXTENTS; count++) {
      const start = lseek(this.#fd.number, at, SEEK_DATA);
      if (start === -EINVAL) break;
      if (start < 0 || start >= to) return;
      const hole = lseek(this.#fd.number, start, SEEK_HOLE);
      const end = hole < 0 ? to : Math.min(hole, to);
      yield { start, end };
      at = end;
    }
    if (at < to) yield { start: at, end: to };
  }

  search(from: number, to: number, visit: (view: DataView, offset: number) => boolean): void {
    using pages = new SearchWindow(this.path, this.#fd.number);
    for (const { start, end } of this.extents(from, to)) {
      // Extents end at file system blocks, which may be smaller than guest pages.
      let at = from + Math.floor((start - from) / GUEST_PAGE_BYTES) * GUEST_PAGE_BYTES;
      while (at < end) {
        this.check();
        const stop = Math.min(
          at + SEARCH_BYTES,
          from + Math.ceil((end - from) / GUEST_PAGE_BYTES) * GUEST_PAGE_BYTES,
          to,
        );
        if (visit(pages.view(at, stop), at)) return;
        at = stop;
      }
    }
  }

  [Symbol.dispose](): void {
    for (const mapping of this.#chunks) mapping?.[Symbol.dispose]();
    this.#chunks.length = 0;
    this.#fd[Symbol.dispose]();
  }
}

/** A mapping that a search moves through a file. */
class SearchWindow implements Disposable {
  readonly #path: string;
  readonly #fd: number;
  #mapping: Mapping | undefined;

  constructor(path: string, fd: number) {
    this.#path = path;
    this.#fd = fd;
  }

  /** Returns the bytes between two offsets, at most `SEARCH_BYTES`. Valid until the next call. Throws `SyscallError`. */
  view(from: number, to: number): DataView {
    const start = from - (from % MAP_ALIGNMENT);
    const mapping = this.#moveTo(start);
    mapping.advise(MADV_POPULATE_READ, to - start);
    return new DataView(mapping.buffer, from - start, to - from);
  }

  #moveTo(offset: number): Mapping {
    if (this.#mapping === undefined) {
      const length = SEARCH_BYTES + MAP_ALIGNMENT;
      this.#mapping = mapped(this.#path, mmap({ fd: this.#fd, offset, length }));
    } else {
      const error = this.#mapping.replace(this.#fd, offset);
      if (error < 0) throw new SyscallError("mmap", this.#path, -error, errnoName(-error));
    }
    return this.#mapping;
  }

  [Symbol.dispose](): void {
    this.#mapping?.[Symbol.dispose]();
  }
}

/** Throws `SyscallError` for the `-errno` of a mapping that failed. */
function mapped(path: string, mapping: Mapping | number): Mapping {
  if (mapping instanceof Mapping) return mapping;
  throw new SyscallError("mmap", path, -mapping, errnoName(-mapping));
}
