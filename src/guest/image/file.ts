/** A memory file: mapped in windows, searched through its data and not through its holes. */
import { KtstrError, SyscallError } from "../../errors.ts";
import { Fd, lseek, Mapping, mmap, pread, SEEK_DATA, SEEK_END, SEEK_HOLE } from "../../ffi.ts";
import { EINVAL, errnoName } from "../../uapi/errno.ts";
import { WINDOW_BYTES } from "./physical.ts";

/**
 * A search maps this much at a time, fills its page tables in one call, and lets it go again: measured on 512 MiB,
 * 21 ms and 8 MiB resident, against 34 ms and all of it by touching pages, and 58 ms by reading.
 */
const SEARCH_BYTES = 8 * 2 ** 20;
/** asm-generic/mman-common.h, since 5.14; older kernels refuse it, and the pages come by faults. */
const MADV_POPULATE_READ = 22;
const GUEST_PAGE_BYTES = 4096;
/** More extents than a file system makes of one file in use: then holes are read as the zeros that they are. */
const MAX_EXTENTS = 1_000_000;

/** A file's bytes, read by their place. */
export interface ReadableFile extends Disposable {
  readonly path: string;
  /** At the time that it was opened. */
  readonly sizeBytes: number;
  /** Throws `KtstrError` where it is shorter than when it was opened. */
  check(): void;
  /** Up to `length` bytes at an offset; fewer where the file ends. */
  read(offset: number, length: number): Uint8Array<ArrayBuffer>;
}

/**
 * One whose bytes can also be had in place: mapped (`ImageFile`), read whole (`small-file.ts`), or filled page by page
 * (`on-demand.ts`).
 */
export interface DataFile extends ReadableFile {
  /** Its windows are views of the file, and gone when it is closed; false: of a copy that stays. */
  readonly isMapped: boolean;
  /** Up to `length` bytes from `offset` on, at most `WINDOW_BYTES`. Good until the file is closed. */
  window(offset: number, length: number): Uint8Array;
  /**
   * Visits data between two offsets, page by page: `view` holds whole pages of 4 KiB, counted from `from`, of which
   * the first lies at `offset` in the file. Ends early where `visit` answers true. `view` is good during the visit.
   */
  search(from: number, to: number, visit: (view: DataView, offset: number) => boolean): void;
}

export class ImageFile implements DataFile {
  readonly path: string;
  readonly isMapped = true;
  readonly sizeBytes: number;
  readonly #fd: Fd;
  readonly #chunks: (Mapping | undefined)[] = [];

  /**
   * Takes `fd` over, where the file is open. Throws `SyscallError` where it cannot be opened or read, `KtstrError` where
   * it is empty.
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
   * Throws `KtstrError` where the file is shorter than when it was opened: its mappings would end the process with
   * SIGBUS. Asked before every search and by every listing; what shrinks within one is beyond our reach.
   */
  check(): void {
    const size = this.#currentSize();
    if (size >= this.sizeBytes) return;
    throw new KtstrError(
      `read ${this.path}: the file shrank from ${this.sizeBytes} to ${size} bytes since it was opened`,
      { hint: "Give a file that nobody writes to: stop the machine, or copy the memory first." },
    );
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const into = new Uint8Array(new ArrayBuffer(Math.max(0, Math.min(length, this.sizeBytes - offset))));
    if (into.length === 0) return into;
    const got = pread(this.#fd.number, into, offset);
    if (got < 0) throw new SyscallError("pread", this.path, -got, errnoName(-got));
    return into.subarray(0, got);
  }

  /** Mapped: up to the end of the window that they begin in. */
  window(offset: number, length: number): Uint8Array {
    const index = Math.floor(offset / WINDOW_BYTES);
    const start = index * WINDOW_BYTES;
    this.#chunks[index] ??= this.#map(start, Math.min(WINDOW_BYTES, this.sizeBytes - start));
    const { buffer } = this.#chunks[index]!;
    return new Uint8Array(buffer, offset - start, Math.min(length, buffer.byteLength - (offset - start)));
  }

  #map(offset: number, length: number): Mapping {
    const mapping = mmap({ fd: this.#fd.number, offset, length });
    if (mapping instanceof Mapping) return mapping;
    throw new SyscallError("mmap", this.path, -mapping, errnoName(-mapping));
  }

  /** Where the file has data between two offsets; holes lie between. A file system without holes is all data. */
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
    for (const { start, end } of this.extents(from, to)) {
      // Extents end at blocks of the file system, which need not be the guest's pages.
      let at = from + Math.floor((start - from) / GUEST_PAGE_BYTES) * GUEST_PAGE_BYTES;
      while (at < end) {
        this.check();
        const stop = Math.min(
          at + SEARCH_BYTES,
          from + Math.ceil((end - from) / GUEST_PAGE_BYTES) * GUEST_PAGE_BYTES,
          to,
        );
        if (this.#visit(at, stop, visit)) return;
        at = stop;
      }
    }
  }

  #visit(from: number, to: number, visit: (view: DataView, offset: number) => boolean): boolean {
    const start = from - (from % 65_536);
    using mapping = this.#map(start, to - start);
    mapping.advise(MADV_POPULATE_READ);
    return visit(new DataView(mapping.buffer, from - start, to - from), from);
  }

  [Symbol.dispose](): void {
    for (const mapping of this.#chunks) mapping?.[Symbol.dispose]();
    this.#chunks.length = 0;
    this.#fd[Symbol.dispose]();
  }
}
