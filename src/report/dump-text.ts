/** A map dump as text: typed if the map has BTF, else bytes. Streamed, like the JSON. */

import { readU32 } from "../btf/integer.ts";
import type { TextOptions } from "../btf/text.ts";
import type { EntryCursor, MapContents, MapInfo } from "../state.ts";
import { escapeText } from "../text.ts";
import type { ArenaObject } from "./arena-objects.ts";
import { type DumpResult, type DumpStyle, valuesOf } from "./dump.ts";
import { arenaObjectText, bytesText, recordText } from "./element-text.ts";
import type { Output } from "./output.ts";
import { type MapTypes, type TypeRef, text } from "./typed.ts";
import { arenaIncomplete, hexAddress, idMeaning, incompleteReason } from "./words.ts";

/** Prints `key: .. value: ..` on one line if both are short. Values of per-CPU maps have one line per CPU. */
export function dumpText(
  out: Output,
  map: MapInfo,
  contents: MapContents,
  style: DumpStyle = {},
): DumpResult {
  const { types } = style;
  switch (contents.kind) {
    case "entries":
      return dumpEntries(out, map, contents.cursor, style);
    case "records":
      for (const record of contents.records) {
        out.line(recordText(record, types, style.text));
        if (types !== undefined) writeFollowed(out, style, types.value, [record.value]);
      }
      return { count: contents.records.length, incomplete: incompleteReason(contents.end) };
    case "arena":
      for (const page of contents.arena.pages) {
        out.line(`page ${page.index} at ${hexAddress(page.userAddress)}:`);
        for (const object of style.arena?.on(page.index) ?? []) writeArenaObject(out, object, style);
        writePage(out, page.bytes);
      }
      return { count: contents.arena.pages.length, incomplete: arenaIncomplete(contents) };
    case "unreadable":
      return { count: 0, incomplete: contents.why.detail };
  }
}

const LONG_FIELD = 16;
const ONE_LINE = 24;

/** Prints the objects that pointers of one element's values reach, one per line. */
export function writeFollowed(
  out: Output,
  style: DumpStyle,
  type: TypeRef,
  values: readonly Uint8Array[],
): void {
  if (style.follower === undefined) return;
  for (const value of values) {
    const { targets, cut } = style.follower.follow(type, value);
    for (const target of targets) {
      const where =
        target.arena === undefined ? hexAddress(target.address) : `arena+0x${target.offset.toString(16)}`;
      const shown = text(target.type, target.bytes, style.text).replaceAll("\n", "\n  ");
      out.line(`  -> ${where}  ${escapeText(target.typeText)} ${shown}`);
    }
    if (cut) out.line(`  -> ... more than ${targets.length} objects`);
  }
}

function writeArenaObject(out: Output, object: ArenaObject, style: DumpStyle): void {
  out.line(`  ${arenaObjectText(object, style.text).replaceAll("\n", "\n  ")}`);
  if (object.isVariable) writeFollowed(out, style, object.type, [object.bytes]);
}

function dumpEntries(out: Output, map: MapInfo, cursor: EntryCursor, style: DumpStyle): DumpResult {
  using walk = cursor;
  const { types } = style;
  const isLong = map.keySize > LONG_FIELD || map.valueSize > LONG_FIELD;
  const oneLine = map.keySize + map.valueSize <= ONE_LINE && !isLong && walk.cpuCount === 0;
  const breaks = isLong || walk.cpuCount > 0;
  const gap = breaks && types === undefined ? "\n" : " ";
  const cpuGap = map.valueSize > LONG_FIELD && types === undefined ? "\n" : " ";
  const meaning = idMeaning(map);
  let count = 0;
  while (walk.next()) {
    if (types !== undefined && oneLine && walk.valueMissing === "") {
      out.line(typedLine(walk, types, style.text));
      count++;
      if (walk.note) out.line(`  (${escapeText(walk.note)})`);
      writeFollowed(out, style, types.value, valuesOf(walk));
      continue;
    }
    out.text(`key:${gap}`);
    writeBytes(out, types?.key, walk.keyBytes, walk.keyOffset, walk.keySize, style.text);
    out.text(oneLine ? "  " : "\n");
    if (walk.valueMissing !== "") {
      out.line(`value:${gap}<${walk.valueMissing}>`);
      continue;
    }
    count++;
    if (walk.cpuCount === 0) {
      out.text(`value:${gap}`);
      writeBytes(out, types?.value, walk.valueBytes, walk.valueOffset, walk.valueSize, style.text);
      out.line(meaning === undefined ? "" : `  ${meaning} ${readU32(walk.valueBytes, walk.valueOffset)}`);
    }
    for (let cpu = 0; cpu < walk.cpuCount; cpu++) {
      out.text(`value (CPU ${String(walk.cpus?.[cpu] ?? cpu).padStart(2, "0")}):${cpuGap}`);
      writeBytes(
        out,
        types?.value,
        walk.valueBytes,
        walk.valueOffset + cpu * walk.valueStride,
        walk.valueSize,
        style.text,
      );
      out.line();
    }
    if (walk.note) out.line(`  (${escapeText(walk.note)})`);
    if (types !== undefined) writeFollowed(out, style, types.value, valuesOf(walk));
  }
  return { count, incomplete: incompleteReason(walk.end) };
}

const WIDE = 100;

/** Prints key and value on one line, or on two if the line would be longer than `WIDE`. */
function typedLine(walk: EntryCursor, types: MapTypes, options: TextOptions | undefined): string {
  const { keyBytes, keyOffset, keySize, valueBytes, valueOffset, valueSize } = walk;
  const keyText = bytesText(types.key, keyBytes.subarray(keyOffset, keyOffset + keySize), options);
  const value = valueBytes.subarray(valueOffset, valueOffset + valueSize);
  const valueText = bytesText(types.value, value, options);
  const line = `key: ${keyText}  value: ${valueText}`;
  return line.length <= WIDE && !line.includes("\n") ? line : `key: ${keyText}\nvalue: ${valueText}`;
}

function writeBytes(
  out: Output,
  type: TypeRef | undefined,
  from: Uint8Array,
  offset: number,
  length: number,
  options: TextOptions | undefined,
): void {
  if (type === undefined) writeHex(out, from, offset, length);
  else out.text(text(type, from.subarray(offset, offset + length), options));
}

const BYTES_PER_GROUP = 8;

/** Breaks lines as bpftool does (`fprint_hex` of tools/bpf/bpftool/main.c): two groups of eight per line. */
export function writeHex(out: Output, from: Uint8Array, offset: number, length: number): void {
  for (let at = 0; at < length; at += BYTES_PER_GROUP) {
    if (at > 0) out.text(at % (2 * BYTES_PER_GROUP) === 0 ? "\n" : "  ");
    out.hex(from, offset + at, Math.min(BYTES_PER_GROUP, length - at));
  }
}

const BYTES_PER_LINE = 32;

/** Prints a page without lines of zeros, because most of an arena's pages are nearly empty. */
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
