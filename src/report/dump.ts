/** Map contents as JSON, streamed: at most one element is in memory. */

import { readU32 } from "../btf/integer.ts";
import type { TextOptions } from "../btf/text.ts";
import type { ContentRecord, EntryCursor, MapContents, MapInfo, StorageOwner } from "../state.ts";
import { printable } from "../text.ts";
import type { ArenaObject, ArenaObjects } from "./arena-objects.ts";
import type { Follower, Target } from "./follow.ts";
import { type Json, stringify } from "./json.ts";
import { Literal, type Output } from "./output.ts";
import type { MapTypes, TypeRef } from "./typed.ts";
import { formattedJson, json, plain } from "./typed-json.ts";
import { arenaIncomplete, hexAddress, idMeaning, incompleteReason } from "./words.ts";

/** Types, names and pointers that a dump shows in addition to bytes. */
export interface DumpStyle {
  readonly types?: MapTypes | undefined;
  /** Text options: symbols, arena addresses, callbacks. */
  readonly text?: TextOptions | undefined;
  /** Set if pointers are followed. */
  readonly follower?: Follower | undefined;
  /** Objects in an arena's pages, if known. */
  readonly arena?: ArenaObjects | undefined;
}

export interface DumpResult {
  readonly count: number;
  /** Reason why the output is not complete; "" if it is. */
  readonly incomplete: string;
}

/**
 * Streams bpftool's `[{"key":[...],"value":[...]}]`. Records and arena pages have other members. `gap` is printed
 * before each element, for example a line break.
 */
export function dumpJson(
  out: Output,
  map: MapInfo,
  contents: MapContents,
  style: DumpStyle = {},
  gap = "",
): DumpResult {
  const { types } = style;
  switch (contents.kind) {
    case "entries":
      return dumpEntriesJson(out, map, contents.cursor, gap, style);
    case "records": {
      out.text("[");
      contents.records.forEach((record, index) => {
        out.text(index > 0 ? `,${gap}` : gap);
        writeRecordJson(out, record, types);
        if (types !== undefined) writeFollowedJson(out, style, types.value, record.value);
        out.text("}");
      });
      out.text("]");
      return { count: contents.records.length, incomplete: incompleteReason(contents.end) };
    }
    case "arena": {
      const { arena } = contents;
      out.text("[");
      arena.pages.forEach((page, index) => {
        out.text(
          `${index > 0 ? "," : ""}{"page":${page.index},"address":"${hexAddress(page.userAddress)}","value":`,
        );
        out.jsonHex(page.bytes, 0, page.bytes.length);
        const typed = style.arena?.on(page.index) ?? [];
        if (typed.length > 0)
          out.text(`,"typed":${stringify(typed.map((object) => arenaObjectJson(object, style)))}`);
        out.text("}");
      });
      out.text("]");
      return { count: arena.pages.length, incomplete: arenaIncomplete(contents) };
    }
    case "unreadable":
      out.text("[]");
      return { count: 0, incomplete: contents.why.detail };
  }
}

function dumpEntriesJson(
  out: Output,
  map: MapInfo,
  cursor: EntryCursor,
  gap: string,
  style: DumpStyle,
): DumpResult {
  using walk = cursor;
  const separator = new Literal(`,${gap}`);
  let count = 0;
  out.text("[");
  while (walk.next()) {
    if (count++ === 0) out.text(gap);
    else out.literal(separator);
    writeEntryJson(out, map, walk, style);
  }
  out.text("]");
  return { count, incomplete: incompleteReason(walk.end) };
}

const KEY = new Literal('{"key":');
const VALUE = new Literal(',"value":');
const END = new Literal("}");

/** Prints the cursor's current element. */
export function writeEntryJson(out: Output, map: MapInfo, walk: EntryCursor, style: DumpStyle): void {
  const { types } = style;
  out.literal(KEY);
  out.jsonHex(walk.keyBytes, walk.keyOffset, walk.keySize);
  if (walk.valueMissing !== "") out.text(`,"value":{"error":${stringify(walk.valueMissing)}}`);
  else {
    if (walk.cpuCount > 0) writeValuesJson(out, walk);
    else writeValueJson(out, walk);
    writeMeaning(out, map, walk);
    if (types !== undefined) {
      out.text(',"formatted":').text(formattedJson(types, walk));
      writeFollowedJson(out, style, types.value, walk);
    }
  }
  if (walk.note) out.text(`,"note":${stringify(walk.note)}`);
  out.literal(END);
}

function writeValueJson(out: Output, walk: EntryCursor): void {
  out.literal(VALUE);
  out.jsonHex(walk.valueBytes, walk.valueOffset, walk.valueSize);
}

function writeValuesJson(out: Output, walk: EntryCursor): void {
  out.text(',"values":[');
  for (let cpu = 0; cpu < walk.cpuCount; cpu++) {
    out.text(`${cpu === 0 ? "" : ","}{"cpu":${walk.cpus?.[cpu] ?? cpu},"value":`);
    out.jsonHex(walk.valueBytes, walk.valueOffset + cpu * walk.valueStride, walk.valueSize);
    out.text("}");
  }
  out.text("]");
}

function writeMeaning(out: Output, map: MapInfo, walk: EntryCursor): void {
  const meaning = idMeaning(map);
  if (meaning !== undefined) out.text(`,"${meaning}":${readU32(walk.valueBytes, walk.valueOffset)}`);
}

function writeRecordJson(out: Output, record: ContentRecord, types: MapTypes | undefined): void {
  out.text('{"value":').jsonHex(record.value, 0, record.value.length);
  if (types !== undefined) out.text(`,"formatted":{"value":${json(types.value, record.value)}}`);
  if (record.owner !== undefined) out.text(`,"owner":${stringify(ownerJson(record.owner))}`);
  if (record.note !== undefined) out.text(`,"note":${stringify(record.note)}`);
}

/** Prints the objects that pointers of one element's values reach. */
function writeFollowedJson(
  out: Output,
  { follower }: DumpStyle,
  type: TypeRef,
  of: EntryCursor | Uint8Array,
): void {
  if (follower === undefined) return;
  const values = of instanceof Uint8Array ? [of] : valuesOf(of);
  const followed = values.map((value) => follower.follow(type, value));
  const targets = followed.flatMap((one) => one.targets);
  if (targets.length === 0) return;
  out.text(`,"followed":${stringify(targets.map(targetJson))}`);
  if (followed.some(({ cut }) => cut)) out.text(',"followed_all":false');
}

function targetJson(target: Target): Json {
  return {
    address: hexAddress(target.address),
    arena: target.arena?.map.id,
    offset: target.arena === undefined ? undefined : target.offset,
    type: target.typeText,
    depth: target.depth,
    value: plain(target.type, target.bytes),
  };
}

function arenaObjectJson(object: ArenaObject, { follower }: DumpStyle): Json {
  const { offset, names, typeText, type, bytes, isVariable } = object;
  const targets = isVariable ? (follower?.follow(type, bytes).targets ?? []) : [];
  const followed = targets.length === 0 ? undefined : targets.map(targetJson);
  return { offset, names, type: typeText, value: plain(type, bytes), followed };
}

/** Returns the values of the cursor's current element, valid until the cursor moves. */
export function valuesOf({
  valueBytes,
  valueOffset,
  valueSize,
  valueStride,
  cpuCount,
}: EntryCursor): Uint8Array[] {
  return Array.from({ length: Math.max(1, cpuCount) }, (_, copy) => {
    const at = valueOffset + copy * valueStride;
    return valueBytes.subarray(at, at + valueSize);
  });
}

export function ownerJson(owner: StorageOwner): Json {
  switch (owner.kind) {
    case "task":
      return { kind: owner.kind, pid: owner.pid, tgid: owner.tgid, comm: printable(owner.comm) };
    case "cgroup":
      return { kind: owner.kind, id: owner.id, path: printable(owner.path) };
    case "inode":
      return { kind: owner.kind, inode: owner.inode, superblock: printable(owner.superblock) };
    case "socket":
      return {
        kind: owner.kind,
        address: hexAddress(owner.address),
        family: owner.family,
        protocol: owner.protocol,
      };
    case "unknown":
      return { kind: owner.kind, why: owner.why };
  }
}
