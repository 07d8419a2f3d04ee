/** From BTF's bytes to its sections and the place of every type. Nothing is believed that was not checked. */
import { FormatError } from "../errors.ts";
import {
  BTF_HEADER,
  BTF_HEADER_LAYOUT,
  BTF_KIND_ELEMENT_SIZE,
  BTF_KIND_FIXED_SIZE,
  BTF_LAYOUT,
  BTF_MAGIC,
  BTF_MAGIC_SWAPPED,
  BTF_TYPE_SIZE,
  BTF_VERSION,
} from "../uapi/btf.ts";

/** The sections of one BTF object; offsets in bytes from its start. */
export interface BtfSections {
  readonly typeOffset: number;
  /** The type section as u32. It shares the input's memory where that is aligned. */
  readonly words: Uint32Array;
  readonly strings: Uint8Array;
  /** The first word of each type, in the order of ids. */
  readonly index: Uint32Array;
}

const UNKNOWN = 0xffff_ffff;

interface Header {
  readonly typeStart: number;
  readonly typeLength: number;
  readonly stringStart: number;
  readonly stringLength: number;
  readonly layoutStart: number;
  readonly layoutLength: number;
}

/** Reads and checks the header, then walks the types once. `split`: the strings may be empty, and start anywhere. */
export function parseSections(bytes: Uint8Array, format: string, split: boolean): BtfSections {
  const header = readHeader(bytes, format);
  const { typeStart, typeLength, stringStart, stringLength } = header;
  const strings = bytes.subarray(stringStart, stringStart + stringLength);
  checkStrings(strings, stringStart, format, split);
  const words = asWords(bytes, typeStart, typeLength);
  const sizes = recordSizes(bytes, header);
  return { typeOffset: typeStart, words, strings, index: indexTypes(words, sizes, typeStart, format) };
}

function readHeader(bytes: Uint8Array, format: string): Header {
  const fail = (offset: number, problem: string): never => {
    throw new FormatError(format, offset, problem);
  };
  if (bytes.length < BTF_HEADER.size)
    fail(bytes.length, `ends inside its header (${bytes.length} bytes of ${BTF_HEADER.size})`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const u32 = (name: Exclude<keyof typeof BTF_HEADER.fields, "magic">): number =>
    view.getUint32(BTF_HEADER.fields[name].offset, true);
  const magic = view.getUint16(0, true);
  if (magic === BTF_MAGIC_SWAPPED) fail(0, "it is big-endian; only little-endian BTF is read");
  if (magic !== BTF_MAGIC) fail(0, `the magic is 0x${magic.toString(16)}, not 0x${BTF_MAGIC.toString(16)}`);
  const version = bytes[BTF_HEADER.fields.version.offset];
  if (version !== BTF_VERSION) fail(2, `version ${version} is not known, only ${BTF_VERSION}`);
  const headerLength = u32("hdr_len");
  if (headerLength < BTF_HEADER.size || headerLength > bytes.length)
    fail(4, `the header claims ${headerLength} bytes, the object has ${bytes.length}`);

  const section = (what: string, offset: number, length: number, field: number): number => {
    const start = headerLength + offset;
    if (start + length > bytes.length)
      fail(
        field,
        `the ${what} section claims bytes ${start} to ${start + length}, the object has ${bytes.length}`,
      );
    return start;
  };
  const typeLength = u32("type_len");
  const stringLength = u32("str_len");
  const typeStart = section("type", u32("type_off"), typeLength, 8);
  const stringStart = section("string", u32("str_off"), stringLength, 16);
  if (u32("type_off") % 4 !== 0 || typeLength % 4 !== 0)
    fail(8, "the type section is not aligned to 4 bytes");
  let layoutStart = 0;
  let layoutLength = 0;
  if (headerLength >= BTF_HEADER_LAYOUT.size) {
    layoutLength = view.getUint32(BTF_HEADER_LAYOUT.fields.layout_len.offset, true);
    const offset = view.getUint32(BTF_HEADER_LAYOUT.fields.layout_off.offset, true);
    layoutStart = section("layout", offset, layoutLength, 24);
  }
  return { typeStart, typeLength, stringStart, stringLength, layoutStart, layoutLength };
}

function checkStrings(strings: Uint8Array, start: number, format: string, split: boolean): void {
  if (strings.length === 0) {
    if (!split) throw new FormatError(format, start, "it has no strings; even the empty one must be there");
    return;
  }
  if (strings[strings.length - 1] !== 0)
    throw new FormatError(format, start + strings.length - 1, "the string section does not end with a NUL");
  if (!split && strings[0] !== 0)
    throw new FormatError(format, start, "the string section does not start with the empty string");
}

function asWords(bytes: Uint8Array, start: number, length: number): Uint32Array {
  const offset = bytes.byteOffset + start;
  if (offset % 4 === 0) return new Uint32Array(bytes.buffer, offset, length / 4);
  return new Uint32Array(bytes.slice(start, start + length).buffer);
}

/**
 * Words of a record by kind: `[2 * kind]` the fixed part with `struct btf_type`, `[2 * kind + 1]` for each element.
 * Kinds that this reader does not know come from the object's own layout section, so that they can be stepped over.
 */
function recordSizes(bytes: Uint8Array, { layoutStart, layoutLength }: Header): Uint32Array {
  const sizes = new Uint32Array(2 * 128).fill(UNKNOWN);
  const set = (kind: number, fixedBytes: number, elementBytes: number): void => {
    sizes[2 * kind] = (BTF_TYPE_SIZE + fixedBytes) / 4;
    sizes[2 * kind + 1] = elementBytes / 4;
  };
  const known = BTF_KIND_FIXED_SIZE.length;
  for (let kind = 1; kind < known; kind++)
    set(kind, BTF_KIND_FIXED_SIZE[kind]!, BTF_KIND_ELEMENT_SIZE[kind]!);
  const described = Math.min(128, Math.floor(layoutLength / BTF_LAYOUT.size));
  for (let kind = known; kind < described; kind++) {
    const at = layoutStart + kind * BTF_LAYOUT.size;
    const fixed = bytes[at + BTF_LAYOUT.fields.info_sz.offset]!;
    const element = bytes[at + BTF_LAYOUT.fields.elem_sz.offset]!;
    if (fixed % 4 === 0 && element % 4 === 0) set(kind, fixed, element);
  }
  return sizes;
}

/** The first word of each type. One pass, no object per type: the kernel has more than 125,000. */
function indexTypes(words: Uint32Array, sizes: Uint32Array, typeStart: number, format: string): Uint32Array {
  const end = words.length;
  const index = new Uint32Array(Math.floor(end / (BTF_TYPE_SIZE / 4)));
  let count = 0;
  let at = 0;
  while (at + 2 < end) {
    const info = words[at + 1]!;
    const kind = (info >>> 24) & 0x7f;
    const fixed = sizes[2 * kind]!;
    if (fixed === UNKNOWN) throw unknownKind(format, typeStart + 4 * at, kind, count);
    index[count++] = at;
    at += fixed;
    const perElement = sizes[2 * kind + 1]!;
    if (perElement !== 0) at += (info & 0xffffff) * perElement;
  }
  if (at !== end) {
    const lastStart = count === 0 ? 0 : index[count - 1]!;
    throw new FormatError(format, typeStart + 4 * lastStart, "the last type runs past the type section");
  }
  return index.slice(0, count);
}

function unknownKind(format: string, offset: number, kind: number, typesBefore: number): FormatError {
  return new FormatError(
    format,
    offset,
    `the type after ${typesBefore} others is of kind ${kind}, which is not known`,
    kind === 0 ? "" : "A newer kernel or compiler made it, and it does not describe the sizes of its kinds.",
  );
}
