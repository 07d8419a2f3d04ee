/** The guest's physical memory from files: raw, in pieces, or a dump of any format (formats.ts). */
import { KtstrError, UsageError } from "../../errors.ts";
import { type CaptureNote, parseCaptureNote } from "../capture/note.ts";
import type { DataFile, ReadableFile } from "./file.ts";
import type { Piece } from "./format.ts";
import { tellFormat } from "./formats.ts";
import type { PageObserver } from "./observed.ts";
import type { OnDemandFile } from "./on-demand.ts";
import { PhysicalMemory, type Window, windowOf } from "./physical.ts";
import { openDataFile, SmallFile } from "./small-file.ts";
import type { OnUnpack } from "./temporary.ts";
import type { Chunks } from "./zstd.ts";

/** One `--memory FILE[@GPA]`. */
export interface MemorySource {
  readonly path: string;
  /** Guest physical address of the file's first byte; without it, a lone raw file's layout is guessed. */
  readonly physical?: number;
  /** One of the names in formats.ts, which is then not told by content. */
  readonly format?: string | undefined;
  /** What was decompressed of it, where that was begun before (zstd.ts). */
  readonly decompressed?: Chunks | undefined;
  /** A running machine's RAM, which is no file of any format; closed with the image. */
  readonly ram?: DataFile | undefined;
}

interface FilePiece extends Piece {
  readonly file: DataFile;
}

export class MemoryImage implements Disposable {
  readonly #files: readonly ReadableFile[];
  readonly #pages: PageObserver | undefined;
  #pieces: readonly FilePiece[];
  /** False: a lone raw file, of which only the bytes are known, not where they belong. */
  readonly layoutIsKnown: boolean;
  /** The VMCOREINFO note of an ELF core. */
  readonly vmcoreinfo: Uint8Array | undefined;
  readonly warnings: readonly string[];
  /** NT_PRSTATUS notes: the CPUs' registers. */
  readonly prstatus: readonly Uint8Array[];
  /** What a capture says of itself; undefined: it is none. */
  readonly captureNote: CaptureNote | undefined;
  /** "raw", or what the dump's format is called. */
  readonly format: string;
  /** Formats that the files begin like, and why they are raw memory, as sentences. */
  readonly doubts: readonly string[];

  /** Opens the files; `onUnpack` is told how far a long copy or decompression is. Throws `KtstrError` where they cannot be read, or contradict one another. */
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
    let format = "raw";
    let isPlaced = false;
    try {
      for (const { path, physical, format: named, decompressed, ram } of sources) {
        if (ram !== undefined) {
          files.push(ram);
          pieces.push({ file: ram, fileOffset: 0, physical: 0, length: ram.sizeBytes });
          format = "running machine";
          continue;
        }
        const opened =
          decompressed === undefined ? openDataFile(path, onUnpack) : new SmallFile(path, decompressed);
        files.push(opened);
        const told = tellFormat(opened, named, onUnpack);
        const { memory: file, contents } = told;
        files.push(...told.opened);
        if (file !== opened) files.push(file);
        doubts.push(...told.doubts);
        if (contents !== undefined) {
          isPlaced = contents.isPlaced !== false;
          if (physical !== undefined && isPlaced)
            throw new UsageError(
              `${path} is ${contents.format}, which says itself where its memory lies; leave @ADDRESS away`,
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
        throw new UsageError("a capture is all there is of a machine; give it alone");
      this.captureNote = captureNote === undefined ? undefined : parseCaptureNote(captureNote);
      if (pieces.length === 0)
        throw new KtstrError(
          `read ${sources.map(({ path }) => path).join(", ")}: no page of memory is in it`,
        );
      this.#pieces = checked(pieces);
      this.layoutIsKnown = isPlaced || sources[0]!.physical !== undefined;
      this.#pages = this.#observerOf(files);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
    this.vmcoreinfo = vmcoreinfo;
    this.prstatus = prstatus;
    this.warnings = [...warnings, ...(this.captureNote?.warnings ?? [])];
    this.format = format;
    this.doubts = doubts;
  }

  /** Pages that were read on demand are read anew. */
  forget(): void {
    for (const file of this.#files) if (isOnDemand(file)) file.forget();
  }

  /** Tells each file of its own pages. */
  #observerOf(files: readonly ReadableFile[]): PageObserver | undefined {
    const onDemand = new Set(files.filter(isOnDemand));
    const [only] = onDemand;
    if (only === undefined) return undefined;
    // A dump that says where its memory belongs is read by its addresses.
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

  /** Bytes of memory that the files hold. */
  get sizeBytes(): number {
    return this.#pieces.reduce((sum, { length }) => sum + length, 0);
  }

  /** Whether its bytes are gone when it is closed. */
  get isMapped(): boolean {
    return this.#pieces.some(({ file }) => file.isMapped);
  }

  /**
   * To be told before pages are read, where any of them are read on demand (on-demand.ts). undefined: all are in place.
   */
  get pages(): PageObserver | undefined {
    return this.#pages;
  }

  /** The pieces as they are laid out now. */
  get pieces(): readonly Piece[] {
    return this.#pieces;
  }

  /** Lays a lone raw file out anew: where which part of it belongs. */
  arrange(pieces: readonly Piece[]): void {
    const { file } = this.#pieces[0]!;
    this.#pieces = checked(pieces.map((piece) => ({ ...piece, file })));
  }

  /** The memory behind the pieces as they are laid out now. */
  physicalMemory(): PhysicalMemory {
    const windows: Window[] = [];
    for (const { file, fileOffset, physical, length } of this.#pieces) {
      let done = 0;
      while (done < length) {
        const bytes = file.window(fileOffset + done, length - done);
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
   * Visits all pages of 4 KiB that are data, some at a time; the first of `view` lies at the physical address `at`,
   * as the pieces are laid out now. Ends early where `visit` answers true.
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

  /** Throws `KtstrError` where a file shrank. */
  check(): void {
    for (const file of this.#files) file.check();
  }

  [Symbol.dispose](): void {
    for (const file of this.#files) file[Symbol.dispose]();
  }
}

const unplaced = (path: string): UsageError =>
  new UsageError(`${path}: with several memory files each needs its address, FILE@ADDRESS`);

const isOnDemand = (file: ReadableFile): file is OnDemandFile => "note" in file;

function checked(pieces: FilePiece[]): readonly FilePiece[] {
  pieces.sort((a, b) => a.physical - b.physical);
  for (const [index, { physical, file }] of pieces.entries()) {
    const before = pieces[index - 1];
    if (before === undefined || before.physical + before.length <= physical) continue;
    throw new KtstrError(
      `memory at 0x${physical.toString(16)}: both ${before.file.path} and ${file.path} hold it`,
      { hint: "Check the addresses behind @." },
    );
  }
  return pieces;
}
