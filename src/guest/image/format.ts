/** What a file format of memory is, to the table of formats (formats.ts) and to whoever opens a file of one. */
import type { DataFile, ReadableFile } from "./file.ts";
import type { OnUnpack } from "./temporary.ts";

/** Memory as a file holds it: `length` bytes at `fileOffset` are the guest's from `physical` up. */
export interface Piece {
  readonly fileOffset: number;
  readonly physical: number;
  readonly length: number;
}

/** What the headers of a dump say. */
export interface Contents {
  /** For people: "ELF core". */
  readonly format: string;
  /** What the pieces lie in, where that is not the file itself. */
  readonly memory?: DataFile | undefined;
  readonly pieces: readonly Piece[];
  /** False: the one piece is a machine's RAM, and where it belongs is found out as for a raw file. */
  readonly isPlaced?: boolean | undefined;
  /** The VMCOREINFO text that the dump carries. */
  readonly vmcoreinfo?: Uint8Array | undefined;
  /** NT_PRSTATUS notes, one a CPU: `struct elf_prstatus` (linux/elfcore.h), with the registers. */
  readonly prstatus?: readonly Uint8Array[] | undefined;
  /** What a capture says of itself (capture/note.ts). */
  readonly captureNote?: Uint8Array | undefined;
  readonly warnings: readonly string[];
}

/** The code of one format. */
export interface FormatReader {
  /**
   * Why the file is not of this format, as a clause ("it has no program headers"). undefined: the header is complete,
   * agrees with itself, and accounts for the file. A file that only begins like one is raw memory, whose first page may
   * be a page of any file.
   */
  problem(file: ReadableFile): string | undefined;
  /**
   * Reads the headers, or returns the decompressed file, which is then examined in turn. Also called for a file with a
   * problem, where `--format` names the format. Throws `KtstrError` where the file cannot be read. `onUnpack` is told
   * how far a long decompression is.
   */
  open(file: ReadableFile, onUnpack?: OnUnpack): Contents | ReadableFile;
}

/** A row of the table. */
export interface Format {
  /** What `--format` takes. */
  readonly name: string;
  /** For people: "an ELF file". */
  readonly what: string;
  /** The file's first bytes, as Latin-1: any of these. */
  readonly magic: readonly string[];
  /** Loads the code. Only called for files that begin with `magic`, or where `--format` names the format. */
  readonly load: () => FormatReader;
}
