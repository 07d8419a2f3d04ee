/** A LiME dump: ranges of memory one after the other, each behind a header, as LiME's README ("Spec") describes them. */
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
/** A machine has some dozen ranges of RAM. */
const MAX_RANGES = 4096;

function problem(file: ReadableFile): string | undefined {
  const pieces = piecesOf(file);
  return typeof pieces === "string" ? pieces : undefined;
}

/** Throws `FormatError` where a range has no header. */
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
    warnings: isCut ? [`${file.path} ends within its last range: memory from there on is missing.`] : [],
  };
}

/** The ranges in the file's order, of which the last may be cut short; or why they are none, as a clause. */
function piecesOf(file: ReadableFile): Piece[] | string {
  const pieces: Piece[] = [];
  let at = 0;
  while (at < file.sizeBytes) {
    if (pieces.length === MAX_RANGES) return `it has more than ${MAX_RANGES} ranges`;
    const header = viewOf(file.read(at, HEADER_BYTES));
    if (header.byteLength < HEADER_BYTES) return "it ends within the header";
    const [physical, last] = [u53(header, FIRST_AT), u53(header, LAST_AT)];
    if (header.getUint32(0, true) !== MAGIC || header.getUint32(4, true) !== VERSION)
      return `no range begins at byte ${at}`;
    if (!(physical <= last && last < MAX_PHYSICAL)) return `the range at byte ${at} ends before it begins`;
    const piece = { fileOffset: at + HEADER_BYTES, physical, length: last - physical + 1 };
    pieces.push(piece);
    at = piece.fileOffset + piece.length;
  }
  return pieces;
}
