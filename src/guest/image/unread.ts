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
