/**
 * Opens memory files, and reads small ones whole: compressed files and ELF cores, which include captures. Small files need
 * only a file system, not libc, so a capture can be opened wherever Bun runs.
 */
import { readFileSync } from "node:fs";
import { KtstrError, syscallError } from "../../errors.ts";
import { ELF_MAGIC } from "../../uapi/elf.ts";
import { viewOf } from "../../uapi/layout.ts";
import type { DataFile } from "./file.ts";
import { headOf, isEmbedded, isPipe } from "./head.ts";
import { WINDOW_BYTES } from "./physical.ts";
import type { OnUnpack } from "./temporary.ts";
import { beginsLarge, type Chunks, isZstd } from "./zstd.ts";

/** Larger files are mapped. */
const SMALL_BYTES = 64 * 2 ** 20;

/**
 * Opens a file. A small file that starts like an ELF or zstd file is read whole, a pipe is copied, and any other file is
 * mapped. Throws `SyscallError` if the file cannot be read, `KtstrError` if it is empty.
 */
export function openDataFile(path: string, onUnpack?: OnUnpack): DataFile {
  if (isEmbedded(path)) return new SmallFile(path, [readWhole(path)]);
  if (isPipe(path)) return (require("./pipe.ts") as typeof import("./pipe.ts")).openPipe(path, onUnpack);
  const { magic, bytes, sizeBytes } = wrapErrors(path, () => headOf(path));
  const isWanted = magic === ELF_MAGIC || (isZstd(magic) && !beginsLarge(bytes));
  if (isWanted && sizeBytes <= SMALL_BYTES) return new SmallFile(path, [readWhole(path)]);
  // file.ts opens libc, which is only needed for mapped files.
  const { ImageFile } = require("./file.ts") as typeof import("./file.ts");
  return new ImageFile(path);
}

function readWhole(path: string): Uint8Array<ArrayBuffer> {
  return wrapErrors(path, () => readFileSync(path));
}

const HINTS: Readonly<Record<string, string>> = {
  EISDIR: "Give the file with the memory. In a snapshot of Cloud Hypervisor, it is memory-ranges.",
  // fs/proc/kcore.c, open_kcore.
  EPERM: "/proc/kcore requires CAP_SYS_RAWIO and a kernel that is not locked down (kernel_lockdown(7)).",
};

function wrapErrors<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw syscallError(
      error,
      path,
      (code) => HINTS[code] ?? "Check the path, and that this user may read the file.",
    );
  }
}

/** More chunks than this are joined when the file is opened. */
const MAX_CHUNKS = 64;

export class SmallFile implements DataFile {
  readonly path: string;
  readonly isMapped = false;
  readonly sizeBytes: number;
  #chunks: readonly Uint8Array<ArrayBuffer>[];

  constructor(path: string, chunks: Chunks) {
    this.path = path;
    // Buffers are converted to Uint8Arrays: Buffer's `slice` does not copy.
    this.#chunks = chunks.map(
      ({ buffer, byteOffset, length }) => new Uint8Array(buffer as ArrayBuffer, byteOffset, length),
    );
    this.sizeBytes = chunks.reduce((sum, { length }) => sum + length, 0);
    if (this.sizeBytes === 0) throw new KtstrError(`read ${path}: the file is empty`);
    if (chunks.length > MAX_CHUNKS) this.#join();
  }

  /** Does nothing: the contents are in memory. */
  check(): void {}

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    return this.#range(offset, length).slice();
  }

  window(offset: number, length: number): Uint8Array {
    return this.#range(offset, Math.min(length, WINDOW_BYTES));
  }

  search(from: number, to: number, visit: (view: DataView, offset: number) => boolean): void {
    visit(viewOf(this.#range(from, to - from)), from);
  }

  /** Returns the part of a range that is in the file. Each range of a capture is in one chunk, so no join is needed. */
  #range(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const from = Math.min(offset, this.sizeBytes);
    const to = Math.min(from + Math.max(0, length), this.sizeBytes);
    let start = 0;
    for (const chunk of this.#chunks) {
      if (from >= start && to <= start + chunk.length) return chunk.subarray(from - start, to - start);
      start += chunk.length;
    }
    return this.#join().subarray(from, to);
  }

  #join(): Uint8Array<ArrayBuffer> {
    const whole = new Uint8Array(this.sizeBytes);
    let at = 0;
    for (const chunk of this.#chunks) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    this.#chunks = [whole];
    return whole;
  }

  [Symbol.dispose](): void {}
}
