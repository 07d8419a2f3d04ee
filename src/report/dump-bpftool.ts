/**
 * Maps as `bpftool map dump` and `map lookup` print them without `-j` (tools/bpf/bpftool/map.c): typed maps as JSON in
 * the layout of json_writer.c, others as bytes.
 */
import { readU32 } from "../btf/integer.ts";
import type { EntryCursor, MapInfo } from "../state.ts";
import { mapHeaderJson } from "./bpftool.ts";
import type { DumpResult } from "./dump.ts";
import { writeHex } from "./dump-text.ts";
import { stringify } from "./json.ts";
import type { Output } from "./output.ts";
import { mapTitle } from "./text.ts";
import type { MapTypes } from "./typed.ts";
import { bpftoolText, formattedJson } from "./typed-json.ts";
import { idMeaning, incompleteReason } from "./words.ts";

/** A map with its elements. `types`: undefined if it has no BTF. */
export interface PlainMap {
  readonly map: MapInfo;
  readonly types: MapTypes | undefined;
  readonly cursor: EntryCursor;
}

/** Prints types only if all maps have them, as bpftool's `do_dump` does. Returns one result per map. */
export function dumpBpftool(out: Output, maps: readonly PlainMap[]): readonly DumpResult[] {
  return maps.every(isTyped)
    ? dumpTyped(out, maps)
    : maps.map((one, index) => dumpBytes(out, one, index, maps.length));
}

/** Prints the cursor's current element, as `map lookup` does. */
export function writeElement(out: Output, { map, types, cursor }: PlainMap): void {
  if (types === undefined) writeBytes(out, map, cursor);
  else out.line(layOutJson(elementText(types, cursor), 0));
}

type TypedMap = PlainMap & { readonly types: MapTypes };

const isTyped = (one: PlainMap): one is TypedMap => one.types !== undefined;

function dumpTyped(out: Output, maps: readonly TypedMap[]): DumpResult[] {
  const isList = maps.length > 1;
  if (isList) out.text("[");
  const results = maps.map(({ map, types, cursor }, index) => {
    using walk = cursor;
    if (index > 0) out.text(",");
    const depth = isList ? 2 : 0;
    if (isList) {
      const header = layOutJson(stringify(mapHeaderJson(map)), 1);
      out.text(`${header.slice(0, header.lastIndexOf("\n"))},${lineOf(depth)}"elements": `);
    }
    let count = 0;
    out.text("[");
    while (walk.next())
      out.text((count++ === 0 ? "" : ",") + layOutJson(elementText(types, walk), depth + 1));
    out.text(count === 0 ? "]" : `${lineOf(depth)}]`);
    if (isList) out.text(`${lineOf(1)}}`);
    return { count, incomplete: incompleteReason(walk.end) };
  });
  out.line(isList ? "\n]" : "");
  return results;
}

function elementText(types: MapTypes, walk: EntryCursor): string {
  if (walk.valueMissing === "") return formattedJson(types, walk, bpftoolText);
  const { keyBytes, keyOffset, keySize } = walk;
  const key =
    types.key === undefined
      ? ""
      : `"key":${bpftoolText(types.key, keyBytes.subarray(keyOffset, keyOffset + keySize))},`;
  return `{${key}"value":{"error":${stringify(walk.valueMissing)}}}`;
}

const lineOf = (depth: number): string => `\n${"    ".repeat(depth)}`;

/** Matches a string, a bracket, a comma, a colon, or any other value. */
const TOKEN = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^"[\]{},:]+/g;

/**
 * Formats compact JSON in the layout of json_writer.c (`jsonw_pretty`): a new line before each name and before the closing
 * bracket of a non-empty value; array elements share one line.
 */
export function layOutJson(json: string, atDepth: number): string {
  let depth = atDepth;
  let before = "";
  let text = "";
  /** For each open bracket, whether it is a brace. */
  const open: boolean[] = [];
  for (const [token] of json.matchAll(TOKEN)) {
    if (token === "}" || token === "]") {
      open.pop();
      depth--;
      if (before !== "{" && before !== "[") text += lineOf(depth);
    } else if (open.at(-1) === true && (before === "{" || before === ",")) text += lineOf(depth);
    text += token === ":" ? ": " : token;
    if (token === "{" || token === "[") {
      open.push(token === "{");
      depth++;
    }
    before = token;
  }
  return text;
}

function dumpBytes(out: Output, { map, cursor }: PlainMap, index: number, of: number): DumpResult {
  using walk = cursor;
  if (of > 1) out.line(mapTitle(map));
  let count = 0;
  while (walk.next()) {
    if (walk.valueMissing === "") count++;
    writeBytes(out, map, walk);
  }
  out.line(`Found ${count} element${count === 1 ? "" : "s"}`);
  if (index + 1 < of) out.line();
  return { count, incomplete: incompleteReason(walk.end) };
}

const LONG_FIELD = 16;
const ONE_LINE = 24;

/** `print_entry_plain`, and `print_entry_error_msg` for a missing value. */
function writeBytes(out: Output, map: MapInfo, walk: EntryCursor): void {
  const { keyBytes, keyOffset, keySize, valueBytes, valueOffset, valueSize, valueStride, cpuCount } = walk;
  const missing = walk.valueMissing === "" ? "" : `<${walk.valueMissing}>`;
  const valueLength = missing === "" ? map.valueSize : missing.length;
  const breaks = map.keySize > LONG_FIELD || valueLength > LONG_FIELD;
  const isPerCpu = cpuCount > 0 && missing === "";
  const gap = breaks ? "\n" : " ";
  if (keySize > 0) {
    out.text(isPerCpu ? "key:\n" : `key:${gap}`);
    writeHex(out, keyBytes, keyOffset, keySize);
    out.text(map.keySize + valueLength <= ONE_LINE && !breaks && !isPerCpu ? "  " : "\n");
  }
  if (isPerCpu) {
    for (let cpu = 0; cpu < cpuCount; cpu++) {
      const number = String(walk.cpus?.[cpu] ?? cpu).padStart(2, "0");
      out.text(`value (CPU ${number}):${valueSize > LONG_FIELD ? "\n" : " "}`);
      writeHex(out, valueBytes, valueOffset + cpu * valueStride, valueSize);
      out.line();
    }
    return;
  }
  if (missing !== "") out.text(`value:${gap}${missing}`);
  else if (idMeaning(map) === "inner_map_id")
    out.text(`inner_map_id:${gap}${readU32(valueBytes, valueOffset)} `);
  else if (valueSize > 0) {
    out.text(`value:${gap}`);
    writeHex(out, valueBytes, valueOffset, valueSize);
  }
  out.line();
}
