/** The guest's physical memory, read from files: raw memory, several pieces, or a dump in one of the formats of formats.ts. */
import { readFileSync } from "node:fs";
import { KtstrError, UsageError } from "../../errors.ts";
import { type CaptureNote, parseCaptureNote } from "../capture/note.ts";
import type { DataFile, ReadableFile } from "./file.ts";
import { isOnDemand, type Piece } from "./format.ts";
import { detectFormat } from "./formats.ts";
import type { PageObserver } from "./observed.ts";
import { PhysicalMemory, type Window, windowOf } from "./physical.ts";
import { openDataFile, SmallFile } from "./small-file.ts";
import type { OnUnpack } from "./temporary.ts";
import type { Chunks } from "./zstd.ts";

/** One `--memory FILE[@GPA]`. */
export interface MemorySource {
  readonly path: string;
  /** Guest physical address of the file's first byte. Without it, the layout of a single raw file is guessed. */
  readonly physical?: number;
  /** A format's name from formats.ts. Without it, the format is detected. */
  readonly format?: string | undefined;
  /** The decompressed contents, if decompression was started earlier (zstd.ts). */
  readonly decompressed?: Chunks | undefined;
  /** A running machine's RAM instead of a file. Closed with the image. */
  readonly ram?: DataFile | undefined;
  /** Reads the NT_PRSTATUS notes of that machine: the registers of its CPUs. */
  readonly registers?: (() => readonly Uint8Array[]) | undefined;
}

interface FilePiece extends Piece {
  readonly file: DataFile;
}

const MAX_GROWTH_BYTES = 16 * 2 ** 20;

export class MemoryImage implements Disposable {
  readonly #files: readonly ReadableFile[];
  readonly #pages: PageObserver | undefined;
  #pieces: readonly FilePiece[];
  /** Resident bytes of files after pages were removed; 0 before. */
  #leastResident = 0;
  /**
   * Whether the physical addresses are known. False for a single raw file or migration stream without an address, and for a
   * running machine's RAM.
   */
  readonly layoutIsKnown: boolean;
  /** The VMCOREINFO note of an ELF core. */
  readonly vmcoreinfo: Uint8Array | undefined;
  readonly warnings: readonly string[];
  readonly #registers: () => readonly Uint8Array[];
  #prstatus: readonly Uint8Array[] | undefined;
  /** The contents of a capture's note; undefined if the file is not a capture. */
  readonly captureNote: CaptureNote | undefined;
  /** "raw", or the dump format's name. */
  readonly format: string;
  /** Sentences that say which formats the files resemble, and why they were read as raw memory. */
  readonly doubts: readonly string[];

  /**
   * Opens the files. `onUnpack` receives the progress of a long copy or decompression. Throws `KtstrError` if a file
   * cannot be read or if two files hold the same memory.
   */
  constructor(sources: readonly MemorySource[], onUnpack?: OnUnpack) {
    if (sources.length === 0) throw new UsageError("no memory file was given");
    const files: ReadableFile[] = [];
    this.#files = files;
    const pieces: FilePiece[] = [];
    const warnings: string[] = [];
    let vmcoreinfo: Uint8Array | undefined;
    let captureNote: Uint8Array | undefined;
    const doubts: string[] = [];
    const prstatus: Uint8Array[] = [];
    let runningRegisters: MemorySource["registers"];
    let format = "raw";
    let isPlaced = false;
    try {
      for (const { path, physical, format: named, decompressed, ram, registers } of sources) {
        if (ram !== undefined) {
          files.push(ram);
          pieces.push({ file: ram, fileOffset: 0, physical: 0, length: ram.sizeBytes });
          runningRegisters = registers;
          format = "running machine";
          continue;
        }
        const opened =
          decompressed === undefined ? openDataFile(path, onUnpack) : new SmallFile(path, decompressed);
        files.push(opened);
        const detected = detectFormat(opened, named, onUnpack);
        const { memory: file, contents } = detected;
        files.push(...detected.opened);
        if (file !== opened) files.push(file);
        doubts.push(...detected.doubts);
        if (contents !== undefined) {
          isPlaced = contents.isPlaced !== false;
          if (physical !== undefined && isPlaced)
            throw new UsageError(
              `${path} is ${contents.format} and contains its memory's addresses; omit @ADDRESS`,
              { hint: "`--format raw` reads it as raw memory." },
            );
          if (physical === undefined && !isPlaced && sources.length > 1) throw unplaced(path);
          for (const piece of contents.pieces)
            pieces.push({ file, ...piece, physical: piece.physical + (physical ?? 0) });
          warnings.push(...contents.warnings);
          vmcoreinfo ??= contents.vmcoreinfo;
          captureNote ??= contents.captureNote;
          prstatus.push(...(contents.prstatus ?? []));
          format = contents.format;
          continue;
        }
        isPlaced = false;
        if (physical === undefined && sources.length > 1) throw unplaced(path);
        pieces.push({ file, fileOffset: 0, physical: physical ?? 0, length: file.sizeBytes });
      }
      if (captureNote !== undefined && sources.length > 1)
        throw new UsageError(
          "a capture is complete by itself; it cannot be combined with other memory files",
        );
      this.captureNote = captureNote === undefined ? undefined : parseCaptureNote(captureNote);
      if (pieces.length === 0)
        throw new KtstrError(
          `read ${sources.map(({ path }) => path).join(", ")}: it holds no page of memory`,
        );
      this.#pieces = sortPieces(pieces);
      // Each of several files has an address, or contains its memory's addresses.
      this.layoutIsKnown = isPlaced || sources.length > 1 || sources[0]!.physical !== undefined;
      this.#pages = this.#observerOf(files);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
    this.vmcoreinfo = vmcoreinfo;
    this.#registers = runningRegisters ?? (() => prstatus);
    this.warnings = [...warnings, ...(this.captureNote?.warnings ?? [])];
    this.format = format;
    this.doubts = doubts;
  }

  /** NT_PRSTATUS notes: the CPUs' registers. Those of a running machine are read on first use. */
  get prstatus(): readonly Uint8Array[] {
    this.#prstatus ??= this.#registers();
    return this.#prstatus;
  }

  /** Marks all pages that were read on demand as unread, so that they are read again. */
  forget(): void {
    for (const file of this.#files) if (isOnDemand(file)) file.forget();
  }

  /**
   * Removes the pages of mapped files from this process's resident memory if they have grown by `MAX_GROWTH_BYTES` since the
   * last time. Windows stay valid (`ImageFile.releasePages`).
   */
  limitPages(): void {
    const mapped = this.#files.filter(({ releasePages }) => releasePages !== undefined);
    if (mapped.length === 0 || residentFileBytes() - this.#leastResident < MAX_GROWTH_BYTES) return;
    for (const file of mapped) file.releasePages?.();
    this.#leastResident = residentFileBytes();
  }

  /** Returns an observer that passes each access to the file that holds it; undefined if no file is read on demand. */
  #observerOf(files: readonly ReadableFile[]): PageObserver | undefined {
    const onDemand = new Set(files.filter(isOnDemand));
    const [only] = onDemand;
    if (only === undefined) return undefined;
    // The file's offsets are physical addresses: no conversion is needed.
    const isByAddress = this.#pieces.every((each) => each.file === only && each.fileOffset === each.physical);
    if (isByAddress && this.layoutIsKnown) return only;
    return {
      note: (physical, length) => {
        const piece = this.#pieceAt(physical);
        if (piece === undefined || !isOnDemand(piece.file)) return true;
        return piece.file.note(piece.fileOffset + physical - piece.physical, length);
      },
    };
  }

  #pieceAt(physical: number): FilePiece | undefined {
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { physical: start, length } = this.#pieces[middle]!;
      if (start + length <= physical) low = middle + 1;
      else high = middle;
    }
    return this.#pieces[low];
  }

  /** Size of the memory in the files, in bytes. */
  get sizeBytes(): number {
    return this.#pieces.reduce((sum, { length }) => sum + length, 0);
  }

  /** Whether the memory is mapped: its bytes become invalid when the image is closed. */
  get isMapped(): boolean {
    return this.#pieces.some(({ file }) => file.isMapped);
  }

  /** The observer to call before pages are read, if any file is read on demand (on-demand.ts). */
  get pages(): PageObserver | undefined {
    return this.#pages;
  }

  /** The pieces in the current layout. */
  get pieces(): readonly Piece[] {
    return this.#pieces;
  }

  /** Sets the layout of a single raw file. */
  arrange(pieces: readonly Piece[]): void {
    const { file } = this.#pieces[0]!;
    this.#pieces = sortPieces(pieces.map((piece) => ({ ...piece, file })));
  }

  /** Returns the memory in the current layout. */
  physicalMemory(): PhysicalMemory {
    const windows: Window[] = [];
    for (const { file, fileOffset, physical, length } of this.#pieces) {
      let done = 0;
      while (done < length) {
        const bytes = file.window(fileOffset + done, length - done);
        // The file ends before the piece.
        if (bytes.length === 0) break;
        windows.push(windowOf(physical + done, bytes));
        done += bytes.length;
      }
    }
    const memory = new PhysicalMemory(windows, this.captureNote?.memoryBytes);
    if (this.pages === undefined) return memory;
    const { ObservedPhysical } = require("./observed.ts") as typeof import("./observed.ts");
    return new ObservedPhysical(memory, this.pages);
  }

  /**
   * Visits all 4 KiB pages that are not in holes, several at a time. `view` starts at the physical address `at` of the
   * current layout. Stops if `visit` returns true.
   */
  search(
    visit: (view: DataView, at: number) => boolean,
    onProgress?: (done: number, total: number) => void,
  ): void {
    const total = this.sizeBytes;
    let before = 0;
    let stopped = false;
    for (const { file, fileOffset, physical, length } of this.#pieces) {
      const skip = (4096 - (physical % 4096)) % 4096;
      const pages = Math.floor(Math.max(0, length - skip) / 4096);
      file.search(fileOffset + skip, fileOffset + skip + pages * 4096, (view, offset) => {
        onProgress?.(before + offset - fileOffset, total);
        stopped = visit(view, physical + offset - fileOffset);
        return stopped;
      });
      if (stopped) return;
      before += length;
    }
    onProgress?.(total, total);
  }

  /** Throws `KtstrError` if a file is shorter than when it was opened. */
  check(): void {
    for (const file of this.#files) file.check();
  }

  [Symbol.dispose](): void {
    for (const file of this.#files) file[Symbol.dispose]();
  }
}

/** Returns the resident bytes of mapped files (fs/proc/task_mmu.c, task_statm: `shared`); Infinity if /proc is not mounted. */
function residentFileBytes(): number {
  const { pageSize } = require("../../ffi.ts") as typeof import("../../ffi.ts");
  try {
    return Number(readFileSync("/proc/self/statm", "latin1").split(" ")[2]) * pageSize();
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

const unplaced = (path: string): UsageError =>
  new UsageError(`${path}: each of several memory files needs an address: FILE@ADDRESS`);

/** Sorts pieces by address. Throws `KtstrError` if two of them overlap. */
function sortPieces(pieces: FilePiece[]): readonly FilePiece[] {
  pieces.sort((a, b) => a.physical - b.physical);
  for (const [index, { physical, file }] of pieces.entries()) {
    const before = pieces[index - 1];
    if (before === undefined || before.physical + before.length <= physical) continue;
    throw new KtstrError(
      `memory at 0x${physical.toString(16)}: both ${before.file.path} and ${file.path} hold it`,
      { hint: "Check the addresses after @." },
    );
  }
  return pieces;
}
