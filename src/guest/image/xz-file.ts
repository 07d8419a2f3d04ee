/** A file that xz compressed, as a format. */
import { viewOf } from "../../uapi/layout.ts";
import type { ReadableFile } from "./file.ts";
import type { FormatReader } from "./format.ts";
import { xzDecoder } from "./system-codec.ts";
import { unpack } from "./unpack.ts";

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
const MAX_PROBED_BYTES = 16 * 2 ** 20;

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
  return goesOn(file)
    ? undefined
    : "it does not end with a footer, and what follows its header is not compressed";
}

/** Whether the first bytes decompress; false where the machine has no library for it. */
function goesOn(file: ReadableFile): boolean {
  try {
    using decoder = xzDecoder();
    const into = new Uint8Array(new ArrayBuffer(2 ** 16));
    let from = file.read(0, PROBE_BYTES);
    if (from.length < PROBE_BYTES) return false;
    for (let done = 0; from.length > 0 && done < MAX_PROBED_BYTES; ) {
      const { taken, given } = decoder.step(from, into);
      if (taken === 0 && given === 0) return false;
      from = from.subarray(taken);
      done += given;
    }
    return true;
  } catch {
    return false;
  }
}
