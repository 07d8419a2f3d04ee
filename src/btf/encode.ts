/**
 * Converts plain data to bytes, the inverse of `plainValue`. It encodes keys that users write. Omitted members are
 * zero, as in C initialisers.
 */
import { KtstrError } from "../errors.ts";
import type { Btf } from "./btf.ts";
import { bytesOfBits, writeBits } from "./integer.ts";
import type { Jsonable } from "./json.ts";
import { describeType, findPlace, PathError, type Place } from "./place.ts";
import { type ArrayTypeShape, type EnumShape, type Shape, shapeOf } from "./shape.ts";

/** The data does not fit the type. */
export class EncodeError extends KtstrError {}

const MAX_BYTES = 2 ** 20;

/**
 * Returns `size` bytes with the encoded value. Integers can be numbers, bigints or strings (decimal, 0x). Enums are
 * enumerator names or integers, `char[]` is a string, structs and unions are objects. Throws `EncodeError` if the data
 * does not fit, and `FormatError` if the type is hostile.
 */
export function encodeValue(btf: Btf, typeId: number, value: Jsonable, size: number): Uint8Array {
  const shape = shapeOf(btf, typeId);
  if (shape.size > size || size > MAX_BYTES)
    throw new EncodeError(`the type has ${shape.size} bytes, not ${size}`);
  const bytes = new Uint8Array(size);
  const place = { shape, typeId, byteOffset: 0, bitOffset: 0, bitSize: 0, flexible: false };
  write(btf, bytes, place, 0, value, "");
  return bytes;
}

/** Writes a part. `base` is the offset of the struct that `place` is relative to. `path` names the part in messages. */
function write(btf: Btf, into: Uint8Array, place: Place, base: number, value: Jsonable, path: string): void {
  const { shape, bitSize } = place;
  const at = base + place.byteOffset;
  const end = at + (bitSize > 0 ? bytesOfBits(place.bitOffset, bitSize) : shape.size);
  if (end > into.length) throw new EncodeError(`${pathText(path)}: the member ends after the value`);
  if (bitSize > 0) {
    const number = numberFor(shape, value, bitSize, path);
    writeBits(into, at, place.bitOffset, bitSize, number);
    return;
  }
  switch (shape.kind) {
    case "int":
    case "enum":
    case "pointer":
      writeBits(into, at, 0, shape.size * 8, numberFor(shape, value, shape.size * 8, path));
      return;
    case "float":
      writeFloat(into, at, shape.size, value, path);
      return;
    case "array":
      writeArray(btf, into, shape, at, value, path);
      return;
    case "struct": {
      if (value === null || typeof value !== "object" || Array.isArray(value))
        throw mismatchError(place, value, path);
      for (const [name, inner] of Object.entries(value as { readonly [name: string]: Jsonable })) {
        const innerPath = path === "" ? name : `${path}.${name}`;
        write(btf, into, memberOf(btf, shape, name, innerPath), at, inner, innerPath);
      }
      return;
    }
    default:
      throw new EncodeError(`${pathText(path)}: it has ${describeType(place)}`);
  }
}

function memberOf(btf: Btf, shape: Shape, name: string, path: string): Place {
  try {
    return findPlace(btf, shape.id, name);
  } catch (error) {
    if (error instanceof PathError) throw new EncodeError(`${path}: ${error.message}`, { hint: error.hint });
    throw error;
  }
}

function writeArray(
  btf: Btf,
  into: Uint8Array,
  shape: ArrayTypeShape,
  at: number,
  value: Jsonable,
  path: string,
): void {
  if (shape.text && typeof value === "string") {
    const text = Buffer.from(value, "utf8");
    if (text.length > shape.count)
      throw new EncodeError(`${pathText(path)}: ${text.length} bytes of text do not fit in ${shape.count}`);
    into.set(text, at);
    return;
  }
  if (!Array.isArray(value)) throw mismatchError({ shape, bitSize: 0 }, value, path);
  const items = value as readonly Jsonable[];
  if (items.length > shape.count)
    throw new EncodeError(`${pathText(path)}: ${items.length} elements do not fit in ${shape.count}`);
  const { elementTypeId } = btf.array(shape.id);
  items.forEach((item, index) => {
    const place = {
      shape: shape.element,
      typeId: elementTypeId,
      byteOffset: index * shape.element.size,
      bitOffset: 0,
      bitSize: 0,
      flexible: false,
    };
    write(btf, into, place, at, item, `${path}[${index}]`);
  });
}

function numberFor(shape: Shape, value: Jsonable, bits: number, path: string): bigint {
  const number =
    shape.kind === "enum" && typeof value === "string"
      ? enumerator(shape, value, path)
      : shape.kind === "int" && shape.bool && (value === "true" || value === "false")
        ? BigInt(value === "true")
        : integerOf(value);
  if (number === undefined) throw mismatchError({ shape, bitSize: 0 }, value, path);
  const signed = (shape.kind === "int" || shape.kind === "enum") && shape.signed;
  const [low, high] = signed
    ? [-(1n << BigInt(bits - 1)), (1n << BigInt(bits - 1)) - 1n]
    : [0n, (1n << BigInt(bits)) - 1n];
  if (number < low || number > high)
    throw new EncodeError(`${pathText(path)}: ${number} is not in ${low}..${high}`);
  return number;
}

function enumerator(shape: EnumShape, name: string, path: string): bigint {
  for (const [value, known] of shape.names) if (known === name) return BigInt(value);
  const number = integerOf(name);
  if (number !== undefined) return number;
  const names = [...shape.names.values()].slice(0, 16).join(", ");
  throw new EncodeError(`${pathText(path)}: there is no enumerator ${JSON.stringify(name)}`, {
    hint: `there are: ${names}`,
  });
}

/** Parses an integer from JSON, a library caller or the command line. Returns undefined if it is not an integer. */
export function integerOf(value: Jsonable): bigint | undefined {
  if (typeof value === "bigint") return value;
  if (typeof value === "boolean") return value ? 1n : 0n;
  if (typeof value === "number") return Number.isSafeInteger(value) ? BigInt(value) : undefined;
  if (typeof value !== "string") return undefined;
  const match = /^\s*(-?)(\d+|0[xX][0-9a-fA-F]+)\s*$/.exec(value);
  if (match === null || value.length > 64) return undefined;
  const digits = BigInt(match[2]!);
  return match[1] === "-" ? -digits : digits;
}

/** A decimal number, or one of the words that jsonText prints for a float. */
const FLOAT = /^\s*(?:[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|NaN|-?Infinity)\s*$/;

function writeFloat(into: Uint8Array, at: number, size: number, value: Jsonable, path: string): void {
  const number =
    typeof value === "bigint" || (typeof value === "string" && FLOAT.test(value)) ? Number(value) : value;
  const view = new DataView(into.buffer, at);
  if (typeof number === "number" && size === 4) view.setFloat32(0, number, true);
  else if (typeof number === "number" && size === 8) view.setFloat64(0, number, true);
  else
    throw new EncodeError(
      `${pathText(path)}: a float of ${size} bytes cannot be written from ${typeof value === "string" ? JSON.stringify(value) : typeof value}`,
    );
}

const pathText = (path: string): string => (path === "" ? "the value" : path);

function mismatchError(place: Pick<Place, "shape" | "bitSize">, value: Jsonable, path: string): EncodeError {
  const given =
    value === null
      ? "null"
      : Array.isArray(value)
        ? "a list"
        : typeof value === "object"
          ? "an object"
          : JSON.stringify(String(value));
  const { shape } = place;
  const hint =
    shape.kind === "struct"
      ? 'write an object: {"member": 1}'
      : shape.kind === "array" && shape.text
        ? 'write text: "abc"'
        : shape.kind === "array"
          ? "write a list: [1, 2]"
          : "";
  return new EncodeError(`${pathText(path)} is ${describeType(place)}: ${given} does not fit`, { hint });
}
