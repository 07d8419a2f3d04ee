/** Reads files compressed by gzip. */
import { gzipDecoder } from "./bun-codec.ts";
import type { ReadableFile } from "./file.ts";
import type { FormatReader } from "./format.ts";
import { unpack } from "./unpack.ts";

/** @public Loaded by formats.ts. */
export const gzipFile: FormatReader = {
  problem,
  open: (file, onUnpack) => unpack(file, gzipDecoder(), "gzip", onUnpack),
};

/** Bytes to decompress when detecting the format: at least two blocks, even if they are stored uncompressed. */
const PROBE_BYTES = 131_072;
const MAX_PROBED_BYTES = 16 * 2 ** 20;
/** RFC 1952, 2.3: a header of 10 bytes and a trailer of 8. */
const MIN_BYTES = 18;
/** 2.3.1: these bits of FLG are zero. */
const RESERVED_FLAGS = 0xe0;

function problem(file: ReadableFile): string | undefined {
  const head = file.read(0, PROBE_BYTES);
  if (head.length < MIN_BYTES) return "it ends within the header";
  if ((head[3]! & RESERVED_FLAGS) !== 0) return "its flags have reserved bits set";
  if (!inflates(head, true)) return "the data after its header is not compressed";
  if (head.length === file.sizeBytes || !inflates(head, false)) return undefined;
  return `its compressed data ends within the first ${PROBE_BYTES} bytes`;
}

/** Returns whether the bytes decompress. With `mayGoOn`, the stream may continue past them. */
function inflates(bytes: Uint8Array<ArrayBuffer>, mayGoOn: boolean): boolean {
  const { constants, gunzipSync } = process.getBuiltinModule("node:zlib");
  try {
    gunzipSync(bytes, {
      maxOutputLength: MAX_PROBED_BYTES,
      finishFlush: mayGoOn ? constants.Z_SYNC_FLUSH : constants.Z_FINISH,
    });
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE" && mayGoOn;
  }
}
