/** A file that xz compressed, as a format. */
import { viewOf } from "../../uapi/layout.ts";
import type { ReadableFile } from "./file.ts";
import type { FormatReader } from "./format.ts";
import { xzDecoder } from "./system-codec.ts";
import { goesOn, unpack } from "./unpack.ts";

/** @public Loaded by formats.ts. */
export const xzFile: FormatReader = {
  problem,
  open: (file, onUnpack) => unpack(file, xzDecoder(), "xz", onUnpack),
};

/** The .xz File Format 1.2.1, 2.1.1 and 2.1.2: six bytes of magic, two of flags and their CRC; a footer of 12 bytes. */
const HEADER_BYTES = 12;
const FOOTER_MAGIC = "YZ";
/** As much as is decompressed to see whether it is compressed: LZMA2's chunks (64 KiB) and their ends. */
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
  // It is cut short, or memory whose first page is one of an xz file.
  return goesOn(file, PROBE_BYTES, xzDecoder)
    ? undefined
    : "it does not end with a footer, and what follows its header is not compressed";
}
