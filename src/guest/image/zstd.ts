/** Files that zstd compressed (RFC 8878): frames, one after the other. */
import { viewOf } from "../../uapi/layout.ts";
import { headOf, isEmbedded, isPipe } from "./head.ts";

/** The first four bytes of a frame (3.1.1), little-endian. */
const ZSTD_MAGIC = 0xfd2f_b528;
/** Of a frame to step over (3.1.2): the low four bits are anything. */
const SKIPPABLE_MAGIC = 0x184d_2a50;
/** The longest frame header (3.1.1.1). */
const MAX_HEADER_BYTES = 18;
/** 3.1.1.2.2: a block of this type has one byte, which is repeated. */
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;
/** 3.1.1.2.4, Block_Maximum_Size. No encoder writes an empty block before the last one. */
const MAX_BLOCK_BYTES = 128 * 1024;
/** 3.1.1.1.1: it must be zero. */
const RESERVED_BIT = 8;
const CHECKSUM_BYTES = 4;
/** Captures that hold more are not written as zstd. */
export const MAX_DECOMPRESSED_BYTES: number = 2 ** 32 - 1;
/** What holds more is decompressed into a temporary file (zstd-file.ts). */
export const MAX_IN_MEMORY_BYTES: number = 64 * 2 ** 20;

/** Larger files are read once their format is known: one may be raw memory that begins like zstd. */
const MAX_AHEAD_BYTES = MAX_IN_MEMORY_BYTES;

/** What the frames of a file hold, in their order. */
export type Chunks = readonly Uint8Array[];

/** By a file's first word. */
export const isZstd = (magic: number): boolean => magic === ZSTD_MAGIC || isSkippable(magic);
const isSkippable = (magic: number): boolean => (magic & ~0xf) === SKIPPABLE_MAGIC;

/**
 * What the bytes hold, frame by frame. Throws `Error` where they are damaged, or hold more than `MAX_IN_MEMORY_BYTES` or
 * nobody knows how much.
 */
export function decompress(bytes: Uint8Array<ArrayBuffer>): Chunks {
  const frames = framesOf(bytes);
  if (frames === undefined) throw new Error("a frame does not tell how much it holds");
  // Loading node:zlib takes longer than decompressing a capture.
  return frames.map((frame) => Bun.zstdDecompressSync(frame));
}

/**
 * Begins to decompress a file on other threads, before this one loads what reads it. undefined: it is not compressed, or
 * not as it should be, which whoever opens it then finds out.
 */
export async function decompressAhead(path: string): Promise<Chunks | undefined> {
  try {
    if (!isEmbedded(path)) {
      if (isPipe(path)) return undefined;
      const { magic, bytes, sizeBytes } = headOf(path);
      if (!isZstd(magic) || sizeBytes > MAX_AHEAD_BYTES || beginsLarge(bytes)) return undefined;
    }
    // At once, and not by a promise: that would be kept only when the code is loaded.
    const frames = framesOf(process.getBuiltinModule("node:fs").readFileSync(path));
    if (frames === undefined) return undefined;
    // The longest begin first, so that all end soonest.
    const chunks: Promise<Uint8Array>[] = [];
    for (const [index, frame] of [...frames.entries()].sort(([, a], [, b]) => b.length - a.length))
      chunks[index] = Bun.zstdDecompress(frame);
    const all = await Promise.all(chunks);
    // So many bytes make the engine collect at its next chance, beside work and with its helpers; now there is little to visit.
    Bun.gc(true);
    return all;
  } catch {
    return undefined;
  }
}

/** By a file's first bytes: its first frame alone holds too much for memory, or does not tell how much. */
export function beginsLarge(header: Uint8Array<ArrayBuffer>): boolean {
  if (isSkippable(viewOf(header).getUint32(0, true))) return false;
  return !((headerOf(header).contentBytes ?? Number.POSITIVE_INFINITY) <= MAX_IN_MEMORY_BYTES);
}

/** Up to `length` bytes at an offset; fewer where the bytes end. */
export type ReadAt = (offset: number, length: number) => Uint8Array;

/** A frame that holds something. */
interface Span {
  readonly start: number;
  readonly end: number;
}

/**
 * The frames that hold something; undefined: one does not tell how much that is. Throws `Error` where all of them tell of
 * more than `MAX_IN_MEMORY_BYTES`, or one does not end, or is none.
 */
function framesOf(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer>[] | undefined {
  const read: ReadAt = (offset, length) => bytes.subarray(offset, offset + length);
  const spans: Span[] = [];
  let total = 0;
  for (const { start, end, contentBytes } of walkFrames(read, bytes.length)) {
    if (contentBytes === undefined) return undefined;
    if (!(end <= bytes.length)) throw new Error("it ends within a frame");
    total += contentBytes;
    if (total > MAX_IN_MEMORY_BYTES) throw new Error("it holds too much for memory");
    if (contentBytes > 0) spans.push({ start, end });
  }
  return spans.map(({ start, end }) => bytes.subarray(start, end));
}

interface Frame extends Span {
  /** `end` lies past the bytes where they end within the frame. */
  readonly end: number;
  /** How much it says that it holds; undefined: it does not. */
  readonly contentBytes: number | undefined;
}

/** Steps from frame to frame by their headers and their blocks' headers. Throws `Error` where one is not coherent. */
export function* walkFrames(read: ReadAt, sizeBytes: number): Generator<Frame> {
  for (let at = 0; at < sizeBytes; ) {
    const frame = frameAt(read, at, sizeBytes);
    yield frame;
    at = frame.end;
  }
}

/** 3.1.1 and 3.1.2. Throws `Error` where no frame begins. */
function frameAt(read: ReadAt, start: number, sizeBytes: number): Frame {
  const header = new Uint8Array(MAX_HEADER_BYTES);
  header.set(read(start, MAX_HEADER_BYTES));
  const view = new DataView(header.buffer);
  const magic = view.getUint32(0, true);
  if (isSkippable(magic)) return { start, end: start + 8 + view.getUint32(4, true), contentBytes: 0 };
  if (magic !== ZSTD_MAGIC) throw new Error(`no frame begins at byte ${start}`);
  const descriptor = header[4]!;
  if ((descriptor & RESERVED_BIT) !== 0) throw new Error(`the frame at byte ${start} has a reserved bit set`);
  const { contentBytes, headerBytes } = headerOf(header);
  const blocksEnd = endOfBlocks(read, start + headerBytes, sizeBytes);
  return { start, end: blocksEnd + ((descriptor & 4) === 0 ? 0 : CHECKSUM_BYTES), contentBytes };
}

/** 3.1.1.1, of `MAX_HEADER_BYTES`. */
function headerOf(header: Uint8Array<ArrayBuffer>): {
  contentBytes: number | undefined;
  headerBytes: number;
} {
  const descriptor = header[4]!;
  const isSingle = (descriptor & 0x20) !== 0;
  const sizeAt = 5 + (isSingle ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]!;
  const [contentBytes, fieldBytes] = contentSize(viewOf(header), sizeAt, descriptor >>> 6, isSingle);
  return { contentBytes, headerBytes: sizeAt + fieldBytes };
}

/** 3.1.1.2: a block has "last" in bit 0, its type in two bits, its size above. */
function endOfBlocks(read: ReadAt, start: number, sizeBytes: number): number {
  let at = start;
  while (at + 3 <= sizeBytes) {
    const header = read(at, 3);
    const block = header[0]! | (header[1]! << 8) | (header[2]! << 16);
    const type = (block >>> 1) & 3;
    const size = block >>> 3;
    const isLast = (block & 1) === 1;
    if (type === RESERVED_BLOCK || size > MAX_BLOCK_BYTES || (size === 0 && !isLast))
      throw new Error(`no block begins at byte ${at}`);
    at += 3 + (type === RLE_BLOCK ? 1 : size);
    if (isLast) return at;
  }
  return Number.POSITIVE_INFINITY;
}

/** 3.1.1.1.4, Frame_Content_Size by its flag, and how long that field is; undefined: it is not there. */
function contentSize(
  view: DataView,
  at: number,
  flag: number,
  isSingle: boolean,
): readonly [bytes: number | undefined, fieldBytes: number] {
  switch (flag) {
    case 0:
      return isSingle ? [view.getUint8(at), 1] : [undefined, 0];
    case 1:
      return [view.getUint16(at, true) + 256, 2];
    case 2:
      return [view.getUint32(at, true), 4];
    default:
      return [Number(view.getBigUint64(at, true)), 8];
  }
}
