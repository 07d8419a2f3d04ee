/**
 * Renders values as bpftool does: the JSON under `formatted` in `bpftool -j map dump` (tools/bpf/bpftool/btf_dumper.c).
 *
 * bpftool's format is reproduced. A bit-field and an __int128 are strings of hexadecimal digits. An array of char is a
 * string only if it is printable ASCII with a NUL. An anonymous member has the key "". A DATASEC is an object with an
 * array that has an object per variable. An enum's value is read as signed, so an unsigned one-byte enumerator above
 * 127 has no name.
 *
 * If bpftool's output is invalid JSON or a wrong value, ktstr prints the value. Floats are numbers (bpftool stops).
 * Integers with several encoding flags are decimal (bpftool stops). A `"` or `\` in a char is escaped. A `\` in a
 * string is kept (bpftool writes a line feed). Void, incomplete types and missing bytes are null. A bool that is
 * neither 0 nor 1 is true; bpftool's result depends on its compiler (on arm64, 2 is false).
 */
import { BTF_INT_BOOL, BTF_INT_CHAR, BTF_INT_SIGNED } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";
import { readFloat } from "./float.ts";
import { bytesOfBits, readBits, readInteger } from "./integer.ts";
import { quoteJson } from "./json.ts";
import {
  type ArrayTypeShape,
  type EnumShape,
  type IntShape,
  type Shape,
  type StructShape,
  shapeOf,
} from "./shape.ts";
import { signature } from "./signature.ts";
import { ValueWalk } from "./value-walk.ts";

/** Notation of values that have no JSON form (btf_dumper.c, `is_plain_text`). */
interface Notation {
  readonly pointer: (value: bigint) => string;
  /** Bit-fields and integers of odd sizes, from their hexadecimal digits. */
  readonly hex: (digits: string) => string;
  /** A char that is not printable ASCII. */
  readonly byte: (byte: number) => string;
}

const JSON_NOTATION: Notation = {
  pointer: String,
  hex: (digits) => `"0x${digits}"`,
  byte: (byte) => `"\\u00${byte.toString(16).padStart(2, "0")}"`,
};

const PLAIN_NOTATION: Notation = {
  // glibc's %p.
  pointer: (value) => (value === 0n ? '"(nil)"' : `"0x${value.toString(16)}"`),
  hex: (digits) => `0x${digits}`,
  byte: (byte) => `0x${byte.toString(16)}`,
};

/** Returns the name of the program with this id, for function pointers that hold ids (`prog_id_as_func_ptr`). */
export type CalleeName = (progId: number) => string | undefined;

class BpftoolWalk extends ValueWalk {
  readonly notation: Notation;
  readonly callee: CalleeName | undefined;

  constructor(btf: Btf, bytes: Uint8Array, notation: Notation, callee?: CalleeName) {
    super(btf, bytes);
    this.notation = notation;
    this.callee = callee;
  }
}

/**
 * Renders the value at the start of `bytes` as JSON. With `callee`, function pointers are program ids (struct_ops).
 * Throws `FormatError` if the type is hostile.
 */
export function bpftoolJson(btf: Btf, typeId: number, bytes: Uint8Array, callee?: CalleeName): string {
  return valueJson(new BpftoolWalk(btf, bytes, JSON_NOTATION, callee), shapeOf(btf, typeId), 0, 0);
}

/** Renders as `bpftool map dump` without `-j`: like JSON, but pointers are quoted and other hexadecimal numbers are not. */
export function bpftoolPlain(btf: Btf, typeId: number, bytes: Uint8Array, callee?: CalleeName): string {
  return valueJson(new BpftoolWalk(btf, bytes, PLAIN_NOTATION, callee), shapeOf(btf, typeId), 0, 0);
}

function valueJson(walk: BpftoolWalk, shape: Shape, at: number, bitOffset: number): string {
  walk.countPart();
  switch (shape.kind) {
    case "int":
      return intJson(walk, shape, at, bitOffset);
    case "struct":
      return structJson(walk, shape, at);
    case "array":
      return arrayJson(walk, shape, at);
    case "none":
      return "null";
    case "variable":
      return `{${quoteJson(shape.name)}:${nested(walk, shape.shape, at)}}`;
    case "section": {
      const variables = shape.variables.map(
        (variable) => `{${quoteJson(variable.name)}:${nested(walk, variable.shape, at + variable.offset)}}`,
      );
      return `{${quoteJson(shape.name)}:[${variables.join(",")}]}`;
    }
    default:
      if (!walk.has(at, shape.size)) return "null";
  }
  switch (shape.kind) {
    case "enum":
      return enumJson(walk, shape, at);
    case "pointer":
      return pointerJson(walk, shape, BigInt(readInteger(walk.bytes, at, 8, false)));
    case "float": {
      const value = readFloat(walk.bytes, at, shape.size);
      if (value === undefined) return hexJson(walk, readInteger(walk.bytes, at, shape.size, false));
      return Number.isFinite(value) ? String(value) : `"${value}"`;
    }
  }
}

/** Program ids are u32. */
const MAX_ID = 0xffff_ffffn;

/** Renders a pointer. A program id in a function pointer becomes a signature and a name (dump_prog_id_as_func_ptr). */
function pointerJson(
  walk: BpftoolWalk,
  shape: Extract<Shape, { readonly kind: "pointer" }>,
  value: bigint,
): string {
  const { btf, callee, notation } = walk;
  if (callee === undefined || !shape.toFunction || value > MAX_ID) return notation.pointer(value);
  const proto = signature(btf, btf.resolve(shape.targetId));
  if (proto === "") return notation.pointer(value);
  if (value === 0n) return quoteJson(`${proto} 0`);
  return quoteJson(`${proto} ${callee(Number(value)) ?? "<unknown_prog_name>"}/prog_id:${value}`);
}

/** Renders an enum. bpftool sign-extends the value regardless of the enum's signedness, and compares it with BTF's i32. */
function enumJson(walk: BpftoolWalk, shape: EnumShape, at: number): string {
  const value = readInteger(walk.bytes, at, shape.size, true);
  const name = shape.size < 4 ? storedName(walk.btf, shape.id, value) : nameOf(walk, shape, at);
  return name === undefined ? String(value) : quoteJson(name);
}

function nameOf(walk: BpftoolWalk, shape: EnumShape, at: number): string | undefined {
  return shape.names.get(readInteger(walk.bytes, at, shape.size, shape.signed));
}

function storedName(btf: Btf, id: number, value: number | bigint): string | undefined {
  for (const stored of btf.enumValues(id)) {
    if ((Number(stored.value) | 0) === value) return stored.name;
  }
  return undefined;
}

function nested(walk: BpftoolWalk, shape: Shape, at: number): string {
  walk.enter();
  const json = valueJson(walk, shape, at, 0);
  walk.leave();
  return json;
}

function intJson(walk: BpftoolWalk, shape: IntShape, at: number, memberBitOffset: number): string {
  const { bits, encoding } = shape;
  const bitOffset = memberBitOffset + shape.bitOffset;
  const wholeBytes = bits === 8 || bits === 16 || bits === 32 || bits === 64;
  if (bitOffset !== 0 || (bits & 7) !== 0 || bits === 128) return bitsJson(walk, at, bitOffset, bits);
  if (!walk.has(at, Math.max(shape.size, bits / 8))) return "null";
  if (encoding === BTF_INT_BOOL) return walk.bytes[at] === 0 ? "false" : "true";
  if (encoding === BTF_INT_CHAR) return charJson(walk, walk.bytes[at]!);
  if (!wholeBytes) return bitsJson(walk, at, 0, bits);
  return String(readInteger(walk.bytes, at, bits / 8, (encoding & BTF_INT_SIGNED) !== 0));
}

function bitsJson(walk: BpftoolWalk, at: number, bitOffset: number, bits: number): string {
  if (!walk.has(at, bytesOfBits(bitOffset, bits))) return "null";
  return hexJson(walk, readBits(walk.bytes, at, bitOffset, bits, false));
}

function hexJson({ notation }: BpftoolWalk, value: number | bigint): string {
  return notation.hex(value.toString(16));
}

function charJson({ notation }: BpftoolWalk, byte: number): string {
  if (byte >= 0x20 && byte <= 0x7e) return JSON.stringify(String.fromCharCode(byte));
  return notation.byte(byte);
}

function structJson(walk: BpftoolWalk, shape: StructShape, at: number): string {
  walk.enter();
  let json = "{";
  for (const member of shape.members) {
    if (json !== "{") json += ",";
    const byteAt = at + (member.bitOffset >>> 3);
    const bit = member.bitOffset & 7;
    json += quoteJson(member.name);
    json += ":";
    json +=
      member.bitSize > 0
        ? bitsJson(walk, byteAt, bit, member.bitSize)
        : valueJson(walk, member.shape, byteAt, bit);
  }
  walk.leave();
  return `${json}}`;
}

function arrayJson(walk: BpftoolWalk, shape: ArrayTypeShape, at: number): string {
  const text = shape.text ? plainText(walk.bytes, at, shape.count) : undefined;
  if (text !== undefined) return JSON.stringify(text);
  const { element } = shape;
  walk.enter();
  let json = "[";
  for (let n = 0; n < shape.count; n++) {
    if (n > 0) json += ",";
    json += valueJson(walk, element, at + n * element.size, 0);
  }
  walk.leave();
  return `${json}]`;
}

/** Returns printable ASCII up to a NUL inside the array, or undefined if the array holds anything else. */
function plainText(bytes: Uint8Array, at: number, count: number): string | undefined {
  let text = "";
  const end = Math.min(at + count, bytes.length);
  for (let n = at; n < end; n++) {
    const byte = bytes[n]!;
    if (byte === 0) return text;
    if (byte <= 0x1f || byte >= 0x7f) return undefined;
    text += String.fromCharCode(byte);
  }
  return undefined;
}
