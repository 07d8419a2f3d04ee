/** Reads files compressed by xz. */
import { viewOf } from "../../uapi/layout.ts";
import type { ReadableFile } from "./file.ts";
import type { FormatReader } from "./format.ts";
import { xzDecoder } from "./system-codec.ts";
import { decompressesAtStart, unpack } from "./unpack.ts";

/** @public Loaded by formats.ts. */
export const xzFile: FormatReader = {
  problem,
  open: (file, onUnpack) => unpack(file, xzDecoder(), "xz", onUnpack),
};

/** The .xz File Format 1.2.1, 2.1.1 and 2.1.2: six bytes of magic, two of flags and their CRC; a footer of 12 bytes. */
const HEADER_BYTES = 12;
const FOOTER_MAGIC = "YZ";
/** Bytes to decompress when detecting the format: more than one LZMA2 chunk (64 KiB). */
const PROBE_BYTES = 2 ** 18;

function problem(file: ReadableFile): string | undefined {
  const header = file.read(0, HEADER_BYTES);
  if (header.length < HEADER_BYTES) return "it ends within the header";
  const flags = header.subarray(6, 8);
  if (viewOf(header).getUint32(8, true) !== Bun.hash.crc32(flags))
    return "the checksum of its header is wrong";
  const footer = file.read(file.sizeBytes - HEADER_BYTES, HEADER_BYTES);
  const hasFooter = Buffer.from(footer).toString("latin1", 10) === FOOTER_MAGIC;
  if (hasFooter && footer[8] === flags[0] && footer[9] === flags[1]) return undefined;
  // Either a truncated file, or raw memory whose first page is that of an xz file.
  return decompressesAtStart(file, PROBE_BYTES, xzDecoder)
    ? undefined
    : "it does not end with a footer, and the data after its header is not compressed";
}
