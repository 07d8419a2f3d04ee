/**
 * Converts values to plain data, for assertions and JSON:
 *
 * - integers and addresses are numbers if they fit in 53 bits, else bigints; bit-fields likewise
 * - a bool is a boolean, a float is a number, an enum is the name of its enumerator, or the integer if it has no name
 * - `char[]` is a string up to its NUL or its end; if it is not valid UTF-8, it is an array of bytes
 * - structs and unions are objects; members of anonymous members become members of the enclosing object, as in C
 * - a flexible array at the end of a struct has as many elements as the bytes hold
 * - a DATASEC is an object with a key per variable
 * - void, incomplete types and missing bytes are null
 */
import type { Btf } from "./btf.ts";
import { readFloat } from "./float.ts";
import { bytesOfBits, readBits, readInteger } from "./integer.ts";
import type { Place } from "./place.ts";
import { type ArrayTypeShape, type IntShape, type Shape, type StructShape, shapeOf } from "./shape.ts";
import { ValueWalk } from "./value-walk.ts";

export type PlainValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | PlainValue[]
  | { [name: string]: PlainValue };

/** Converts the value at the start of `bytes`. Throws `FormatError` if the type is hostile. */
export function plainValue(btf: Btf, typeId: number, bytes: Uint8Array): PlainValue {
  return renderValue(new ValueWalk(btf, bytes), shapeOf(btf, typeId), 0, 0, true);
}

/** Converts a part of the value at the start of `bytes`. Throws `FormatError` if the type is hostile. */
export function plainPart(btf: Btf, place: Place, bytes: Uint8Array): PlainValue {
  const { shape, byteOffset, bitOffset, bitSize } = place;
  const walk = new ValueWalk(btf, bytes);
  if (bitSize > 0) return bitFieldValue(walk, shape, byteOffset, bitOffset, bitSize);
  return renderValue(walk, shape, byteOffset, bitOffset, true);
}

/** Converts a value. `last`: no bytes follow the value, so a flexible array extends to the end. */
function renderValue(
  walk: ValueWalk,
  shape: Shape,
  at: number,
  bitOffset: number,
  last: boolean,
): PlainValue {
  walk.countPart();
  switch (shape.kind) {
    case "int":
      return intValue(walk, shape, at, bitOffset);
    case "struct": {
      const into: { [name: string]: PlainValue } = {};
      addMembers(walk, shape, at, into, last);
      return into;
    }
    case "array":
      return arrayValue(walk, shape, at, last);
    case "none":
      return null;
    case "variable":
      return nested(walk, shape.shape, at);
    case "section": {
      const into: { [name: string]: PlainValue } = {};
      for (const { name, offset, size, shape: variable } of shape.variables) {
        const { end } = walk;
        const larger = size > variable.size;
        if (larger) walk.end = Math.min(end, at + offset + size);
        setMember(into, name, nested(walk, variable, at + offset, larger));
        walk.end = end;
      }
      return into;
    }
    default:
      return walk.has(at, shape.size) ? scalarValue(walk, shape, at) : null;
  }
}

function scalarValue(
  walk: ValueWalk,
  shape: Shape & { kind: "enum" | "pointer" | "float" },
  at: number,
): PlainValue {
  if (shape.kind === "float") {
    const value = readFloat(walk.bytes, at, shape.size);
    return value ?? Array.from(walk.bytes.subarray(at, at + shape.size));
  }
  if (shape.kind === "pointer") return readInteger(walk.bytes, at, shape.size, false);
  const value = readInteger(walk.bytes, at, shape.size, shape.signed);
  return shape.names.get(value) ?? value;
}

function nested(walk: ValueWalk, shape: Shape, at: number, last = false): PlainValue {
  walk.enter();
  const value = renderValue(walk, shape, at, 0, last);
  walk.leave();
  return value;
}

function intValue(walk: ValueWalk, shape: IntShape, at: number, memberBitOffset: number): PlainValue {
  const bitOffset = memberBitOffset + shape.bitOffset;
  const whole = bitOffset === 0 && shape.bits === shape.size * 8;
  if (!walk.has(at, whole ? shape.size : bytesOfBits(bitOffset, shape.bits))) return null;
  const value = whole
    ? readInteger(walk.bytes, at, shape.size, shape.signed)
    : readBits(walk.bytes, at, bitOffset, shape.bits, shape.signed);
  return shape.bool ? value !== 0 : value;
}

function addMembers(
  walk: ValueWalk,
  shape: StructShape,
  at: number,
  into: { [name: string]: PlainValue },
  last: boolean,
): void {
  walk.enter();
  for (const [n, member] of shape.members.entries()) {
    const byteAt = at + (member.bitOffset >>> 3);
    const bit = member.bitOffset & 7;
    if (member.bitSize > 0) {
      setMember(into, member.name, bitFieldValue(walk, member.shape, byteAt, bit, member.bitSize));
      continue;
    }
    const isLast = last && (shape.union || n === shape.members.length - 1);
    if (member.name === "" && member.shape.kind === "struct") {
      walk.countPart();
      addMembers(walk, member.shape, byteAt, into, isLast);
    } else {
      setMember(into, member.name, renderValue(walk, member.shape, byteAt, bit, isLast));
    }
  }
  walk.leave();
}

function bitFieldValue(walk: ValueWalk, shape: Shape, at: number, bit: number, bitSize: number): PlainValue {
  walk.countPart();
  if (!walk.has(at, bytesOfBits(bit, bitSize))) return null;
  const signed = (shape.kind === "int" || shape.kind === "enum") && shape.signed;
  const value = readBits(walk.bytes, at, bit, bitSize, signed);
  if (shape.kind === "int" && shape.bool) return value !== 0;
  return shape.kind === "enum" ? (shape.names.get(value) ?? value) : value;
}

function arrayValue(walk: ValueWalk, shape: ArrayTypeShape, at: number, last: boolean): PlainValue {
  const { element } = shape;
  const room = Math.max(0, walk.end - at);
  const flexible = last && shape.count === 0 && element.size > 0;
  const count = flexible ? Math.floor(room / element.size) : shape.count;
  if (shape.text && count <= room) {
    const text = utf8(walk.bytes.subarray(at, at + count));
    if (text !== undefined) return text;
  }
  const values: PlainValue[] = [];
  walk.enter();
  for (let n = 0; n < count; n++) values.push(renderValue(walk, element, at + n * element.size, 0, false));
  walk.leave();
  return values;
}

const decoder: TextDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function utf8(bytes: Uint8Array): string | undefined {
  const end = bytes.indexOf(0);
  try {
    return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end));
  } catch {
    return undefined;
  }
}

/** Sets a member. Names come from an untrusted machine, so `__proto__` must be set as an ordinary property. */
function setMember(into: { [name: string]: PlainValue }, name: string, value: PlainValue): void {
  if (name === "__proto__")
    Object.defineProperty(into, name, { value, enumerable: true, configurable: true, writable: true });
  else into[name] = value;
}
