/**
 * Reads LiME dumps: memory ranges in sequence, each after a header, as specified in LiME's README ("Spec"). AVML writes the
 * same format without `--compress`. It omits blocks of zeros; some of its versions omit only the data and keep the header
 * (AVML's src/image.rs, copy_if_nonzero).
 */
import { FormatError } from "../../errors.ts";
import { u53, viewOf } from "../../uapi/layout.ts";
import type { ReadableFile } from "./file.ts";
import type { Contents, FormatReader, Piece } from "./format.ts";

/** @public Loaded by formats.ts. */
export const lime: FormatReader = { problem, open };

/** Magic and version, 4 bytes each; the first and the last address, 8 bytes each; 8 zeros. Little-endian. */
const HEADER_BYTES = 32;
const MAGIC = 0x4c69_4d45;
const VERSION = 1;
const FIRST_AT = 8;
const LAST_AT = 16;
/** x86-64 and arm64 address at most 52 bits of physical memory. */
const MAX_PHYSICAL = 2 ** 52;
/** A machine has a few dozen ranges of RAM. AVML cuts them into blocks of 16 MiB: enough for 4 TiB. */
const MAX_RANGES = 2 ** 18;
/** AVML omits the data of ranges of at most this size. */
const MAX_OMITTED_BYTES = 16 * 2 ** 20;

function problem(file: ReadableFile): string | undefined {
  const ranges = rangesOf(file);
  return typeof ranges === "string" ? ranges : undefined;
}

/** Throws `FormatError` if a range has no valid header. */
function open(file: ReadableFile): Contents {
  const ranges = rangesOf(file);
  if (typeof ranges === "string") throw new FormatError(`LiME dump ${file.path}`, 0, ranges);
  const last = ranges.at(-1);
  const isCut = last !== undefined && last.fileOffset + last.length > file.sizeBytes;
  return {
    format: "LiME dump",
    pieces: ranges
      .map((piece) => ({ ...piece, length: Math.min(piece.length, file.sizeBytes - piece.fileOffset) }))
      .filter(({ length }) => length > 0),
    warnings: isCut ? [`${file.path} ends within its last range: the rest of that range is missing.`] : [],
  };
}

/** Parses the header at an offset, or returns a clause that says why it is not valid. */
function headerAt(file: ReadableFile, at: number): Piece | string {
  const header = viewOf(file.read(at, HEADER_BYTES));
  if (header.byteLength < HEADER_BYTES) return "it ends within the header";
  const [physical, last] = [u53(header, FIRST_AT), u53(header, LAST_AT)];
  if (header.getUint32(0, true) !== MAGIC || header.getUint32(4, true) !== VERSION)
    return `no range starts at byte ${at}`;
  if (!(physical <= last && last < MAX_PHYSICAL)) return `the address range at byte ${at} is not valid`;
  return { fileOffset: at + HEADER_BYTES, physical, length: last - physical + 1 };
}

/**
 * Returns the ranges that have data, in the file's order, or a clause that says why they are not valid. The last one may be
 * truncated.
 */
function rangesOf(file: ReadableFile): Piece[] | string {
  const pieces: Piece[] = [];
  let at = 0;
  for (let count = 0; at < file.sizeBytes; count++) {
    if (count === MAX_RANGES) return `it has more than ${MAX_RANGES} ranges`;
    const piece = headerAt(file, at);
    if (typeof piece === "string") return piece;
    at = piece.fileOffset;
    if (isOmitted(file, piece)) continue;
    pieces.push(piece);
    at += piece.length;
  }
  return pieces.length === 0 ? "none of its ranges has data" : pieces;
}

/** Returns whether the next header follows a range's header instead of its data. Ranges are in ascending order. */
function isOmitted(file: ReadableFile, { fileOffset, physical, length }: Piece): boolean {
  if (length > MAX_OMITTED_BYTES) return false;
  const next = headerAt(file, fileOffset);
  if (typeof next === "string" || next.physical < physical + length) return false;
  const end = fileOffset + length;
  return end > file.sizeBytes || (end < file.sizeBytes && typeof headerAt(file, end) === "string");
}
