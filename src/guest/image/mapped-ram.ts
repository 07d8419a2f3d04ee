/**
 * Reads RAM blocks of migration streams with the capability mapped-ram (QEMU 9.0 or newer): each block is followed by a
 * bitmap and by its pages, each at a fixed offset (docs/devel/migration/mapped-ram.rst; migration/ram.c,
 * mapped_ram_setup_ramblock).
 */
import type { ReadableFile } from "./file.ts";
import { type StreamReader, UnsupportedStream } from "./stream-reader.ts";

/** `struct MappedRamHeader`: u32 version, then the page size and two offsets as u64; big-endian. */
const VERSION = 1;
/** The bitmap is an array of u64. */
const WORD_BITS = 64;
const WORD_BYTES = 8;

/** Offsets of a block's parts, in bytes from the start of the stream. */
export interface MappedBlock {
  /** One bit per page, little-endian: 1 if the page is in the file, 0 if it is all zeros. */
  readonly bitmapAt: number;
  readonly bitmapBytes: number;
  readonly pagesAt: number;
}

/**
 * Reads a block's header and skips its pages. Throws `FormatError` if the offsets in the header do not match its position,
 * `UnsupportedStream` if the file ends first.
 * The offsets are relative to the file that QEMU wrote, in which libvirt's header precedes the stream. The bitmap directly
 * follows this header, so the difference between its stored offset and the stream's position is the size of that header.
 */
export function readMappedBlock(stream: StreamReader, lengthBytes: number, pageBytes: number): MappedBlock {
  const version = stream.u32();
  if (version !== VERSION) throw stream.error(`a block's mapped-ram header has version ${version}`);
  const size = stream.u64();
  const [bitmapOffset, pagesOffset] = [stream.u64(), stream.u64()];
  const bitmapAt = stream.at;
  const before = bitmapOffset - bitmapAt;
  const pagesAt = pagesOffset - before;
  const bitmapBytes = Math.ceil(lengthBytes / pageBytes / WORD_BITS) * WORD_BYTES;
  if (size !== pageBytes || before < 0 || pagesAt < bitmapAt + bitmapBytes)
    throw stream.error("the offsets in a block's mapped-ram header do not match its position");
  const end = pagesAt + lengthBytes;
  if (end > stream.sizeBytes)
    throw new UnsupportedStream(
      stream.what,
      stream.at,
      `it ends before its bitmaps were written, within the first ${end} bytes`,
    );
  stream.skip(end - stream.at);
  return { bitmapAt, bitmapBytes, pagesAt };
}

/**
 * Calls `place` with the index and the file offset of each page of a block that is in the file. The index can exceed the
 * block's last page, because the bitmap has whole words.
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
