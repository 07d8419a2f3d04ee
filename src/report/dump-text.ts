/** A dump for people: typed where the map has types, else bytes. Streamed, like the JSON. */
import type { ContentRecord, EntryCursor, MapContents, MapInfo, StorageOwner } from "../state.ts";
import { printable } from "../text.ts";
import { arenaIncomplete, type DumpResult, hexAddress, idMeaning, readU32, whyIncomplete } from "./dump.ts";
import type { Output } from "./output.ts";
import { type MapTypes, type TypeRef, text } from "./typed.ts";

/** `key: .. value: ..`, on one line where both are short; values of per-CPU maps CPU by CPU. */
export function dumpText(out: Output, map: MapInfo, contents: MapContents, types?: MapTypes): DumpResult {
  switch (contents.kind) {
    case "entries":
      return dumpEntries(out, map, contents.cursor, types);
    case "records":
      for (const record of contents.records) out.line(recordText(record, types));
      return { count: contents.records.length, incomplete: whyIncomplete(contents.end) };
    case "arena":
      for (const page of contents.arena.pages) {
        out.line(`page ${page.index} at ${hexAddress(page.userAddress)}:`);
        writePage(out, page.bytes);
      }
      return { count: contents.arena.pages.length, incomplete: arenaIncomplete(contents) };
    case "unreadable":
      return { count: 0, incomplete: contents.why.detail };
  }
}

/** `task 12 (sleep): { hits = 3 }`. */
export function recordText(record: ContentRecord, types: MapTypes | undefined): string {
  const words = [record.owner === undefined ? "" : ownerText(record.owner), record.note ?? ""];
  const head = words.filter((word) => word !== "").join(", ");
  return `${head === "" ? "value" : head}: ${bytesText(types?.value, record.value)}`;
}

/** Typed, or in hexadecimal. */
export function bytesText(type: TypeRef | undefined, bytes: Uint8Array): string {
  if (type !== undefined) return text(type, bytes);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    .toString("hex")
    .replace(/..(?=.)/g, "$& ");
}

function ownerText(owner: StorageOwner): string {
  switch (owner.kind) {
    case "task":
      return `task ${owner.pid} (${printable(owner.comm)})`;
    case "cgroup":
      return `cgroup ${owner.id} ${printable(owner.path)}`;
    case "inode":
      return `inode ${owner.inode} on ${printable(owner.superblock)}`;
    case "socket":
      return `socket ${hexAddress(owner.address)}`;
    case "unknown":
      return `owner unknown: ${owner.why}`;
  }
}

const LONG_FIELD = 16;
const ONE_LINE = 24;

function dumpEntries(
  out: Output,
  map: MapInfo,
  cursor: EntryCursor,
  types: MapTypes | undefined,
): DumpResult {
  using walk = cursor;
  const isLong = map.keySize > LONG_FIELD || map.valueSize > LONG_FIELD;
  const oneLine = map.keySize + map.valueSize <= ONE_LINE && !isLong && walk.cpuCount === 0;
  const breaks = isLong || walk.cpuCount > 0;
  const gap = breaks && types === undefined ? "\n" : " ";
  const cpuGap = map.valueSize > LONG_FIELD && types === undefined ? "\n" : " ";
  const meaning = idMeaning(map);
  let count = 0;
  while (walk.next()) {
    out.text(`key:${gap}`);
    writeBytes(out, types?.key, walk.keyBytes, walk.keyOffset, walk.keySize);
    out.text(oneLine ? "  " : "\n");
    if (walk.valueMissing !== "") {
      out.line(`value:${gap}<${walk.valueMissing}>`);
      continue;
    }
    count++;
    if (walk.cpuCount === 0) {
      out.text(`value:${gap}`);
      writeBytes(out, types?.value, walk.valueBytes, walk.valueOffset, walk.valueSize);
      out.line(meaning === undefined ? "" : `  ${meaning} ${readU32(walk.valueBytes, walk.valueOffset)}`);
    }
    for (let cpu = 0; cpu < walk.cpuCount; cpu++) {
      out.text(`value (CPU ${String(cpu).padStart(2, "0")}):${cpuGap}`);
      writeBytes(
        out,
        types?.value,
        walk.valueBytes,
        walk.valueOffset + cpu * walk.valueStride,
        walk.valueSize,
      );
      out.line();
    }
  }
  return { count, incomplete: whyIncomplete(walk.end) };
}

function writeBytes(
  out: Output,
  type: TypeRef | undefined,
  from: Uint8Array,
  offset: number,
  length: number,
): void {
  if (type === undefined) writeHex(out, from, offset, length);
  else out.text(text(type, from.subarray(offset, offset + length)));
}

const BYTES_PER_GROUP = 8;

/** As bpftool breaks them (tools/bpf/bpftool/main.c, fprint_hex): two groups of eight a line. */
function writeHex(out: Output, from: Uint8Array, offset: number, length: number): void {
  for (let at = 0; at < length; at += BYTES_PER_GROUP) {
    if (at > 0) out.text(at % (2 * BYTES_PER_GROUP) === 0 ? "\n" : "  ");
    out.hex(from, offset + at, Math.min(BYTES_PER_GROUP, length - at));
  }
}

const BYTES_PER_LINE = 32;

/** A page without its lines of zeros: an arena's pages are mostly empty. */
function writePage(out: Output, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += BYTES_PER_LINE) {
    const line = bytes.subarray(at, at + BYTES_PER_LINE);
    if (line.every((byte) => byte === 0)) continue;
    out
      .text(`  +0x${at.toString(16).padStart(3, "0")}  `)
      .hex(line, 0, line.length)
      .line();
  }
}
