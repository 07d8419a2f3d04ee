/** The interfaces between a memory file format and the format table (formats.ts). */
import type { DataFile, OnDemandPages, ReadableFile } from "./file.ts";
import type { OnUnpack } from "./temporary.ts";

/** A piece of memory in a file: `length` bytes at `fileOffset` belong at the guest physical address `physical`. */
export interface Piece {
  readonly fileOffset: number;
  readonly physical: number;
  readonly length: number;
}

/** The contents of a dump's headers. */
export interface Contents {
  /** The format's name for messages: "ELF core". */
  readonly format: string;
  /** The file that the pieces refer to, if it is not the dump itself. */
  readonly memory?: DataFile | undefined;
  readonly pieces: readonly Piece[];
  /** False if the addresses are not known: the only piece is a machine's RAM, whose layout is guessed as for a raw file. */
  readonly isPlaced?: boolean | undefined;
  /** The VMCOREINFO text in the dump. */
  readonly vmcoreinfo?: Uint8Array | undefined;
  /** NT_PRSTATUS notes, one per CPU: `struct elf_prstatus` (linux/elfcore.h), with the registers. */
  readonly prstatus?: readonly Uint8Array[] | undefined;
  /** The note of a capture (capture/note.ts). */
  readonly captureNote?: Uint8Array | undefined;
  readonly warnings: readonly string[];
}

/** The reader of one format. */
export interface FormatReader {
  /**
   * Returns why the file is not of this format, as a clause ("it has no program headers"), or undefined if its header is
   * complete and consistent, and describes the whole file. A raw memory image can start with the first page of any file,
   * so the magic number alone is not enough.
   */
  problem(file: ReadableFile): string | undefined;
  /**
   * Reads the headers. A compressed file is decompressed and returned; its format is then detected in turn. Also called
   * for a file with a problem if `--format` names the format. `onUnpack` receives the progress of a long decompression.
   * Throws `KtstrError` if the file cannot be read.
   */
  open(file: ReadableFile, onUnpack?: OnUnpack): Contents | ReadableFile;
}

/** A row of the format table. */
export interface Format {
  /** The value of `--format`. */
  readonly name: string;
  /** Description for messages: "an ELF file". */
  readonly what: string;
  /** Possible first bytes of the file, as Latin-1. */
  readonly magic: readonly string[];
  /** Loads the reader. Only called for files that start with `magic`, or if `--format` names the format. */
  readonly load: () => FormatReader;
}

export const isOnDemand = (file: ReadableFile): file is DataFile & OnDemandPages => "note" in file;
