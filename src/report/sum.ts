/** Sums over CPUs of a typed value, member by member. */
import { readFloat } from "../btf/float.ts";
import { readBits, readInteger, writeBits, writeInteger } from "../btf/integer.ts";
import { rawPlace } from "../btf/scalar.ts";
import { type Shape, shapeOf } from "../btf/shape.ts";
import { Walk } from "../btf/walk.ts";
import { UsageError } from "../errors.ts";
import type { TypeRef } from "./typed.ts";

/** Where the copies of one element lie. */
interface Copies {
  readonly bytes: Uint8Array;
  readonly first: number;
  readonly stride: number;
  readonly count: number;
}

/**
 * Integers are summed and stay in their type: a sum that does not fit is the type's largest (or smallest) value. Floats
 * are summed, a bool is true where it is on any CPU. Enums, pointers and text are no quantities: they are shown where
 * all CPUs agree, and else the first CPU's is, which is told once. Of a union the first member counts.
 */
export class Summer {
  /** The sums of the last element, in the value's own layout. */
  readonly total: Uint8Array;
  readonly #type: TypeRef | undefined;
  readonly #shape: Shape;
  readonly #note: (sentence: string) => void;
  readonly #told = new Set<string>();

  /** Throws `UsageError` for a value that has no type and is no integer. */
  constructor(type: TypeRef | undefined, valueSize: number, note: (sentence: string) => void) {
    const shape = type === undefined ? rawPlace(valueSize)?.shape : shapeOf(type.btf, type.id);
    if (shape === undefined)
      throw new UsageError(`--cpu sum: the map has no types, and ${valueSize} bytes are no integer`, {
        hint: "--cpu N shows one CPU's",
      });
    this.#type = type;
    this.#shape = shape;
    this.#note = note;
    this.total = new Uint8Array(valueSize);
  }

  /** Sums `count` copies that lie `stride` bytes apart. Throws `FormatError` where the type is hostile. */
  sum(bytes: Uint8Array, first: number, stride: number, count: number): void {
    // What is not summed, padding too, is the first CPU's.
    this.total.set(bytes.subarray(first, first + this.total.length));
    const walk = this.#type === undefined ? undefined : new Walk(this.#type.btf, this.total);
    this.#add({ bytes, first, stride, count }, walk, this.#shape, 0, "");
  }

  #add(copies: Copies, walk: Walk | undefined, shape: Shape, at: number, path: string): void {
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
    if (this.#told.has(path)) return;
    for (let n = 1; n < count; n++) {
      for (let byte = 0; byte < size; byte++) {
        if (bytes[first + at + byte] === bytes[first + at + byte + n * stride]) continue;
        this.#told.add(path);
        const name = path === "" ? "the value" : path.replace(/^\./, "");
        this.#note(`--cpu sum: ${name} is no quantity and differs between CPUs: the first CPU's is shown`);
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

/** The same for a number of 53 bits, which 64 always hold. */
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
