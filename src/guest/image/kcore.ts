/**
 * Reads /proc/kcore: the running kernel's memory as an ELF core (fs/proc/kcore.c). Its size and offsets cover the kernel's
 * address space and exceed 2^53, so offsets are bigints. It cannot be mapped: pages are read on demand, and hold the
 * kernel's data at the time of the read.
 */
import { statfsSync } from "node:fs";
import { FormatError } from "../../errors.ts";
import { Fd, type PinnedBytes, pread } from "../../ffi.ts";
import { EHDR, ELF_MAGIC, PHDR, PT_LOAD, PT_NOTE } from "../../uapi/elf.ts";
import { u53, viewOf } from "../../uapi/layout.ts";
import { findNote } from "./core.ts";
import type { ReadableFile } from "./file.ts";
import type { Contents } from "./format.ts";
import { OnDemandFile, type PageRange, type PageSource } from "./on-demand.ts";

/** include/uapi/linux/magic.h */
const PROC_SUPER_MAGIC = 0x9fa0;
const PAGE_BYTES = 4096;
/** The headers precede the first page of memory (fs/proc/kcore.c, get_kcore_size). */
const MAX_HEADER_BYTES = 4 * 2 ** 20;
/** x86-64 and arm64 address at most 52 bits of physical memory. Segments without an address have all bits set. */
const MAX_PHYSICAL = 2 ** 52;

/**
 * Returns whether an ELF file is /proc/kcore, under any path.
 *
 * @public Loaded by core.ts.
 */
export function isKcore(file: ReadableFile): boolean {
  try {
    return statfsSync(file.path).type === PROC_SUPER_MAGIC;
  } catch {
    return false;
  }
}

/** A segment's physical memory, and its offset in the file. */
interface Segment extends PageRange {
  readonly offset: bigint;
}

/**
 * Reads the headers. Throws `FormatError` if no segment has a physical address (kernels before 4.20).
 *
 * @public Loaded by core.ts.
 */
export function readKcore(file: ReadableFile): Contents {
  const format = `memory file ${file.path}`;
  const header = viewOf(file.read(0, EHDR.size));
  const entry = header.getUint16(EHDR.fields.phentsize.offset, true);
  const count = header.getUint16(EHDR.fields.phnum.offset, true);
  const size = Math.min(count * entry, MAX_HEADER_BYTES);
  const table = viewOf(file.read(u53(header, EHDR.fields.phoff.offset), size));
  if (header.getUint32(0, true) !== ELF_MAGIC || entry < PHDR.size)
    throw new FormatError(format, 0, "it is not a /proc/kcore file");
  const segments: Segment[] = [];
  let vmcoreinfo: Uint8Array | undefined;
  for (let at = 0; at + PHDR.size <= table.byteLength; at += entry) {
    const type = table.getUint32(at + PHDR.fields.type.offset, true);
    if (type === PT_NOTE) vmcoreinfo ??= findNote(notesOf(file, table, at), "VMCOREINFO", 0);
    const start = u53(table, at + PHDR.fields.paddr.offset);
    const end = start + u53(table, at + PHDR.fields.filesz.offset);
    if (type !== PT_LOAD || !(start < end && end <= MAX_PHYSICAL)) continue;
    segments.push({ start, end, offset: table.getBigUint64(at + PHDR.fields.offset.offset, true) });
  }
  if (segments.length === 0)
    throw new FormatError(format, u53(header, EHDR.fields.phoff.offset), "no segment has a physical address");
  const memory = new OnDemandFile(new KcorePages(file.path, withoutOverlaps(segments)));
  return { format: "the running kernel's memory", memory, pieces: memory.pieces, vmcoreinfo, warnings: [] };
}

function notesOf(file: ReadableFile, table: DataView, at: number): Uint8Array {
  const size = Math.min(u53(table, at + PHDR.fields.filesz.offset), MAX_HEADER_BYTES);
  return file.read(u53(table, at + PHDR.fields.offset.offset), size);
}

/** Removes overlaps: the kernel's text has its own segment and is also part of a RAM segment. */
function withoutOverlaps(segments: Segment[]): Segment[] {
  const kept: Segment[] = [];
  let end = 0;
  for (const segment of segments.sort((a, b) => a.start - b.start)) {
    const start = Math.max(Math.ceil(segment.start / PAGE_BYTES) * PAGE_BYTES, end);
    const stop = Math.floor(segment.end / PAGE_BYTES) * PAGE_BYTES;
    if (start >= stop) continue;
    kept.push({ start, end: stop, offset: segment.offset + BigInt(start - segment.start) });
    end = stop;
  }
  return kept;
}

class KcorePages implements PageSource {
  readonly path: string;
  readonly pageBytes: number = PAGE_BYTES;
  readonly ranges: readonly Segment[];
  readonly #fd: Fd;

  constructor(path: string, segments: readonly Segment[]) {
    this.path = path;
    this.ranges = segments;
    this.#fd = Fd.openFile(path);
  }

  /** Does nothing: memory does not shrink. */
  check(): void {}

  /** Returns false if the kernel does not return the page (EFAULT): it is no longer RAM, or it is poisoned. */
  readPage(physical: number, into: PinnedBytes): boolean {
    const segment = this.ranges.find(({ start, end }) => physical >= start && physical < end);
    if (segment === undefined) return false;
    const got = pread(this.#fd.number, into, segment.offset + BigInt(physical - segment.start));
    return got === into.length;
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}
