/** Reads files compressed by bzip2. */
import type { ReadableFile } from "./file.ts";
import type { FormatReader } from "./format.ts";
import { bzip2Decoder } from "./system-codec.ts";
import { decompressesAtStart, unpack } from "./unpack.ts";

/** @public Loaded by formats.ts. */
export const bzip2File: FormatReader = {
  problem,
  open: (file, onUnpack) => unpack(file, bzip2Decoder(), "bzip2", onUnpack),
};

/** "BZh", the block size in units of 100,000 bytes as a digit, and the first block's magic number. */
const HEADER = /^BZh[1-9](?:1AY&SY|\x17rE8P\x90)/;
const HEADER_BYTES = 10;
/** Bytes to decompress when detecting the format: the largest possible block. */
const PROBE_BYTES = 2 ** 20;

function problem(file: ReadableFile): string | undefined {
  const header = Buffer.from(file.read(0, HEADER_BYTES)).toString("latin1");
  if (!HEADER.test(header)) return "no block follows its header";
  // Raw memory that starts with a page of a bzip2 file is larger than this.
  if (file.sizeBytes < PROBE_BYTES || decompressesAtStart(file, PROBE_BYTES, bzip2Decoder)) return undefined;
  return "the data after its header is not compressed";
}
