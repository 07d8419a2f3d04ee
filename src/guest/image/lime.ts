/** Reads LiME dumps: memory ranges in sequence, each after a header, as specified in LiME's README ("Spec"). */
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
/** A machine has a few dozen ranges of RAM. */
const MAX_RANGES = 4096;

function problem(file: ReadableFile): string | undefined {
  const pieces = piecesOf(file);
  return typeof pieces === "string" ? pieces : undefined;
}

/** Throws `FormatError` if a range has no valid header. */
function open(file: ReadableFile): Contents {
  const pieces = piecesOf(file);
  if (typeof pieces === "string") throw new FormatError(`LiME dump ${file.path}`, 0, pieces);
  const last = pieces.at(-1);
  const isCut = last !== undefined && last.fileOffset + last.length > file.sizeBytes;
  return {
    format: "LiME dump",
    pieces: pieces
      .map((piece) => ({ ...piece, length: Math.min(piece.length, file.sizeBytes - piece.fileOffset) }))
      .filter(({ length }) => length > 0),
    warnings: isCut ? [`${file.path} ends within its last range: the rest of that range is missing.`] : [],
  };
}

/** Returns the ranges in the file's order, or a clause that says why they are not valid. The last one may be truncated. */
function piecesOf(file: ReadableFile): Piece[] | string {
  const pieces: Piece[] = [];
  let at = 0;
  while (at < file.sizeBytes) {
    if (pieces.length === MAX_RANGES) return `it has more than ${MAX_RANGES} ranges`;
    const header = viewOf(file.read(at, HEADER_BYTES));
    if (header.byteLength < HEADER_BYTES) return "it ends within the header";
    const [physical, last] = [u53(header, FIRST_AT), u53(header, LAST_AT)];
    if (header.getUint32(0, true) !== MAGIC || header.getUint32(4, true) !== VERSION)
      return `no range starts at byte ${at}`;
    if (!(physical <= last && last < MAX_PHYSICAL)) return `the address range at byte ${at} is not valid`;
    const piece = { fileOffset: at + HEADER_BYTES, physical, length: last - physical + 1 };
    pieces.push(piece);
    at = piece.fileOffset + piece.length;
  }
  return pieces;
}
