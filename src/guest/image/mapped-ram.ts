/**
 * RAM in a migration stream of QEMU 9.0 or newer with the capability mapped-ram: every block is followed by a bitmap and
 * by its pages, each in a place of its own (docs/devel/migration/mapped-ram.rst; migration/ram.c,
 * mapped_ram_setup_ramblock).
 */
import type { ReadableFile } from "./file.ts";
import { type StreamReader, UnreadStream } from "./stream-reader.ts";

/** `struct MappedRamHeader`: u32 version, then the page size and two offsets as u64; big-endian. */
const VERSION = 1;
/** The bitmap is an array of u64. */
const WORD_BITS = 64;
const WORD_BYTES = 8;

/** Offsets of a block's parts, in bytes from the start of the stream. */
export interface MappedBlock {
  /** A bit a page, little-endian: 1 where the page is in the file, 0 where it is all zeros. */
  readonly bitmapAt: number;
  readonly bitmapBytes: number;
  readonly pagesAt: number;
}

/**
 * Reads a block's header and goes behind its pages. Throws `FormatError` where it does not agree with where it stands,
 * `UnreadStream` where the file ends first.
 * The header counts from the start of the file, in which libvirt has a header before the stream: what the stream does
 * not know of lies between that and where the bitmap begins, which is right behind the header.
 */
export function readMappedBlock(stream: StreamReader, lengthBytes: number, pageBytes: number): MappedBlock {
  const version = stream.u32();
  if (version !== VERSION) throw stream.error(`a block's mapped-ram header has the version ${version}`);
  const size = stream.u64();
  const [bitmapOffset, pagesOffset] = [stream.u64(), stream.u64()];
  const bitmapAt = stream.at;
  const before = bitmapOffset - bitmapAt;
  const pagesAt = pagesOffset - before;
  const bitmapBytes = Math.ceil(lengthBytes / pageBytes / WORD_BITS) * WORD_BYTES;
  if (size !== pageBytes || before < 0 || pagesAt < bitmapAt + bitmapBytes)
    throw stream.error("a block's mapped-ram header does not agree with where it stands");
  const end = pagesAt + lengthBytes;
  if (end > stream.sizeBytes)
    throw new UnreadStream(
      stream.what,
      stream.at,
      `it ends before its bitmaps were written, within ${end} bytes`,
    );
  stream.skip(end - stream.at);
  return { bitmapAt, bitmapBytes, pagesAt };
}

/**
 * Where a block's pages lie: calls `place` with the index of each page that is in the file, and its offset. Pages
 * behind the last one that the block has are not.
 */
export function placesOf(
  file: ReadableFile,
  { bitmapAt, bitmapBytes, pagesAt }: MappedBlock,
  pageBytes: number,
  place: (index: number, offset: number) => void,
): void {
  const bitmap = file.read(bitmapAt, bitmapBytes);
  for (let at = 0; at < bitmap.length; at++) {
    const bits = bitmap[at]!;
    if (bits === 0) continue;
    for (let bit = 0; bit < 8; bit++) {
      const index = at * 8 + bit;
      if ((bits & (1 << bit)) !== 0) place(index, pagesAt + index * pageBytes);
    }
  }
}
