/** The guest's physical memory from files: raw, in pieces, or an ELF core, told by content. */
import { FormatError, KtstrError, UsageError } from "../../errors.ts";
import { type CaptureNote, parseCaptureNote } from "../capture/note.ts";
import { isElf, type Piece, readCore } from "./core.ts";
import type { DataFile } from "./file.ts";
import { PhysicalMemory, type Window, windowOf } from "./physical.ts";
import { openDataFile } from "./small-file.ts";
import type { Chunks } from "./zstd.ts";

/** One `--memory FILE[@GPA]`. */
export interface MemorySource {
  readonly path: string;
  /** Guest physical address of the file's first byte; without it, a lone raw file's layout is guessed. */
  readonly physical?: number;
  /** What was decompressed of it, where that was begun before (zstd.ts). */
  readonly decompressed?: Chunks | undefined;
}

interface FilePiece extends Piece {
  readonly file: DataFile;
}

/** Dumps that we do not read, by their first bytes: an error that says so beats a search through them. */
const OTHER_FORMATS: readonly (readonly [string, string, string])[] = [
  [
    "KDUMP   ",
    "a compressed kdump file",
    "Write it as ELF: `makedumpfile -E`, or QEMU's dump without -z, -l and -s.",
  ],
  ["DISKDUMP", "a compressed kdump file", "Write it as ELF: `makedumpfile -E`."],
  ["makedumpfile", "a flattened kdump file", "Write it as ELF: `makedumpfile -R`, then `makedumpfile -E`."],
  ["QEVM", "a QEMU migration stream or snapshot", "Use QEMU's `dump-guest-memory`, or a file-backed memory."],
  ["EMiL", "a LiME dump", "Convert it to raw pieces, one FILE@ADDRESS each."],
  ["\x1f\x8b", "compressed by gzip", "Decompress it first."],
  ["\xfd7zXZ", "compressed by xz", "Decompress it first."],
];

export class MemoryImage implements Disposable {
  readonly #files: readonly DataFile[];
  #pieces: readonly FilePiece[];
  /** False: a lone raw file, of which only the bytes are known, not where they belong. */
  readonly layoutIsKnown: boolean;
  /** The VMCOREINFO note of an ELF core. */
  readonly vmcoreinfo: Uint8Array | undefined;
  readonly warnings: readonly string[];
  /** What a capture says of itself; undefined: it is none. */
  readonly captureNote: CaptureNote | undefined;
  /** "raw", "ELF core" or "capture". */
  readonly format: string;

  /** Opens the files. Throws `KtstrError` where they cannot be read, or contradict one another. */
  constructor(sources: readonly MemorySource[]) {
    if (sources.length === 0) throw new UsageError("no memory file was given");
    const files: DataFile[] = [];
    this.#files = files;
    const pieces: FilePiece[] = [];
    const warnings: string[] = [];
    let vmcoreinfo: Uint8Array | undefined;
    let captureNote: Uint8Array | undefined;
    let format = "raw";
    try {
      for (const { path, physical, decompressed } of sources) {
        const file = openDataFile(path, decompressed);
        files.push(file);
        const head = file.read(0, 4096);
        refuseOtherFormats(path, head);
        if (isElf(head)) {
          if (physical !== undefined)
            throw new UsageError(
              `${path} is an ELF file, which says itself where its memory lies; leave @ADDRESS away`,
            );
          const core = readCore(file);
          for (const piece of core.pieces) pieces.push({ file, ...piece });
          warnings.push(...core.warnings);
          vmcoreinfo ??= core.vmcoreinfo;
          captureNote ??= core.captureNote;
          format = captureNote === undefined ? "ELF core" : "capture";
          continue;
        }
        if (physical === undefined && sources.length > 1)
          throw new UsageError(`${path}: with several memory files each needs its address, FILE@ADDRESS`);
        pieces.push({ file, fileOffset: 0, physical: physical ?? 0, length: file.sizeBytes });
      }
      if (captureNote !== undefined && sources.length > 1)
        throw new UsageError("a capture is all there is of a machine; give it alone");
      this.captureNote = captureNote === undefined ? undefined : parseCaptureNote(captureNote);
      this.#pieces = checked(pieces);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
    this.layoutIsKnown = format !== "raw" || sources[0]!.physical !== undefined;
    this.vmcoreinfo = vmcoreinfo;
    this.warnings = [...warnings, ...(this.captureNote?.warnings ?? [])];
    this.format = format;
  }

  /** Bytes of memory that the files hold. */
  get sizeBytes(): number {
    return this.#pieces.reduce((sum, { length }) => sum + length, 0);
  }

  /** Whether its bytes are gone when it is closed. */
  get isMapped(): boolean {
    return this.#files.some((file) => file.isMapped);
  }

  /** The pieces as they are laid out now. */
  get pieces(): readonly Piece[] {
    return this.#pieces;
  }

  /** Lays a lone raw file out anew: where which part of it belongs. */
  arrange(pieces: readonly Piece[]): void {
    const file = this.#files[0]!;
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
    return new PhysicalMemory(windows, this.captureNote?.memoryBytes);
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

function refuseOtherFormats(path: string, head: Uint8Array): void {
  const text = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, 16)).toString("latin1");
  for (const [magic, what, hint] of OTHER_FORMATS)
    if (text.startsWith(magic)) throw new FormatError(`memory file ${path}`, 0, `it is ${what}`, hint);
}

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
