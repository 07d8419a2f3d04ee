/** Reads files compressed by lz4, in LZ4's frame format (LZ4's lz4_Frame_format.md). */
import { viewOf } from "../../uapi/layout.ts";
import type { ReadableFile } from "./file.ts";
import type { FormatReader } from "./format.ts";
import { lz4Decoder } from "./system-codec.ts";
import { unpack } from "./unpack.ts";

/** @public Loaded by formats.ts. */
export const lz4File: FormatReader = {
  problem,
  open: (file, onUnpack) => unpack(file, lz4Decoder(), "lz4", onUnpack),
};

const MAGIC = 0x184d_2204;
/** Magic, FLG, BD, content size, dictionary id, header checksum. */
const MAX_HEADER_BYTES = 19;
/** Magic, FLG, BD, header checksum, end mark. */
const MIN_FRAME_BYTES = 11;
/** Magic and size of the content, which may be empty. */
const SKIPPABLE_HEADER_BYTES = 8;
/** Bits of FLG. */
const VERSION_MASK = 0xc0;
const VERSION = 0x40;
const BLOCK_CHECKSUM = 0x10;
const CONTENT_SIZE = 0x08;
const CONTENT_CHECKSUM = 0x04;
const DICTIONARY_ID = 0x01;
const FLG_RESERVED = 0x02;
const BD_RESERVED = 0x8f;
/** Set in the size of a block that is stored uncompressed. */
const STORED = 0x8000_0000;
const MAX_FRAMES = 1_000_000;

/** Checks that blocks follow one another to the end of each frame, and frames to the end of the file. The last may be truncated. */
function problem(file: ReadableFile): string | undefined {
  let at = 0;
  for (let frame = 0; frame < MAX_FRAMES && at < file.sizeBytes; frame++) {
    const end = endOfFrame(file, at);
    if (typeof end === "string") return end;
    at = end;
  }
  return undefined;
}

function endOfFrame(file: ReadableFile, start: number): number | string {
  const header = file.read(start, MAX_HEADER_BYTES);
  const view = viewOf(header);
  if (header.length < SKIPPABLE_HEADER_BYTES) return "it ends within a header";
  const magic = view.getUint32(0, true);
  // Skippable frames have the same magic numbers as zstd's.
  if ((magic & ~0xf) === 0x184d_2a50) return start + SKIPPABLE_HEADER_BYTES + view.getUint32(4, true);
  if (magic !== MAGIC) return `no frame starts at byte ${start}`;
  if (header.length < MIN_FRAME_BYTES) return "it ends within a header";
  const [flags, descriptor] = [header[4]!, header[5]!];
  const blockCode = (descriptor >>> 4) & 7;
  if (
    (flags & VERSION_MASK) !== VERSION ||
    (flags & FLG_RESERVED) !== 0 ||
    (descriptor & BD_RESERVED) !== 0 ||
    blockCode < 4
  )
    return `the frame at byte ${start} has unknown flags`;
  const checksumAt = 6 + ((flags & CONTENT_SIZE) === 0 ? 0 : 8) + ((flags & DICTIONARY_ID) === 0 ? 0 : 4);
  if (header[checksumAt] !== ((Bun.hash.xxHash32(header.subarray(4, checksumAt)) >>> 8) & 0xff))
    return `the checksum of the frame's header at byte ${start} is wrong`;
  // Code 4 is 64 KiB; each next code is four times as much.
  const maxBlockBytes = 2 ** (8 + 2 * blockCode);
  const blockTail = (flags & BLOCK_CHECKSUM) === 0 ? 0 : 4;
  let at = start + checksumAt + 1;
  let isFirst = start === 0;
  while (at + 4 <= file.sizeBytes) {
    const word = viewOf(file.read(at, 4)).getUint32(0, true);
    at += 4;
    if (word === 0) return at + ((flags & CONTENT_CHECKSUM) === 0 ? 0 : 4);
    const size = word % STORED;
    if (size === 0 || size > maxBlockBytes) return `no block starts at byte ${at - 4}`;
    at += size + blockTail;
    if (at > file.sizeBytes && isFirst) return "it ends within its first block";
    isFirst = false;
  }
  return Number.POSITIVE_INFINITY;
}
