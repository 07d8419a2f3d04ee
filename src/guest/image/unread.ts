/** Formats that are recognised and not read: their error says what to do, where a search for a kernel would find none. */
import { FormatError } from "../../errors.ts";
import { u53, viewOf } from "../../uapi/layout.ts";
import type { FormatReader } from "./format.ts";

function notRead(what: string, hint: string, problem: FormatReader["problem"]): FormatReader {
  return {
    problem,
    open(file) {
      throw new FormatError(`memory file ${file.path}`, 0, `it is ${what}, which is not read`, hint);
    },
  };
}

/** The header is cut off: no file of the format is so short. */
const TOO_SHORT = "it ends within the header";

/** `lime_mem_range_header` (LiME's src/lime.h): magic, version, first and last address, 8 zeros; then the memory. */
const LIME_MAGIC = 0x4c69_4d45;
const LIME_HEADER_BYTES = 32;
const MAX_LIME_RANGES = 4096;

/** @public Loaded by formats.ts. */
export const lime: FormatReader = notRead(
  "a LiME dump",
  "Convert it to raw pieces, one FILE@ADDRESS each.",
  (file) => {
    let at = 0;
    for (let range = 0; range < MAX_LIME_RANGES && at < file.sizeBytes; range++) {
      const header = viewOf(file.read(at, LIME_HEADER_BYTES));
      if (header.byteLength < LIME_HEADER_BYTES) return TOO_SHORT;
      const [first, last] = [u53(header, 8), u53(header, 16)];
      if (header.getUint32(0, true) !== LIME_MAGIC || header.getUint32(4, true) !== 1 || !(first <= last))
        return `no range begins at byte ${at}`;
      at += LIME_HEADER_BYTES + last - first + 1;
    }
    return undefined;
  },
);

/** As much as is decompressed to see whether it is compressed: two blocks, each of which may be stored as it is. */
const PROBE_BYTES = 131_072;
const MAX_PROBED_BYTES = 16 * 2 ** 20;
/** RFC 1952, 2.3.1: these bits of FLG are zero. */
const GZIP_RESERVED = 0xe0;

/** @public Loaded by formats.ts. */
export const gzip: FormatReader = notRead("compressed by gzip", "Decompress it first.", (file) => {
  const head = file.read(0, PROBE_BYTES);
  if (head.length < 18) return TOO_SHORT;
  if ((head[3]! & GZIP_RESERVED) !== 0) return "its flags have reserved bits set";
  if (!inflates(head, true)) return "what follows its header is not compressed";
  const isWhole = head.length === file.sizeBytes;
  return !isWhole && inflates(head, false) ? `it ends within the first ${PROBE_BYTES} bytes` : undefined;
});

/** `mayGoOn`: a stream that does not end within the bytes is accepted. */
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

/** The .xz File Format 1.2.1, 2.1.1 and 2.1.2: six bytes of magic, two of flags and their CRC; a footer of 12 bytes. */
const XZ_HEADER_BYTES = 12;
const XZ_FOOTER_MAGIC = "YZ";

/** @public Loaded by formats.ts. */
export const xz: FormatReader = notRead("compressed by xz", "Decompress it first.", (file) => {
  const header = file.read(0, XZ_HEADER_BYTES);
  const footer = file.read(file.sizeBytes - XZ_HEADER_BYTES, XZ_HEADER_BYTES);
  if (header.length < XZ_HEADER_BYTES || footer.length < XZ_HEADER_BYTES) return TOO_SHORT;
  if (viewOf(header).getUint32(8, true) !== Bun.hash.crc32(header.subarray(6, 8)))
    return "the checksum of its header is wrong";
  if (Buffer.from(footer).toString("latin1", 10) !== XZ_FOOTER_MAGIC) return "it does not end with a footer";
  return footer[8] === header[6] && footer[9] === header[7] ? undefined : "its header and footer differ";
});
