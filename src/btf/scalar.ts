/** Reads a part of a value as a number or a string for comparisons. Integers are read without allocation. */
import { readFloat } from "./float.ts";
import { readBits, readInteger } from "./integer.ts";
import type { Place } from "./place.ts";
import type { IntShape } from "./shape.ts";

/** A bool is 0 or 1. An enum is its integer. An integer is a bigint only if it does not fit in 53 bits. */
export type Scalar = number | bigint | string;

export type ScalarReader = (bytes: Uint8Array, base: number) => Scalar;

/**
 * Returns a reader of the part for values that start at `base`, or undefined for structs, arrays and types without a
 * size.
 */
export function scalarReader({ shape, byteOffset, bitOffset, bitSize }: Place): ScalarReader | undefined {
  if (bitSize > 0) {
    const signed = (shape.kind === "int" || shape.kind === "enum") && shape.signed;
    return (bytes, base) => readBits(bytes, base + byteOffset, bitOffset, bitSize, signed);
  }
  const { size } = shape;
  switch (shape.kind) {
    case "int":
      return shape.bool
        ? (bytes, base) => (bytes[base + byteOffset] === 0 ? 0 : 1)
        : (bytes, base) => readInteger(bytes, base + byteOffset, size, shape.signed);
    case "enum":
      return (bytes, base) => readInteger(bytes, base + byteOffset, size, shape.signed);
    case "pointer":
      return (bytes, base) => readInteger(bytes, base + byteOffset, size, false);
    case "float":
      return (bytes, base) => readFloat(bytes, base + byteOffset, size) ?? Number.NaN;
    case "array":
      return shape.text ? (bytes, base) => textAt(bytes, base + byteOffset, shape.count) : undefined;
    default:
      return undefined;
  }
}

/** Returns the number of bytes from the start of the value to the end of the part. */
export function endOf({ shape, byteOffset, bitOffset, bitSize }: Place): number {
  return byteOffset + (bitSize > 0 ? Math.ceil((bitOffset + bitSize) / 8) : shape.size);
}

function textAt(bytes: Uint8Array, at: number, count: number): string {
  let end = at;
  while (end < at + count && bytes[end] !== 0) end++;
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, end - at).toString("utf8");
}

/** Returns the type assumed for bytes without BTF: an unsigned integer if they have the size of one, else undefined. */
export function rawPlace(size: number): Place | undefined {
  if (size !== 1 && size !== 2 && size !== 4 && size !== 8) return undefined;
  const shape: IntShape = {
    kind: "int",
    id: 0,
    size,
    signed: false,
    bool: false,
    char: false,
    encoding: 0,
    bitOffset: 0,
    bits: size * 8,
  };
  return { shape, typeId: 0, byteOffset: 0, bitOffset: 0, bitSize: 0, flexible: false };
}
