/**
 * Struct layouts with fixed offsets, for the kernel's ABI and file formats. Kernel-internal structs are declared
 * with src/btf/struct.ts, which looks up their offsets in BTF.
 */

/** How the bytes of a field are read. All fields are little-endian. */
export type FieldType = "u8" | "u16" | "u32" | "u64" | "bytes";

/** A field of a struct with a fixed ABI. `offset` and `size` are in bytes. */
export interface Field {
  readonly offset: number;
  readonly size: number;
  readonly type: FieldType;
}

/** A struct, or one member of a union, with a fixed ABI. `size` is the number of bytes that are read or written. */
export interface Layout<Names extends string = string> {
  /** The C name, "struct bpf_map_info". For a named member of a union, with the path to it: "union bpf_attr.info". */
  readonly name: string;
  readonly size: number;
  readonly fields: Readonly<Record<Names, Field>>;
}

const SCALAR_SIZES = { u8: 1, u16: 2, u32: 4, u64: 8 } as const;

export const u8 = (offset: number): Field => scalar(offset, "u8");
export const u16 = (offset: number): Field => scalar(offset, "u16");
export const u32 = (offset: number): Field => scalar(offset, "u32");
export const u64 = (offset: number): Field => scalar(offset, "u64");
export const bytes = (offset: number, size: number): Field => ({ offset, size, type: "bytes" });

function scalar(offset: number, type: keyof typeof SCALAR_SIZES): Field {
  return { offset, size: SCALAR_SIZES[type], type };
}

/** Declares a struct. Throws `RangeError` if a field is outside of it. */
export function layout<Names extends string>(
  name: string,
  size: number,
  fields: Record<Names, Field>,
): Layout<Names> {
  for (const [field, { offset, size: fieldSize }] of Object.entries<Field>(fields)) {
    if (offset < 0 || offset + fieldSize > size)
      throw new RangeError(`${name}.${field} is outside the struct`);
  }
  return { name, size, fields };
}

/** Returns a view of the same bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Reads a u64 as a number. It is exact below 2^53. Larger values are inexact but fail every range check. */
export function u53(view: DataView, offset: number, littleEndian = true): number {
  const low = littleEndian ? offset : offset + 4;
  return view.getUint32(2 * offset + 4 - low, littleEndian) * 2 ** 32 + view.getUint32(low, littleEndian);
}

/** Reads a big-endian u64 like `u53`. */
export function u53be(view: DataView, offset: number): number {
  return view.getUint32(offset) * 2 ** 32 + view.getUint32(offset + 4);
}

/** Reads a u64 as an exact number. Throws `RangeError` from 2^53 up. */
export function readU53(view: DataView, offset: number): number {
  const value = view.getUint32(offset + 4, true) * 2 ** 32 + view.getUint32(offset, true);
  if (value > Number.MAX_SAFE_INTEGER)
    throw new RangeError(`the u64 at byte ${offset} does not fit in 53 bits`);
  return value;
}

/** Returns the bytes of a C string in a fixed-size array, up to the first NUL. Shares memory with `bytes`. */
export function cutAtNul(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}
