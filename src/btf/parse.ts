/** Parses BTF: checks the header, finds the sections, and indexes the types. All input is untrusted. */
import { FormatError } from "../errors.ts";
import { compileEarly } from "../jit-threshold.ts";
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

/** The sections of one BTF object. Offsets are in bytes from the start of the object. */
export interface BtfSections {
  readonly typeOffset: number;
  /**
   * The type section in the byte order of this machine. Signed words are faster to read than unsigned words. Shares the
   * input's memory if the input is aligned and has this byte order.
   */
  readonly words: Int32Array;
  readonly strings: Uint8Array;
  /** The first word of each type, by ascending id. */
  readonly index: Int32Array;
}

interface Header {
  /** The object has the other byte order: the bytes of every word are reversed. */
  readonly isSwapped: boolean;
  readonly typeStart: number;
  readonly typeLength: number;
  readonly stringStart: number;
  readonly stringLength: number;
  readonly layoutStart: number;
  readonly layoutLength: number;
}

/**
 * Reads and checks the header, then indexes the types. A `split` BTF can have an empty string section, or one that does
 * not start with the empty string.
 */
export function parseSections(bytes: Uint8Array, format: string, split: boolean): BtfSections {
  const header = readHeader(bytes, format);
  const { typeStart, typeLength, stringStart, stringLength } = header;
  const strings = bytes.subarray(stringStart, stringStart + stringLength);
  checkStrings(strings, stringStart, format, split);
  const words = header.isSwapped
    ? swappedWords(bytes, typeStart, typeLength)
    : asWords(bytes, typeStart, typeLength);
  const steps = recordSteps(bytes, header);
  const index = compileEarly(() => indexTypes(words, steps, typeStart, format));
  return { typeOffset: typeStart, words, strings, index };
}

function readHeader(bytes: Uint8Array, format: string): Header {
  const fail = (offset: number, problem: string): never => {
    throw new FormatError(format, offset, problem);
  };
  if (bytes.length < BTF_HEADER.size)
    fail(bytes.length, `ends inside its header (${bytes.length} bytes of ${BTF_HEADER.size})`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const magic = view.getUint16(0, true);
  const isSwapped = magic === BTF_MAGIC_SWAPPED;
  const u32 = (name: Exclude<keyof typeof BTF_HEADER.fields, "magic">): number =>
    view.getUint32(BTF_HEADER.fields[name].offset, !isSwapped);
  if (magic !== BTF_MAGIC && !isSwapped)
    fail(0, `the magic is 0x${magic.toString(16)}, not 0x${BTF_MAGIC.toString(16)}`);
  const version = bytes[BTF_HEADER.fields.version.offset];
  if (version !== BTF_VERSION) fail(2, `version ${version} is not supported, only version ${BTF_VERSION}`);
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
    layoutLength = view.getUint32(BTF_HEADER_LAYOUT.fields.layout_len.offset, !isSwapped);
    const offset = view.getUint32(BTF_HEADER_LAYOUT.fields.layout_off.offset, !isSwapped);
    layoutStart = section("layout", offset, layoutLength, 24);
  }
  return { isSwapped, typeStart, typeLength, stringStart, stringLength, layoutStart, layoutLength };
}

function checkStrings(strings: Uint8Array, start: number, format: string, split: boolean): void {
  if (strings.length === 0) {
    if (!split)
      throw new FormatError(format, start, "the string section is empty; it must contain the empty string");
    return;
  }
  if (strings[strings.length - 1] !== 0)
    throw new FormatError(format, start + strings.length - 1, "the string section does not end with a NUL");
  if (!split && strings[0] !== 0)
    throw new FormatError(format, start, "the string section does not start with the empty string");
}

function asWords(bytes: Uint8Array, start: number, length: number): Int32Array {
  const offset = bytes.byteOffset + start;
  if (offset % 4 === 0) return new Int32Array(bytes.buffer, offset, length / 4);
  return new Int32Array(bytes.slice(start, start + length).buffer);
}

/** Copies the type section with its bytes swapped. The section consists of 32-bit words only (include/uapi/linux/btf.h). */
function swappedWords(bytes: Uint8Array, start: number, length: number): Int32Array {
  const swapped = Buffer.from(new ArrayBuffer(length));
  swapped.set(bytes.subarray(start, start + length));
  return new Int32Array(swapped.swap32().buffer);
}

/**
 * Returns record sizes in words, indexed by the upper byte of `info` (kind flag and kind). The low 8 bits are the size
 * of the fixed part with `struct btf_type`; the bits above are the size of one element. 0: unknown kind. Sizes of kinds
 * that this parser does not know come from the object's layout section, so their records can be skipped.
 */
function recordSteps(bytes: Uint8Array, { layoutStart, layoutLength }: Header): Int32Array {
  const steps = new Int32Array(256);
  const set = (kind: number, fixedBytes: number, elementBytes: number): void => {
    const step = (BTF_TYPE_SIZE + fixedBytes) / 4 + (elementBytes / 4) * 0x100;
    steps[kind] = step;
    steps[kind + 0x80] = step;
  };
  const known = BTF_KIND_FIXED_SIZE.length;
  for (let kind = 1; kind < known; kind++)
    set(kind, BTF_KIND_FIXED_SIZE[kind]!, BTF_KIND_ELEMENT_SIZE[kind]!);
  const described = Math.min(0x80, Math.floor(layoutLength / BTF_LAYOUT.size));
  for (let kind = known; kind < described; kind++) {
    const at = layoutStart + kind * BTF_LAYOUT.size;
    const fixed = bytes[at + BTF_LAYOUT.fields.info_sz.offset]!;
    const element = bytes[at + BTF_LAYOUT.fields.elem_sz.offset]!;
    if (fixed % 4 === 0 && element % 4 === 0) set(kind, fixed, element);
  }
  return steps;
}

/**
 * Returns the first word of each type. A kernel has more than 125,000 types, and a command indexes them once, mostly before
 * the engine has compiled this loop. The loop therefore makes no calls and creates no objects per type.
 */
function indexTypes(words: Int32Array, steps: Int32Array, typeStart: number, format: string): Int32Array {
  const last = words.length - BTF_TYPE_SIZE / 4;
  let room = Math.floor(words.length / USUAL_WORDS_PER_TYPE) + 16;
  let index: Int32Array = new Int32Array(room);
  let count = 0;
  let at = 0;
  while (at <= last) {
    const info = words[at + 1]!;
    const step = steps[info >>> 24]!;
    if (step === 0) throw unknownKind(format, typeStart + 4 * at, (info >>> 24) & 0x7f, count);
    if (count === room) {
      index = grown(index);
      room = index.length;
    }
    index[count++] = at;
    at += (step & 0xff) + (info & 0xffffff) * (step >>> 8);
  }
  if (at !== words.length) {
    const lastStart = count === 0 ? 0 : index[count - 1]!;
    throw new FormatError(format, typeStart + 4 * lastStart, "the last type runs past the type section");
  }
  return index.subarray(0, count);
}

/** Estimate for the first allocation: a kernel's types have 6.3 words on average. */
const USUAL_WORDS_PER_TYPE = 6;

function grown(index: Int32Array): Int32Array {
  const larger = new Int32Array(index.length * 2);
  larger.set(index);
  return larger;
}

function unknownKind(format: string, offset: number, kind: number, typesBefore: number): FormatError {
  return new FormatError(
    format,
    offset,
    `the type after ${typesBefore} others has kind ${kind}, which is not known`,
    kind === 0
      ? ""
      : "A newer kernel or compiler wrote this BTF, and it has no layout section that gives the size of the kind.",
  );
}
