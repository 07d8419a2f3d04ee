/**
 * Reads flattened dumps: the output of makedumpfile -F, and of QEMU's `dump-guest-memory -z` without `-R`. A flattened dump
 * stores another file as records, each with the offset of its data in that file. makedumpfile -R restores the file.
 */
import { FormatError } from "../../errors.ts";
import { u53be, viewOf } from "../../uapi/layout.ts";
import type { ReadableFile } from "./file.ts";
import type { FormatReader } from "./format.ts";

/** @public Loaded by formats.ts. */
export const flattened: FormatReader = { problem, open: (file) => new FlattenedFile(file) };

/** `struct makedumpfile_header` (makedumpfile.h): signature, type and version, big-endian, in a block of its own. */
const HEADER_BYTES = 4096;
const TYPE_AT = 16;
const VERSION_AT = 24;
const TYPE_FLAT_HEADER = 1n;
const VERSION_FLAT_HEADER = 1n;
/** `struct makedumpfile_data_header`: offset and size, big-endian. Both are -1 in the last record. */
const RECORD_BYTES = 16;
const END = -1n;
/** makedumpfile writes at most one buffer per record. */
const MAX_RECORD_BYTES = 2 ** 31;
/** Number of records to check when detecting the format. */
const PROBE_RECORDS = 16;
/** Enough for a dump of 1 TiB with one page per record. */
const MAX_RECORDS = 2 ** 28;

interface Record {
  /** Offset of the data in the restored file. */
  readonly offset: number;
  readonly size: number;
  /** Offset of the data in the flattened file. */
  readonly at: number;
}

function problem(file: ReadableFile): string | undefined {
  const header = viewOf(file.read(0, 32));
  if (header.byteLength < 32) return "it ends within the header";
  if (
    header.getBigInt64(TYPE_AT) !== TYPE_FLAT_HEADER ||
    header.getBigInt64(VERSION_AT) !== VERSION_FLAT_HEADER
  )
    return "its type or version is not 1";
  let count = 0;
  for (const record of recordsOf(file)) {
    if (typeof record === "string") return record;
    if (++count >= PROBE_RECORDS) break;
  }
  return count === 0 ? "it has no records" : undefined;
}

/** Yields the records in the file's order up to the end mark, or a clause if a record is not valid. */
function* recordsOf(file: ReadableFile): Generator<Record | string> {
  let at = HEADER_BYTES;
  let view = viewOf(new Uint8Array(0));
  let viewAt = 0;
  for (let count = 0; count < MAX_RECORDS && at + RECORD_BYTES <= file.sizeBytes; count++) {
    // Records of compressed pages are short: one read covers several headers.
    if (at < viewAt || at + RECORD_BYTES > viewAt + view.byteLength) {
      view = viewOf(file.read(at, 65_536));
      viewAt = at;
      if (view.byteLength < RECORD_BYTES) return;
    }
    const inView = at - viewAt;
    if (view.getBigInt64(inView) === END && view.getBigInt64(inView + 8) === END) return;
    const offset = u53be(view, inView);
    const size = u53be(view, inView + 8);
    if (size === 0 || size > MAX_RECORD_BYTES || offset + size > Number.MAX_SAFE_INTEGER)
      return yield `no record starts at byte ${at}`;
    at += RECORD_BYTES;
    yield { offset, size, at };
    at += size;
  }
}

/** The restored file; its data is read from the records. */
class FlattenedFile implements ReadableFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly #file: ReadableFile;
  /** Sorted by offset, without overlaps. */
  readonly #records: readonly Record[];

  /** Throws `FormatError` if a record is damaged. */
  constructor(file: ReadableFile) {
    this.path = file.path;
    this.#file = file;
    const records: Record[] = [];
    for (const record of recordsOf(file)) {
      if (typeof record === "string") throw new FormatError(`flattened dump ${file.path}`, 0, record);
      const last = records.at(-1);
      if (
        last !== undefined &&
        last.offset + last.size === record.offset &&
        last.at + last.size === record.at
      )
        records[records.length - 1] = { ...last, size: last.size + record.size };
      else records.push(record);
    }
    this.#records = withoutOverlaps(records, file.path);
    const last = this.#records.at(-1);
    this.sizeBytes = last === undefined ? 0 : last.offset + last.size;
    if (this.sizeBytes === 0)
      throw new FormatError(`flattened dump ${file.path}`, HEADER_BYTES, "it has no records");
  }

  check(): void {
    this.#file.check();
  }

  /** Bytes outside all records are zeros, as in the file that makedumpfile -R writes. */
  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const into = new Uint8Array(new ArrayBuffer(Math.max(0, Math.min(length, this.sizeBytes - offset))));
    const end = offset + into.length;
    for (let index = this.#firstEndingAfter(offset); index < this.#records.length; index++) {
      const record = this.#records[index]!;
      if (record.offset >= end) break;
      const from = Math.max(offset, record.offset);
      const size = Math.min(end, record.offset + record.size) - from;
      into.set(this.#file.read(record.at + from - record.offset, size), from - offset);
    }
    return into;
  }

  #firstEndingAfter(offset: number): number {
    let low = 0;
    let high = this.#records.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { offset: start, size } = this.#records[middle]!;
      if (start + size <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  [Symbol.dispose](): void {}
}

/** Limit on records that overlap in one place. makedumpfile writes a few headers a second time. */
const MAX_OVERLAPS = 1000;

/** Removes overlaps: a later record replaces an earlier one. Throws `FormatError` if too many records overlap. */
function withoutOverlaps(records: readonly Record[], path: string): readonly Record[] {
  const sorted = [...records.entries()].sort(([, a], [, b]) => a.offset - b.offset);
  const kept: Record[] = [];
  for (let first = 0; first < sorted.length; ) {
    let next = first;
    let end = 0;
    for (; next < sorted.length && (next === first || sorted[next]![1].offset < end); next++)
      end = Math.max(end, sorted[next]![1].offset + sorted[next]![1].size);
    if (next - first > MAX_OVERLAPS)
      throw new FormatError(
        `flattened dump ${path}`,
        sorted[first]![1].at,
        `${next - first} records overlap`,
      );
    kept.push(...resolveOverlaps(sorted.slice(first, next).sort(([a], [b]) => a - b)));
    first = next;
  }
  return kept;
}

/** Returns what remains of `records`, which are in the file's order: each loses the parts that later records cover. */
function resolveOverlaps(records: readonly (readonly [number, Record])[]): Record[] {
  const kept: Record[] = [];
  for (const [, record] of records.toReversed()) {
    let rest = [record];
    for (const cover of kept) rest = rest.flatMap((part) => subtract(part, cover));
    kept.push(...rest);
  }
  return kept.sort((a, b) => a.offset - b.offset);
}

/** Returns the parts of `part` that are outside `cover`. */
function subtract(part: Record, cover: Record): Record[] {
  const from = Math.max(part.offset, cover.offset);
  const to = Math.min(part.offset + part.size, cover.offset + cover.size);
  if (from >= to) return [part];
  const parts: Record[] = [];
  if (part.offset < from) parts.push({ ...part, size: from - part.offset });
  const end = part.offset + part.size;
  if (to < end) parts.push({ offset: to, size: end - to, at: part.at + to - part.offset });
  return parts;
}
