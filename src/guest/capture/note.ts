/**
 * The note of a capture: an ELF note after that of VMCOREINFO, and like it a text with one fact per line. It holds results that
 * do not come from captured memory: the symbols that were looked up (kallsyms has several MB, and a lookup of fifty names would
 * touch most of it), and the assumptions made when the kernel was opened.
 */

import { FormatError } from "../../errors.ts";
import type { NearSymbol } from "../kernel/symbols.ts";
import { fromBigInt, hex, type Pointer } from "../memory/pointer.ts";

export const CAPTURE_NOTE_NAME = "KTSTR";
export const CAPTURE_NOTE_TYPE = 0x4b53;
/** Version of the note's format. Other versions are rejected. */
const VERSION = "1";

export interface CaptureNote {
  /** Size of the machine's memory in bytes. */
  readonly memoryBytes: number;
  /** Number of symbols in the kernel. */
  readonly symbolCount: number;
  /** Symbols by name; undefined if the kernel has no such symbol. */
  readonly addresses: ReadonlyMap<string, Pointer | undefined>;
  /** Symbols by address in `hex` notation; undefined if no symbol precedes it. */
  readonly nearest: ReadonlyMap<string, NearSymbol | undefined>;
  /** Ids of the maps whose contents were captured; undefined for all. */
  readonly values: ReadonlySet<number> | undefined;
  /** Sentences about assumptions and missing memory. */
  readonly warnings: readonly string[];
}

/** Writes a note. The same note always gives the same text. */
export function captureNoteText(note: CaptureNote): string {
  const lines = [`KTSTR=${VERSION}`, `MEMORY=${note.memoryBytes}`, `SYMBOLS=${note.symbolCount}`];
  const sorted = <T>(map: ReadonlyMap<string, T>): [string, T][] =>
    [...map].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [name, at] of sorted(note.addresses))
    lines.push(`SYMBOL(${name})=${at === undefined ? "" : hex(at.hi, at.lo)}`);
  for (const [at, near] of sorted(note.nearest))
    lines.push(`NEAREST(${at})=${near === undefined ? "" : `${near.name}+${near.offset}`}`);
  for (const [at, near] of sorted(note.nearest))
    if (near?.sizeBytes !== undefined) lines.push(`SIZE(${at})=${near.sizeBytes}`);
  if (note.values !== undefined) lines.push(`VALUES=${[...note.values].sort((a, b) => a - b).join()}`);
  for (const warning of note.warnings) lines.push(`WARNING=${warning.replaceAll("\n", " ")}`);
  return `${lines.join("\n")}\n`;
}

/** Parses a note. Throws `FormatError` if it is not in `captureNoteText`'s format. */
export function parseCaptureNote(bytes: Uint8Array): CaptureNote {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  const addresses = new Map<string, Pointer | undefined>();
  const nearest = new Map<string, NearSymbol | undefined>();
  const sizes = new Map<string, number>();
  const single = new Map<string, string>();
  const warnings: string[] = [];
  let offset = 0;
  for (const line of text.split("\n")) {
    const [, key = "", of = "", value = ""] = /^([A-Z]+)(?:\((.*?)\))?=(.*)$/.exec(line) ?? [];
    if (key === "SYMBOL") addresses.set(of, value === "" ? undefined : pointerOf(value, offset));
    else if (key === "NEAREST") nearest.set(of, value === "" ? undefined : nearOf(value, offset));
    else if (key === "SIZE") sizes.set(of, sizeOf(value, offset));
    else if (key === "WARNING") warnings.push(value);
    else if (key !== "") single.set(key, value);
    offset += line.length + 1;
  }
  for (const [at, sizeBytes] of sizes) {
    const near = nearest.get(at);
    if (near !== undefined) nearest.set(at, { ...near, sizeBytes });
  }
  const version = single.get("KTSTR") ?? "";
  if (version !== VERSION)
    throw new FormatError("capture", 0, `its format is "${version}", not ${VERSION}`, "Use a newer ktstr.");
  return {
    memoryBytes: numberOf(single, "MEMORY"),
    symbolCount: numberOf(single, "SYMBOLS"),
    addresses,
    nearest,
    values: single.has("VALUES") ? idsOf(single.get("VALUES")!) : undefined,
    warnings,
  };
}

function pointerOf(text: string, offset: number): Pointer {
  if (!/^0x[0-9a-f]{16}$/.test(text)) throw broken(offset, `"${text}" is not an address`);
  return fromBigInt(BigInt(text));
}

function nearOf(text: string, offset: number): NearSymbol {
  const at = text.lastIndexOf("+");
  const distance = Number(text.slice(at + 1));
  if (at <= 0 || !Number.isSafeInteger(distance))
    throw broken(offset, `"${text}" is not a symbol with an offset`);
  return { name: text.slice(0, at), offset: distance };
}

function sizeOf(text: string, offset: number): number {
  const size = Number(text);
  if (!/^[0-9]+$/.test(text) || !Number.isSafeInteger(size)) throw broken(offset, `"${text}" is not a size`);
  return size;
}

function numberOf(single: ReadonlyMap<string, string>, key: string): number {
  const text = single.get(key) ?? "";
  const value = Number(text);
  if (/^[0-9]+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw broken(0, `${key} is "${text}"`);
}

function idsOf(text: string): Set<number> {
  return new Set(text === "" ? [] : text.split(",").map(Number));
}

function broken(offset: number, problem: string): FormatError {
  return new FormatError("capture's note", offset, problem);
}
