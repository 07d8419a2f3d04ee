/**
 * Reads Cloud Hypervisor's snapshots: a folder with memory-ranges, the guest's memory without headers, and state.json
 * (docs/snapshot_restore.md). The state of "memory-manager" has `memory_ranges`: the address and length of each range, in the
 * order of the file (vmm/src/memory_manager.rs, MemoryManagerSnapshotData and `send`).
 */
import { FormatError } from "../../errors.ts";
import { u53 } from "../../uapi/layout.ts";
import type { DataFile } from "./file.ts";
import type { Contents, Piece } from "./format.ts";

/** vmm/src/memory_manager.rs, SNAPSHOT_FILENAME; vmm/src/migration.rs, SNAPSHOT_STATE_FILE. */
const MEMORY_NAME = /(^|\/)memory-ranges$/;
const STATE_NAME = "state.json";
/** The state of a machine has a few hundred KB. In a JSON array of numbers, each byte takes up to four characters. */
const MAX_STATE_BYTES = 64 * 2 ** 20;
const MAX_RANGES = 65_536;
/** x86-64 and arm64 address at most 52 bits of physical memory. */
const MAX_PHYSICAL = 2 ** 52;

type Fields = { readonly [key: string]: unknown };

/**
 * Returns the layout of a file memory-ranges from the state.json next to it, or undefined if the file has another name, or
 * if there is no state. Throws `FormatError` if the state is damaged.
 * @public Loaded by formats.ts.
 */
export function contentsOfRanges(file: DataFile): Contents | undefined {
  if (!MEMORY_NAME.test(file.path)) return undefined;
  const { readFileSync, statSync } = process.getBuiltinModule("node:fs");
  const path = file.path.replace(MEMORY_NAME, `$1${STATE_NAME}`);
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat?.isFile() !== true) return undefined;
  const error = (why: string): FormatError =>
    new FormatError(
      `Cloud Hypervisor state ${path}`,
      0,
      why,
      "`--format raw` reads memory-ranges without it.",
    );
  if (stat.size > MAX_STATE_BYTES) throw error(`it has more than ${MAX_STATE_BYTES} bytes`);
  const ranges = rangesIn(readFileSync(path, "utf8"));
  if (typeof ranges === "string") throw error(ranges);
  const pieces: Piece[] = [];
  let fileOffset = 0;
  for (const { gpa, length } of ranges) {
    pieces.push({
      fileOffset,
      physical: gpa,
      length: Math.max(0, Math.min(length, file.sizeBytes - fileOffset)),
    });
    fileOffset += length;
  }
  if (fileOffset < file.sizeBytes)
    throw error(`its memory has ${fileOffset} bytes, and ${file.path} has ${file.sizeBytes}`);
  const missing = fileOffset - file.sizeBytes;
  return {
    format: "Cloud Hypervisor snapshot",
    pieces: pieces.filter(({ length }) => length > 0),
    warnings: missing > 0 ? [`${file.path} is truncated: ${missing} bytes of memory are missing.`] : [],
  };
}

interface Range {
  readonly gpa: number;
  readonly length: number;
}

/** Returns the ranges, or a clause that says why there are none. */
function rangesIn(text: string): readonly Range[] | string {
  const root = parse(text);
  if (root === undefined) return "it is not JSON";
  const manager = fieldsOf(fieldsOf(root["snapshots"])["memory-manager"]);
  const data = manager["snapshot_data"];
  if (data === undefined || data === null) return "it has no state of the memory manager";
  const ranges = rangesOf(data);
  if (ranges === undefined || ranges.length === 0) return "it has no valid list of memory ranges";
  return ranges;
}

function parse(text: string): Fields | undefined {
  try {
    return fieldsOf(JSON.parse(text));
  } catch {
    return undefined;
  }
}

const fieldsOf = (value: unknown): Fields =>
  typeof value === "object" && value !== null ? (value as Fields) : {};

/**
 * The state in the forms of vm-migration/src/lib.rs: `{ "state": TEXT }` with JSON in the text; an array of bytes; or a section
 * by name, with its bytes in `snapshot`. Bytes are written by versionize (bincode with integers of fixed size) or are JSON.
 */
function rangesOf(data: unknown): readonly Range[] | undefined {
  const section = fieldsOf(fieldsOf(data)["memory-manager-section"]);
  const state = section["snapshot"] ?? fieldsOf(data)["state"] ?? data;
  if (typeof state === "string") return rangesInJson(state);
  if (!Array.isArray(state)) return undefined;
  const bytes = Uint8Array.from(state as number[]);
  return bytes[0] === 0x7b ? rangesInJson(Buffer.from(bytes).toString("utf8")) : rangesInBincode(bytes);
}

function rangesInJson(text: string): readonly Range[] | undefined {
  const list = fieldsOf(fieldsOf(parse(text))["memory_ranges"])["data"];
  if (!Array.isArray(list) || list.length > MAX_RANGES) return undefined;
  return valid(
    list.map((each: unknown) => ({
      gpa: Number(fieldsOf(each)["gpa"]),
      length: Number(fieldsOf(each)["length"]),
    })),
  );
}

/** `memory_ranges` is the first field: the number of ranges as u64, then `gpa` and `length` of each. */
function rangesInBincode(bytes: Uint8Array): readonly Range[] | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = bytes.length < 8 ? 0 : u53(view, 0);
  if (count > MAX_RANGES || 8 + 16 * count > bytes.length) return undefined;
  return valid(
    Array.from({ length: count }, (_, index) => ({
      gpa: u53(view, 8 + 16 * index),
      length: u53(view, 16 + 16 * index),
    })),
  );
}

function valid(ranges: readonly Range[]): readonly Range[] | undefined {
  const isValid = ({ gpa, length }: Range): boolean =>
    Number.isSafeInteger(gpa) &&
    Number.isSafeInteger(length) &&
    gpa >= 0 &&
    length > 0 &&
    gpa % 4096 === 0 &&
    length % 4096 === 0 &&
    gpa + length <= MAX_PHYSICAL;
  return ranges.every(isValid) ? ranges : undefined;
}
