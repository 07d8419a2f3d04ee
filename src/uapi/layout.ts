/**
 * Struct layouts as data. A layout of the kernel's ABI is written down with its offsets (`fixed`); a layout of
 * the kernel's insides is only named there and gets its offsets from BTF, once.
 */

/** How a field's bytes are read. Sizes in bytes; all little-endian. */
export type FieldType = "u8" | "u16" | "u32" | "u64" | "bytes";

/** One field of a struct with a fixed ABI. `offset` and `size` in bytes. */
export interface Field {
  readonly offset: number;
  readonly size: number;
  readonly type: FieldType;
}

/** A struct, or one arm of a union, with a fixed ABI. `size` is what we read or write, in bytes. */
export interface Layout<Names extends string = string> {
  /** The C name, "struct bpf_map_info"; an arm of an anonymous union names the member that leads to it. */
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

/** Writes down a struct. Throws `RangeError` where a field lies outside it: a layout is wrong at start-up or never. */
export function layout<Names extends string>(
  name: string,
  size: number,
  fields: Record<Names, Field>,
): Layout<Names> {
  for (const [field, { offset, size: fieldSize }] of Object.entries<Field>(fields)) {
    if (offset < 0 || offset + fieldSize > size)
      throw new RangeError(`${name}.${field} lies outside the struct`);
  }
  return { name, size, fields };
}

/** The same bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A u64 as a number: exact below 2^53, and from there up large enough to fail every check of a range. */
export function u53(view: DataView, offset: number, littleEndian = true): number {
  const low = littleEndian ? offset : offset + 4;
  return view.getUint32(2 * offset + 4 - low, littleEndian) * 2 ** 32 + view.getUint32(low, littleEndian);
}

/** The same of a big-endian u64. */
export function u53be(view: DataView, offset: number): number {
  return view.getUint32(offset) * 2 ** 32 + view.getUint32(offset + 4);
}

/** A u64 as an exact number. Throws `RangeError` from 2^53 up. */
export function readU53(view: DataView, offset: number): number {
  const value = view.getUint32(offset + 4, true) * 2 ** 32 + view.getUint32(offset, true);
  if (value > Number.MAX_SAFE_INTEGER) throw new RangeError(`the u64 at byte ${offset} does not fit 53 bits`);
  return value;
}

/** The bytes of a C string in a fixed array: cut at the first NUL, of any encoding. Shares memory with `bytes`. */
export function cutAtNul(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}
