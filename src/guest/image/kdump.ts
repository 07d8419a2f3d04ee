/**
 * Reads compressed kdump files, the default output of makedumpfile and of QEMU's `dump-guest-memory -z`, `-l` and `-s`.
 * The first bitmap marks the pages of the machine, the second the pages in the file. A table has a descriptor for each page
 * in the file, with its offset and compression.
 */
import { basename } from "node:path";
import { FormatError } from "../../errors.ts";
import {
  DISK_DUMP_HEADER,
  DUMP_DH_COMPRESSED_INCOMPLETE,
  KDUMP_SUB_HEADER,
  PAGE_DESC,
} from "../../uapi/kdump.ts";
import { u53, viewOf } from "../../uapi/layout.ts";
import { prstatusNotes } from "./core.ts";
import type { ReadableFile } from "./file.ts";
import type { Contents, FormatReader } from "./format.ts";
import { OnDemandFile, type PageRange, type PageSource } from "./on-demand.ts";
import { type PageCodec, pageCodec } from "./page-codec.ts";

/** @public Loaded by formats.ts. */
export const kdump: FormatReader = { problem, open };

/** Page sizes of x86-64 and arm64. */
const PAGE_SIZES: readonly number[] = [4096, 16_384, 65_536];
const MAX_DUMP_LEVEL = 31;
const MAX_VMCOREINFO_BYTES = 65_536;
const MAX_NOTES_BYTES = 16 * 2 ** 20;
/** x86-64 and arm64 address at most 52 bits of physical memory. */
const MAX_PHYSICAL = 2 ** 52;

interface Header {
  readonly blockBytes: number;
  readonly isIncomplete: boolean;
  /** Offset of the first bitmap, and the size of each bitmap, in bytes. */
  readonly bitmapsAt: number;
  readonly bitmapBytes: number;
  readonly isSplit: boolean;
  /** Page frames that this file describes: all of them, or those of one part of a split dump. */
  readonly startPfn: number;
  readonly endPfn: number;
  readonly vmcoreinfoAt: number;
  readonly vmcoreinfoBytes: number;
  readonly notesAt: number;
  readonly notesBytes: number;
}

/** Reads both headers, or returns why they are not valid. */
function headerOf(file: ReadableFile): Header | string {
  const main = viewOf(file.read(0, DISK_DUMP_HEADER.size));
  if (main.byteLength < DISK_DUMP_HEADER.size) return "it ends within the header";
  const word = (field: keyof typeof DISK_DUMP_HEADER.fields): number =>
    main.getUint32(DISK_DUMP_HEADER.fields[field].offset, true);
  const blockBytes = word("block_size");
  if (!PAGE_SIZES.includes(blockBytes)) return `its block size is ${blockBytes}`;
  const bitmapsAt = (1 + word("sub_hdr_size")) * blockBytes;
  const bothBytes = word("bitmap_blocks") * blockBytes;
  if (word("sub_hdr_size") === 0 || bothBytes === 0 || bitmapsAt + bothBytes > file.sizeBytes)
    return `its headers and bitmaps have ${bitmapsAt + bothBytes} bytes, but the file has ${file.sizeBytes}`;
  const sub = viewOf(file.read(blockBytes, KDUMP_SUB_HEADER.size));
  const long = (field: keyof typeof KDUMP_SUB_HEADER.fields): number =>
    u53(sub, KDUMP_SUB_HEADER.fields[field].offset);
  const level = sub.getUint32(KDUMP_SUB_HEADER.fields.dump_level.offset, true);
  const split = sub.getUint32(KDUMP_SUB_HEADER.fields.split.offset, true);
  if (level > MAX_DUMP_LEVEL || split > 1)
    return `its second block is not a header: dump level ${level}, split ${split}`;
  const version = word("header_version");
  const isWide = version >= 6;
  const mapped = isWide ? long("max_mapnr_64") : word("max_mapnr");
  // One bit per page frame, rounded up to whole blocks.
  const endOfMap = Math.min(mapped, (bothBytes / 2) * 8, MAX_PHYSICAL / blockBytes);
  const start = isWide ? long("start_pfn_64") : long("start_pfn");
  const end = isWide ? long("end_pfn_64") : long("end_pfn");
  return {
    blockBytes,
    isIncomplete: (word("status") & DUMP_DH_COMPRESSED_INCOMPLETE) !== 0,
    bitmapsAt,
    bitmapBytes: bothBytes / 2,
    isSplit: split === 1,
    startPfn: split === 1 ? Math.min(start, endOfMap) : 0,
    endPfn: split === 1 ? Math.min(end, endOfMap) : endOfMap,
    vmcoreinfoAt: version >= 3 ? long("offset_vmcoreinfo") : 0,
    vmcoreinfoBytes: version >= 3 ? long("size_vmcoreinfo") : 0,
    notesAt: version >= 4 ? long("offset_note") : 0,
    notesBytes: version >= 4 ? long("size_note") : 0,
  };
}

function problem(file: ReadableFile): string | undefined {
  const header = headerOf(file);
  if (typeof header === "string") return header;
  // One part of a split dump may have no pages.
  if (header.isSplit && header.startPfn === header.endPfn) return undefined;
  // Page descriptors follow the bitmaps. The first one refers to data after the table.
  const tableAt = header.bitmapsAt + 2 * header.bitmapBytes;
  const page = viewOf(file.read(tableAt, PAGE_DESC.size));
  if (page.byteLength < PAGE_DESC.size) return "it ends before the first page descriptor";
  const offset = u53(page, PAGE_DESC.fields.offset.offset);
  const size = page.getUint32(PAGE_DESC.fields.size.offset, true);
  return offset > tableAt && offset < file.sizeBytes && size > 0 && size <= header.blockBytes
    ? undefined
    : `no page descriptor follows its headers (at byte ${tableAt})`;
}

function open(file: ReadableFile): Contents {
  const header = headerOf(file);
  if (typeof header === "string") throw new FormatError(`kdump file ${file.path}`, 0, header);
  const warnings: string[] = [];
  const pages = new KdumpPages(file, header);
  if (header.isIncomplete)
    warnings.push(
      `${basename(file.path)} is incomplete: the disk was full when it was written, and later pages are missing.`,
    );
  else if (!pages.hasLastPages)
    warnings.push(
      `${basename(file.path)} is incomplete: it ends before its last pages. It was cut off, or its writer was stopped.`,
    );
  const memory = new OnDemandFile(pages);
  const { vmcoreinfoAt, vmcoreinfoBytes, notesAt, notesBytes } = header;
  const hasText = vmcoreinfoBytes > 0 && vmcoreinfoBytes <= MAX_VMCOREINFO_BYTES;
  return {
    format: "kdump",
    memory,
    pieces: memory.pieces,
    vmcoreinfo: hasText ? file.read(vmcoreinfoAt, vmcoreinfoBytes) : undefined,
    prstatus: prstatusNotes(file.read(notesAt, Math.min(notesBytes, MAX_NOTES_BYTES))),
    warnings,
  };
}

/** Bytes of the bitmap that are compared at once with all ones or all zeros. */
const BLOCK_BYTES = 512;
const ONES = Buffer.alloc(BLOCK_BYTES, 0xff);
const ZEROS = Buffer.alloc(BLOCK_BYTES);
/** Number of consecutive descriptors that are read at once. */
const DESCRIPTORS = 256;
/** Number of pages at the end whose data is looked for. */
const MAX_LAST_PAGES = 65_536;

class KdumpPages implements PageSource {
  readonly path: string;
  readonly pageBytes: number;
  readonly ranges: readonly PageRange[];
  readonly #file: ReadableFile;
  readonly #descriptorsAt: number;
  /** For each range: the number of pages in the file before it. */
  readonly #before: number[] = [];
  /** Index of the range that was read last. */
  #range = 0;
  readonly #codecs: Map<number, PageCodec | undefined> = new Map();
  #descriptors: DataView = viewOf(new Uint8Array(0));
  #firstDescriptor = 0;

  constructor(file: ReadableFile, header: Header) {
    this.path = file.path;
    this.pageBytes = header.blockBytes;
    this.#file = file;
    this.#descriptorsAt = header.bitmapsAt + 2 * header.bitmapBytes;
    // Rounded down to a whole byte; the bits before `startPfn` are cleared.
    const firstPfn = header.startPfn - (header.startPfn % 8);
    const bytes = Math.max(0, Math.ceil((header.endPfn - firstPfn) / 8));
    // The second bitmap (bit 0 of byte 0 is page frame 0), limited to this file's page frames.
    const bitmap = file.read(header.bitmapsAt + header.bitmapBytes + firstPfn / 8, bytes);
    clear(bitmap, 0, header.startPfn - firstPfn);
    clear(bitmap, header.endPfn - firstPfn, bitmap.length * 8);
    this.ranges = rangesOf(bitmap, firstPfn, this.pageBytes);
    let count = 0;
    for (const { start, end } of this.ranges) {
      this.#before.push(count);
      count += (end - start) / this.pageBytes;
    }
    this.#requireCodecs();
  }

  /**
   * Whether the data of the last pages is in the file; true if there are none. All pages of zeros share the data of the first
   * one, so earlier pages are checked until two have data of their own.
   */
  get hasLastPages(): boolean {
    const last = this.ranges.at(-1);
    if (last === undefined) return true;
    const rank = this.#before.at(-1)! + (last.end - last.start) / this.pageBytes - 1;
    const { offset, size } = PAGE_DESC.fields;
    const places = new Set<number>();
    for (let index = rank; index >= 0 && index > rank - MAX_LAST_PAGES && places.size < 3; index--) {
      const at = this.#descriptor(index);
      const bytes = at < 0 ? 0 : this.#descriptors.getUint32(at + size.offset, true);
      if (bytes === 0) return false;
      const place = u53(this.#descriptors, at + offset.offset);
      if (place + bytes > this.#file.sizeBytes) return false;
      places.add(place);
    }
    return true;
  }

  /** Opens the libraries that the first pages need, so that a missing library fails the opening of the file. */
  #requireCodecs(): void {
    if (this.#descriptor(0) < 0) return;
    for (let at = 0; at + PAGE_DESC.size <= this.#descriptors.byteLength; at += PAGE_DESC.size)
      this.#codec(this.#descriptors.getUint32(at + PAGE_DESC.fields.flags.offset, true));
  }

  check(): void {
    this.#file.check();
  }

  readPage(physical: number, into: Uint8Array<ArrayBuffer>): boolean {
    const { start } = this.ranges[this.#rangeAt(physical)]!;
    const descriptor = this.#descriptor(this.#before[this.#range]! + (physical - start) / this.pageBytes);
    if (descriptor < 0) return false;
    const { fields } = PAGE_DESC;
    const size = this.#descriptors.getUint32(descriptor + fields.size.offset, true);
    const flags = this.#descriptors.getUint32(descriptor + fields.flags.offset, true);
    // In an incomplete dump, a descriptor or its page may never have been written.
    if (size === 0 || size > this.pageBytes) return false;
    const bytes = this.#file.read(u53(this.#descriptors, descriptor + fields.offset.offset), size);
    return bytes.length === size && this.#codec(flags)?.(bytes, into) === true;
  }

  #codec(flags: number): PageCodec | undefined {
    if (!this.#codecs.has(flags)) this.#codecs.set(flags, pageCodec(flags));
    return this.#codecs.get(flags);
  }

  /** Returns the index of the range that contains an address. */
  #rangeAt(physical: number): number {
    const last = this.ranges[this.#range]!;
    if (physical >= last.start && physical < last.end) return this.#range;
    let low = 0;
    let high = this.ranges.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ranges[middle]!.end <= physical) low = middle + 1;
      else high = middle;
    }
    this.#range = low;
    return low;
  }

  /** Returns the offset in `#descriptors` of the descriptor with this index, or -1 if the file ends before it. */
  #descriptor(index: number): number {
    const held = this.#descriptors.byteLength / PAGE_DESC.size;
    if (held === 0 || index < this.#firstDescriptor || index >= this.#firstDescriptor + held) {
      this.#firstDescriptor = index - (index % DESCRIPTORS);
      const at = this.#descriptorsAt + this.#firstDescriptor * PAGE_DESC.size;
      this.#descriptors = viewOf(this.#file.read(at, DESCRIPTORS * PAGE_DESC.size));
    }
    const at = (index - this.#firstDescriptor) * PAGE_DESC.size;
    return at + PAGE_DESC.size <= this.#descriptors.byteLength ? at : -1;
  }

  [Symbol.dispose](): void {}
}

function clear(bitmap: Uint8Array, from: number, to: number): void {
  for (let bit = from; bit < to; bit++) bitmap[bit >>> 3]! &= ~(1 << (bit & 7));
}

/** Returns the runs of set bits as ranges of addresses. Bit 0 is page frame `firstPfn`. */
function rangesOf(bitmap: Uint8Array, firstPfn: number, pageBytes: number): PageRange[] {
  const bytes = Buffer.from(bitmap.buffer, bitmap.byteOffset, bitmap.length);
  const ranges: PageRange[] = [];
  const bits = bytes.length * 8;
  const address = (bit: number): number => (firstPfn + bit) * pageBytes;
  let start = -1;
  for (let bit = 0; bit < bits; ) {
    const at = bit >>> 3;
    // Most of a bitmap is all ones or all zeros, and the loop over bits is slow until the engine has compiled it.
    if (bit % (8 * BLOCK_BYTES) === 0 && at + BLOCK_BYTES <= bytes.length) {
      const same = start >= 0 ? ONES : ZEROS;
      if (bytes.compare(same, 0, BLOCK_BYTES, at, at + BLOCK_BYTES) === 0) {
        bit += 8 * BLOCK_BYTES;
        continue;
      }
    }
    const byte = bytes[at]!;
    if ((bit & 7) === 0 && byte === (start >= 0 ? 0xff : 0)) {
      bit += 8;
      continue;
    }
    const isSet = ((byte >>> (bit & 7)) & 1) === 1;
    if (isSet && start < 0) start = bit;
    if (!isSet && start >= 0) {
      ranges.push({ start: address(start), end: address(bit) });
      start = -1;
    }
    bit++;
  }
  if (start >= 0) ranges.push({ start: address(start), end: address(bits) });
  return ranges;
}
