/** Sums a typed value over CPUs, member by member. */
import { readFloat } from "../btf/float.ts";
import { readBits, readInteger, writeBits, writeInteger } from "../btf/integer.ts";
import { rawPlace } from "../btf/scalar.ts";
import { type Shape, shapeOf } from "../btf/shape.ts";
import { ValueWalk } from "../btf/value-walk.ts";
import { UsageError } from "../errors.ts";
import type { TypeRef } from "./typed.ts";

/** Place of one element's copies. */
interface Copies {
  readonly bytes: Uint8Array;
  readonly first: number;
  readonly stride: number;
  readonly count: number;
}

/**
 * Integers are summed in their type; a sum that does not fit is replaced by the type's largest (or smallest) value. Floats are
 * summed. A bool is true if it is true on any CPU. Enums, pointers and text are not summed: the first CPU's value is used,
 * and a note is printed once if it differs from other CPUs'. In a union, only the first member is considered.
 */
export class Summer {
  /** Sums of the last element, in the layout of the value. */
  readonly total: Uint8Array;
  readonly #type: TypeRef | undefined;
  readonly #shape: Shape;
  readonly #note: (sentence: string) => void;
  readonly #noted = new Set<string>();

  /** Throws `UsageError` if the value has no type and is not an integer. */
  constructor(type: TypeRef | undefined, valueSize: number, note: (sentence: string) => void) {
    const shape = type === undefined ? rawPlace(valueSize)?.shape : shapeOf(type.btf, type.id);
    if (shape === undefined)
      throw new UsageError(`--cpu sum: the map has no types, and ${valueSize} bytes are not an integer`, {
        hint: "--cpu N shows the value of one CPU",
      });
    this.#type = type;
    this.#shape = shape;
    this.#note = note;
    this.total = new Uint8Array(valueSize);
  }

  /** Sums `count` copies at a distance of `stride` bytes. Throws `FormatError` if the type is invalid. */
  sum(bytes: Uint8Array, first: number, stride: number, count: number): void {
    // Bytes that are not summed, such as padding, are copied from the first CPU.
    this.total.set(bytes.subarray(first, first + this.total.length));
    const walk = this.#type === undefined ? undefined : new ValueWalk(this.#type.btf, this.total);
    this.#add({ bytes, first, stride, count }, walk, this.#shape, 0, "");
  }

  #add(copies: Copies, walk: ValueWalk | undefined, shape: Shape, at: number, path: string): void {
    walk?.countPart();
    if (at + shape.size > this.total.length) return;
    switch (shape.kind) {
      case "int":
        if (shape.bool) this.#anyOf(copies, at);
        else this.#integers(copies, at, 0, shape.size * 8, shape.signed);
        return;
      case "float":
        this.#floats(copies, at, shape.size);
        return;
      case "struct":
        walk?.enter();
        for (const member of shape.union ? shape.members.slice(0, 1) : shape.members) {
          const inner = member.name === "" ? path : `${path}.${member.name}`;
          const byteAt = at + (member.bitOffset >>> 3);
          if (member.bitSize === 0) this.#add(copies, walk, member.shape, byteAt, inner);
          else this.#bitField(copies, member.shape, byteAt, member.bitOffset & 7, member.bitSize, inner);
        }
        walk?.leave();
        return;
      case "array":
        if (shape.text) this.#same(copies, at, shape.size, path);
        else {
          walk?.enter();
          for (let n = 0; n < shape.count; n++)
            this.#add(copies, walk, shape.element, at + n * shape.element.size, `${path}[]`);
          walk?.leave();
        }
        return;
      default:
        this.#same(copies, at, shape.size, path);
    }
  }

  #bitField(copies: Copies, shape: Shape, at: number, bit: number, bits: number, path: string): void {
    if (at + Math.ceil((bit + bits) / 8) > this.total.length) return;
    if (shape.kind === "int" && !shape.bool) this.#integers(copies, at, bit, bits, shape.signed);
    else this.#same(copies, at, Math.ceil((bit + bits) / 8), path);
  }

  #integers(
    { bytes, first, stride, count }: Copies,
    at: number,
    bit: number,
    bits: number,
    signed: boolean,
  ): void {
    let total: number | bigint = 0;
    const whole = bit === 0 && (bits === 8 || bits === 16 || bits === 32 || bits === 64);
    for (let n = 0, from = first + at; n < count; n++, from += stride) {
      const value = whole
        ? readInteger(bytes, from, bits / 8, signed)
        : readBits(bytes, from, bit, bits, signed);
      total = exactSum(total, value);
    }
    if (whole && typeof total === "number")
      writeInteger(this.total, at, bits / 8, clamped(total, bits, signed));
    else writeBits(this.total, at, bit, bits, saturated(BigInt(total), bits, signed));
  }

  #anyOf({ bytes, first, stride, count }: Copies, at: number): void {
    for (let n = 0; n < count; n++) if (bytes[first + at + n * stride] !== 0) this.total[at] = 1;
  }

  #floats({ bytes, first, stride, count }: Copies, at: number, size: number): void {
    let total = 0;
    for (let n = 0; n < count; n++) total += readFloat(bytes, first + at + n * stride, size) ?? 0;
    const view = new DataView(this.total.buffer, at);
    if (size === 4) view.setFloat32(0, total, true);
    else if (size === 8) view.setFloat64(0, total, true);
  }

  #same({ bytes, first, stride, count }: Copies, at: number, size: number, path: string): void {
    if (this.#noted.has(path)) return;
    for (let n = 1; n < count; n++) {
      for (let byte = 0; byte < size; byte++) {
        if (bytes[first + at + byte] === bytes[first + at + byte + n * stride]) continue;
        this.#noted.add(path);
        const name = path === "" ? "the value" : path.replace(/^\./, "");
        this.#note(
          `--cpu sum: ${name} cannot be summed and differs between CPUs: the first CPU's value is shown`,
        );
        return;
      }
    }
  }
}

function exactSum(a: number | bigint, b: number | bigint): number | bigint {
  if (typeof a === "number" && typeof b === "number") {
    const sum = a + b;
    if (Number.isSafeInteger(sum)) return sum;
  }
  return BigInt(a) + BigInt(b);
}

/** Limits a sum of at most 53 bits to a type, without bigints. */
function clamped(value: number, bits: number, signed: boolean): number {
  if (bits === 64) return value;
  const high = 2 ** (signed ? bits - 1 : bits) - 1;
  return Math.max(signed ? -high - 1 : 0, Math.min(high, value));
}

function saturated(value: bigint, bits: number, signed: boolean): bigint {
  const high = (1n << BigInt(signed ? bits - 1 : bits)) - 1n;
  const low = signed ? -high - 1n : 0n;
  return value > high ? high : value < low ? low : value;
}
