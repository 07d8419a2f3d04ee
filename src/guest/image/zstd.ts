/** Parses zstd's frames (RFC 8878) and decompresses small files in memory. */
import { viewOf } from "../../uapi/layout.ts";
import { headOf, isEmbedded, isPipe } from "./head.ts";

/** The first four bytes of a frame (3.1.1), little-endian. */
const ZSTD_MAGIC = 0xfd2f_b528;
/** The magic number of a skippable frame (3.1.2). The low four bits can have any value. */
const SKIPPABLE_MAGIC = 0x184d_2a50;
/** The longest frame header (3.1.1.1). */
const MAX_HEADER_BYTES = 18;
/** 3.1.1.2.2: a block of this type stores one byte, which is repeated. */
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;
/** 3.1.1.2.4, Block_Maximum_Size. Encoders write an empty block only as the last one. */
const MAX_BLOCK_BYTES = 128 * 1024;
/** 3.1.1.1.1: must be zero. */
const RESERVED_BIT = 8;
const CHECKSUM_BYTES = 4;
/** Captures with more contents are not written as zstd. */
export const MAX_DECOMPRESSED_BYTES: number = 2 ** 32 - 1;
/** Files with more contents are decompressed into a temporary file (zstd-file.ts). */
export const MAX_IN_MEMORY_BYTES: number = 64 * 2 ** 20;

/** Larger files are not decompressed ahead: their format is not detected yet, and raw memory can start like zstd. */
const MAX_AHEAD_BYTES = MAX_IN_MEMORY_BYTES;

/** The contents of a file's frames, in order. */
export type Chunks = readonly Uint8Array[];

/** Returns whether a file's first word is that of a zstd file. */
export const isZstd = (magic: number): boolean => magic === ZSTD_MAGIC || isSkippable(magic);
const isSkippable = (magic: number): boolean => (magic & ~0xf) === SKIPPABLE_MAGIC;

/**
 * Decompresses a file, frame by frame. Throws `Error` if it is damaged, if a frame does not store its decompressed size, or
 * if the contents exceed `MAX_IN_MEMORY_BYTES`.
 */
export function decompress(bytes: Uint8Array<ArrayBuffer>): Chunks {
  const frames = framesOf(bytes);
  if (frames === undefined) throw new Error("a frame does not store its decompressed size");
  // Loading node:zlib would take longer than decompressing a capture.
  return frames.map((frame) => Bun.zstdDecompressSync(frame));
}

/**
 * Starts to decompress a file on other threads while this one loads code. Returns undefined if the file is not compressed,
 * or if it has an error, which opening the file then reports.
 */
export async function decompressAhead(path: string): Promise<Chunks | undefined> {
  try {
    if (!isEmbedded(path)) {
      if (isPipe(path)) return undefined;
      const { magic, bytes, sizeBytes } = headOf(path);
      if (!isZstd(magic) || sizeBytes > MAX_AHEAD_BYTES || beginsLarge(bytes)) return undefined;
    }
    // Reads synchronously: a promise would only be resolved after the code was loaded.
    const frames = framesOf(process.getBuiltinModule("node:fs").readFileSync(path));
    if (frames === undefined) return undefined;
    // Starts with the largest frames, so that all of them end soonest.
    const chunks: Promise<Uint8Array>[] = [];
    for (const [index, frame] of [...frames.entries()].sort(([, a], [, b]) => b.length - a.length))
      chunks[index] = Bun.zstdDecompress(frame);
    const all = await Promise.all(chunks);
    // The decompressed bytes trigger a garbage collection. Now the heap is small, and the collection fast.
    Bun.gc(true);
    return all;
  } catch {
    return undefined;
  }
}

/** Returns whether the first frame, from the file's first bytes, is too large for memory or does not store its size. */
export function beginsLarge(header: Uint8Array<ArrayBuffer>): boolean {
  if (isSkippable(viewOf(header).getUint32(0, true))) return false;
  return !((headerOf(header).contentBytes ?? Number.POSITIVE_INFINITY) <= MAX_IN_MEMORY_BYTES);
}

/** Reads up to `length` bytes at an offset; fewer at the end. */
export type ReadAt = (offset: number, length: number) => Uint8Array;

/** A frame that is not empty. */
interface Span {
  readonly start: number;
  readonly end: number;
}

/**
 * Returns the frames that are not empty, or undefined if one does not store its decompressed size. Throws `Error` if the
 * sizes add up to more than `MAX_IN_MEMORY_BYTES`, or if a frame is truncated or invalid.
 */
function framesOf(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer>[] | undefined {
  const read: ReadAt = (offset, length) => bytes.subarray(offset, offset + length);
  const spans: Span[] = [];
  let total = 0;
  for (const { start, end, contentBytes } of walkFrames(read, bytes.length)) {
    if (contentBytes === undefined) return undefined;
    if (!(end <= bytes.length)) throw new Error("it ends within a frame");
    total += contentBytes;
    if (total > MAX_IN_MEMORY_BYTES) throw new Error("its contents are too large for memory");
    if (contentBytes > 0) spans.push({ start, end });
  }
  return spans.map(({ start, end }) => bytes.subarray(start, end));
}

interface Frame extends Span {
  /** Past the end of the file if the frame is truncated. */
  readonly end: number;
  /** Decompressed size; undefined if it is not stored. */
  readonly contentBytes: number | undefined;
}

/** Yields the frames, from their headers and the headers of their blocks. Throws `Error` if one is not valid. */
export function* walkFrames(read: ReadAt, sizeBytes: number): Generator<Frame> {
  for (let at = 0; at < sizeBytes; ) {
    const frame = frameAt(read, at, sizeBytes);
    yield frame;
    at = frame.end;
  }
}

/** 3.1.1 and 3.1.2. Throws `Error` if no frame starts there. */
function frameAt(read: ReadAt, start: number, sizeBytes: number): Frame {
  const header = new Uint8Array(MAX_HEADER_BYTES);
  header.set(read(start, MAX_HEADER_BYTES));
  const view = new DataView(header.buffer);
  const magic = view.getUint32(0, true);
  if (isSkippable(magic)) return { start, end: start + 8 + view.getUint32(4, true), contentBytes: 0 };
  if (magic !== ZSTD_MAGIC) throw new Error(`no frame starts at byte ${start}`);
  const descriptor = header[4]!;
  if ((descriptor & RESERVED_BIT) !== 0) throw new Error(`the frame at byte ${start} has a reserved bit set`);
  const { contentBytes, headerBytes } = headerOf(header);
  const blocksEnd = endOfBlocks(read, start + headerBytes, sizeBytes);
  return { start, end: blocksEnd + ((descriptor & 4) === 0 ? 0 : CHECKSUM_BYTES), contentBytes };
}

/** 3.1.1.1. `header` has `MAX_HEADER_BYTES` bytes. */
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

/** 3.1.1.2: a block's header has "last" in bit 0, the type in two bits, and the size above. */
function endOfBlocks(read: ReadAt, start: number, sizeBytes: number): number {
  let at = start;
  while (at + 3 <= sizeBytes) {
    const header = read(at, 3);
    const block = header[0]! | (header[1]! << 8) | (header[2]! << 16);
    const type = (block >>> 1) & 3;
    const size = block >>> 3;
    const isLast = (block & 1) === 1;
    if (type === RESERVED_BLOCK || size > MAX_BLOCK_BYTES || (size === 0 && !isLast))
      throw new Error(`no block starts at byte ${at}`);
    at += 3 + (type === RLE_BLOCK ? 1 : size);
    if (isLast) return at;
  }
  return Number.POSITIVE_INFINITY;
}

/** 3.1.1.1.4: Frame_Content_Size, undefined if absent, and the size of that field. */
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
