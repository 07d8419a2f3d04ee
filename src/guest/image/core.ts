/** Reads ELF cores of a machine's memory: QEMU's `dump-guest-memory`, kdump's `vmcore`, `makedumpfile -E`, and captures. */
import { basename } from "node:path";
import { FormatError } from "../../errors.ts";
import {
  EHDR,
  ELF_MAGIC,
  ELFCLASS64,
  ELFDATA2LSB,
  EM_AARCH64,
  EM_X86_64,
  ET_CORE,
  NHDR,
  NT_PRSTATUS,
  PHDR,
  PN_XNUM,
  PT_LOAD,
  PT_NOTE,
  SHDR,
  SHT_NOBITS,
} from "../../uapi/elf.ts";
import { u53, viewOf } from "../../uapi/layout.ts";
import { CAPTURE_NOTE_NAME, CAPTURE_NOTE_TYPE } from "../capture/note.ts";
import type { ReadableFile } from "./file.ts";
import type { Contents, FormatReader, Piece } from "./format.ts";

/** A core has one segment per RAM range, split at each hole that makedumpfile left out. */
const MAX_SEGMENTS = 1_000_000;
const MAX_NOTE_BYTES = 16 * 2 ** 20;
/** Name of the NT_PRSTATUS notes. */
export const PRSTATUS_NAME = "CORE";
/** x86-64 and arm64 address at most 52 bits of physical memory. */
const MAX_PHYSICAL = 2 ** 52;

/**
 * Fraction of a file that can follow its last segment or section. A boot image's vmlinux has relocations there
 * (arch/x86/boot/compressed/Makefile), a module its signature. If more follows, the file is raw memory whose first page
 * is that of an ELF file.
 */
const MAX_TAIL = 1 / 8;

/** @public Loaded by formats.ts. */
export const elfCore: FormatReader = {
  problem: (file) => (isKcore(file) ? undefined : problem(file)),
  open: (file) => (isKcore(file) ? kcore().readKcore(file) : readCore(file)),
};

/** /proc/kcore is as large as the kernel's half of the address space, at least 2^35 bytes (arm64, VA_BITS 36). */
const KCORE_MIN_BYTES = 2 ** 34;
const isKcore = (file: ReadableFile): boolean => file.sizeBytes >= KCORE_MIN_BYTES && kcore().isKcore(file);

const kcore = (): typeof import("./kcore.ts") => require("./kcore.ts") as typeof import("./kcore.ts");

/** Contents by file: `problem` reads the headers, and `open` returns the same. */
const contentsOf: WeakMap<ReadableFile, Contents> = new WeakMap();

/** Reads the headers of a core. Throws `FormatError` if it is not a core of a supported 64-bit machine. */
function readCore(file: ReadableFile): Contents {
  const known = contentsOf.get(file);
  if (known !== undefined) return known;
  const contents = parseCore(file);
  contentsOf.set(file, contents);
  return contents;
}

function parseCore(file: ReadableFile): Contents {
  const header = elfHeader(file);
  const format = `memory file ${file.path}`;
  checkHeader(header, format);
  const { table, entrySize, offset } = programHeaders(file, header, format);
  const warnings: string[] = [];
  const loads: Piece[] = [];
  let vmcoreinfo: Uint8Array | undefined;
  let captureNote: Uint8Array | undefined;
  const prstatus: Uint8Array[] = [];
  for (let at = 0; at + PHDR.size <= table.byteLength; at += entrySize) {
    const type = table.getUint32(at + PHDR.fields.type.offset, true);
    if (type === PT_NOTE) {
      const notes = readNotes(file, table, at);
      vmcoreinfo ??= findNote(notes, "VMCOREINFO", 0);
      captureNote ??= findNote(notes, CAPTURE_NOTE_NAME, CAPTURE_NOTE_TYPE);
      prstatus.push(...prstatusNotes(notes));
    } else if (type === PT_LOAD) {
      const piece = loadOf(file, table, at, warnings);
      if (piece !== undefined) loads.push(piece);
    }
  }
  if (loads.length === 0)
    throw new FormatError(
      format,
      offset,
      "no segment holds memory",
      "The dump was truncated before its data.",
    );
  return {
    format: captureNote === undefined ? "ELF core" : "capture",
    pieces: withoutOverlaps(loads),
    vmcoreinfo,
    captureNote,
    prstatus,
    warnings,
  };
}

/** Reads the ELF header. Throws `FormatError` if there is none. */
function elfHeader(file: ReadableFile): DataView {
  const header = viewOf(file.read(0, EHDR.size));
  if (header.byteLength === EHDR.size && header.getUint32(0, true) === ELF_MAGIC) return header;
  throw new FormatError(`memory file ${file.path}`, 0, "it is not an ELF file");
}

interface ProgramHeaders {
  readonly table: DataView;
  readonly entrySize: number;
  readonly offset: number;
}

function programHeaders(file: ReadableFile, header: DataView, format: string): ProgramHeaders {
  const offset = u53(header, EHDR.fields.phoff.offset);
  const entrySize = header.getUint16(EHDR.fields.phentsize.offset, true);
  const count = segmentCount(file, header, format);
  if (entrySize < PHDR.size)
    throw new FormatError(format, EHDR.fields.phentsize.offset, `a program header has ${entrySize} bytes`);
  if (!(offset + count * entrySize <= file.sizeBytes))
    throw new FormatError(
      format,
      EHDR.fields.phoff.offset,
      `${count} program headers at ${offset} extend past the end of the file`,
    );
  return { table: viewOf(file.read(offset, count * entrySize)), entrySize, offset };
}

/**
 * Checks that the segments and sections cover the file. A core may be truncated: kdump's are if the disk was full. Any
 * other ELF file (a vmlinux) must be complete; `readCore` then reports that it is not a core.
 */
function problem(file: ReadableFile): string | undefined {
  try {
    const header = elfHeader(file);
    const isCore = header.getUint16(EHDR.fields.type.offset, true) === ET_CORE;
    if (isCore) readCore(file);
    const end = isCore
      ? endOfSegments(file, header)
      : Math.max(endOfSegments(file, header), endOfSections(file, header));
    if (!isCore && end > file.sizeBytes)
      return "it is not a core, and its contents extend past the end of the file";
    return end < file.sizeBytes * (1 - MAX_TAIL)
      ? `its contents end at byte ${end}, and the file has ${file.sizeBytes}`
      : undefined;
  } catch (error) {
    if (error instanceof FormatError) return error.problem;
    throw error;
  }
}

/** Returns the offset after the last segment. Throws `FormatError` if the program headers are not in the file. */
function endOfSegments(file: ReadableFile, header: DataView): number {
  if (u53(header, EHDR.fields.phoff.offset) === 0) return 0;
  const { table, entrySize } = programHeaders(file, header, `ELF file ${file.path}`);
  let end = 0;
  for (let at = 0; at + PHDR.size <= table.byteLength; at += entrySize) {
    const start = u53(table, at + PHDR.fields.offset.offset);
    end = Math.max(end, start + u53(table, at + PHDR.fields.filesz.offset));
  }
  return end;
}

/** Returns the offset after the last section and the section headers. Throws `FormatError` if those are not in the file. */
function endOfSections(file: ReadableFile, header: DataView): number {
  const offset = u53(header, EHDR.fields.shoff.offset);
  const entrySize = header.getUint16(EHDR.fields.shentsize.offset, true);
  const count = header.getUint16(EHDR.fields.shnum.offset, true);
  let end = offset + count * entrySize;
  if (offset === 0) return 0;
  if (entrySize < SHDR.size || !(end <= file.sizeBytes))
    throw new FormatError(
      `ELF file ${file.path}`,
      EHDR.fields.shoff.offset,
      `${count} section headers at ${offset} extend past the end of the file`,
    );
  const table = viewOf(file.read(offset, count * entrySize));
  for (let at = 0; at + SHDR.size <= table.byteLength; at += entrySize) {
    if (table.getUint32(at + SHDR.fields.type.offset, true) === SHT_NOBITS) continue;
    const start = u53(table, at + SHDR.fields.offset.offset);
    end = Math.max(end, start + u53(table, at + SHDR.fields.size.offset));
  }
  return end;
}

function checkHeader(header: DataView, format: string): void {
  const fail = (field: keyof typeof EHDR.fields, problem: string, hint = ""): never => {
    throw new FormatError(format, EHDR.fields[field].offset, problem, hint);
  };
  if (header.getUint8(EHDR.fields.class.offset) !== ELFCLASS64) fail("class", "it is not a 64-bit ELF file");
  if (header.getUint8(EHDR.fields.data.offset) !== ELFDATA2LSB) fail("data", "it is not little-endian");
  const type = header.getUint16(EHDR.fields.type.offset, true);
  if (type !== ET_CORE)
    fail(
      "type",
      `it is an ELF file but not a core (type ${type})`,
      "Give a kernel's ELF file to --vmlinux, not to --memory.",
    );
  const machine = header.getUint16(EHDR.fields.machine.offset, true);
  if (machine !== EM_X86_64 && machine !== EM_AARCH64)
    fail("machine", `machine ${machine} is neither x86-64 (62) nor arm64 (183)`);
}

function segmentCount(file: ReadableFile, header: DataView, format: string): number {
  const count = header.getUint16(EHDR.fields.phnum.offset, true);
  if (count !== PN_XNUM) return count;
  const first = viewOf(file.read(u53(header, EHDR.fields.shoff.offset), SHDR.size));
  const real = first.byteLength < SHDR.size ? 0 : first.getUint32(SHDR.fields.info.offset, true);
  if (real >= PN_XNUM && real <= MAX_SEGMENTS) return real;
  throw new FormatError(format, EHDR.fields.phnum.offset, `section 0 gives ${real} program headers`);
}

function loadOf(file: ReadableFile, table: DataView, at: number, warnings: string[]): Piece | undefined {
  const fileOffset = u53(table, at + PHDR.fields.offset.offset);
  const physical = u53(table, at + PHDR.fields.paddr.offset);
  const size = u53(table, at + PHDR.fields.filesz.offset);
  if (size === 0) return undefined;
  if (!(physical + size <= MAX_PHYSICAL)) {
    warnings.push(
      `${basename(file.path)}: a segment of ${size} bytes has no physical address and was ignored.`,
    );
    return undefined;
  }
  const length = Math.min(size, file.sizeBytes - fileOffset);
  if (length < size)
    warnings.push(
      `${basename(file.path)}: ${size - Math.max(0, length)} bytes of the memory at 0x${physical.toString(16)} are missing: the file is truncated.`,
    );
  return length > 0 ? { fileOffset, physical, length } : undefined;
}

/**
 * Removes the overlap of segments; the segment with the lower address keeps it. A kdump vmcore has the kernel image a
 * second time (fs/proc/vmcore.c, the segment that prepare_elf64_headers adds for the kernel's text).
 */
function withoutOverlaps(pieces: Piece[]): Piece[] {
  const kept: Piece[] = [];
  let end = 0;
  for (const { fileOffset, physical, length } of pieces.sort((a, b) => a.physical - b.physical)) {
    const skip = Math.max(0, end - physical);
    if (skip >= length) continue;
    kept.push({ fileOffset: fileOffset + skip, physical: physical + skip, length: length - skip });
    end = physical + length;
  }
  return kept;
}

function readNotes(file: ReadableFile, table: DataView, at: number): Uint8Array {
  const size = Math.min(u53(table, at + PHDR.fields.filesz.offset), MAX_NOTE_BYTES);
  return file.read(u53(table, at + PHDR.fields.offset.offset), size);
}

/** Returns the content of the note with this name and type in a note segment or section. */
export function findNote(notes: Uint8Array, name: string, type: number): Uint8Array | undefined {
  for (const found of notesOf(notes, name, type)) return found;
  return undefined;
}

/** Returns the contents of the NT_PRSTATUS notes. QEMU and the kernel use the same name and type. */
export const prstatusNotes = (notes: Uint8Array): Uint8Array[] => [
  ...notesOf(notes, PRSTATUS_NAME, NT_PRSTATUS),
];

function* notesOf(notes: Uint8Array, name: string, type: number): Generator<Uint8Array> {
  const view = viewOf(notes);
  let at = 0;
  while (at + NHDR.size <= notes.length) {
    const nameSize = view.getUint32(at + NHDR.fields.namesz.offset, true);
    const size = view.getUint32(at + NHDR.fields.descsz.offset, true);
    const nameAt = at + NHDR.size;
    const contentAt = nameAt + Math.ceil(nameSize / 4) * 4;
    if (contentAt + size > notes.length) return;
    const found = Buffer.from(notes.buffer, notes.byteOffset + nameAt, nameSize).toString("latin1");
    if (found === `${name}\0` && view.getUint32(at + NHDR.fields.type.offset, true) === type)
      yield notes.subarray(contentAt, contentAt + size);
    at = contentAt + Math.ceil(size / 4) * 4;
  }
}
