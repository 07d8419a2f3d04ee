/** An ELF core of a machine's memory: QEMU's `dump-guest-memory`, a kdump `vmcore`, `makedumpfile -E`. */
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
  PHDR,
  PN_XNUM,
  PT_LOAD,
  PT_NOTE,
  SHDR,
} from "../../uapi/elf.ts";
import { u53, viewOf } from "../../uapi/layout.ts";
import { CAPTURE_NOTE_NAME, CAPTURE_NOTE_TYPE } from "../capture/note.ts";
import type { DataFile } from "./file.ts";

/** Memory as a file holds it: `length` bytes at `fileOffset` are the guest's from `physical` up. */
export interface Piece {
  readonly fileOffset: number;
  readonly physical: number;
  readonly length: number;
}

export interface Core {
  readonly pieces: readonly Piece[];
  /** The text of the VMCOREINFO note, where the dump has one. */
  readonly vmcoreinfo: Uint8Array | undefined;
  /** What a capture says of itself (capture/note.ts). */
  readonly captureNote: Uint8Array | undefined;
  readonly warnings: readonly string[];
}

/** A core has one segment per RAM range, and one per hole that makedumpfile left out. */
const MAX_SEGMENTS = 1_000_000;
const MAX_NOTE_BYTES = 16 * 2 ** 20;
/** x86-64 and arm64 address at most 52 bits of physical memory. */
const MAX_PHYSICAL = 2 ** 52;

/** Whether a file's first bytes are an ELF file's. */
export function isElf(head: Uint8Array): boolean {
  return head.length >= EHDR.size && viewOf(head).getUint32(0, true) === ELF_MAGIC;
}

/** Reads the headers of a core. Throws `FormatError` where it is no core of a 64-bit machine that we know. */
export function readCore(file: DataFile): Core {
  const header = viewOf(file.read(0, EHDR.size));
  const format = `ELF core ${file.path}`;
  checkHeader(header, format);
  const offset = u53(header, EHDR.fields.phoff.offset);
  const entrySize = header.getUint16(EHDR.fields.phentsize.offset, true);
  const count = segmentCount(file, header, format);
  if (entrySize < PHDR.size)
    throw new FormatError(format, EHDR.fields.phentsize.offset, `a program header of ${entrySize} bytes`);
  if (!(offset + count * entrySize <= file.sizeBytes))
    throw new FormatError(
      format,
      EHDR.fields.phoff.offset,
      `${count} program headers at ${offset} lie past the file's end`,
    );
  const table = viewOf(file.read(offset, count * entrySize));
  const warnings: string[] = [];
  const loads: Piece[] = [];
  let vmcoreinfo: Uint8Array | undefined;
  let captureNote: Uint8Array | undefined;
  for (let at = 0; at + PHDR.size <= table.byteLength; at += entrySize) {
    const type = table.getUint32(at + PHDR.fields.type.offset, true);
    if (type === PT_NOTE) {
      const notes = readNotes(file, table, at);
      vmcoreinfo ??= findNote(notes, "VMCOREINFO", 0);
      captureNote ??= findNote(notes, CAPTURE_NOTE_NAME, CAPTURE_NOTE_TYPE);
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
      "The dump was cut short before its data.",
    );
  return { pieces: withoutOverlaps(loads), vmcoreinfo, captureNote, warnings };
}

function checkHeader(header: DataView, format: string): void {
  const refuse = (field: keyof typeof EHDR.fields, problem: string, hint = ""): never => {
    throw new FormatError(format, EHDR.fields[field].offset, problem, hint);
  };
  if (header.getUint8(EHDR.fields.class.offset) !== ELFCLASS64)
    refuse("class", "it is not a 64-bit ELF file");
  if (header.getUint8(EHDR.fields.data.offset) !== ELFDATA2LSB) refuse("data", "it is not little-endian");
  const type = header.getUint16(EHDR.fields.type.offset, true);
  if (type !== ET_CORE)
    refuse(
      "type",
      `it is not a core (type ${type})`,
      "A kernel's own ELF file goes to --vmlinux, not to --memory.",
    );
  const machine = header.getUint16(EHDR.fields.machine.offset, true);
  if (machine !== EM_X86_64 && machine !== EM_AARCH64)
    refuse("machine", `machine ${machine} is neither x86-64 (62) nor arm64 (183)`);
}

function segmentCount(file: DataFile, header: DataView, format: string): number {
  const count = header.getUint16(EHDR.fields.phnum.offset, true);
  if (count !== PN_XNUM) return count;
  const first = viewOf(file.read(u53(header, EHDR.fields.shoff.offset), SHDR.size));
  const real = first.byteLength < SHDR.size ? 0 : first.getUint32(SHDR.fields.info.offset, true);
  if (real >= PN_XNUM && real <= MAX_SEGMENTS) return real;
  throw new FormatError(
    format,
    EHDR.fields.phnum.offset,
    `section 0 says that there are ${real} program headers`,
  );
}

function loadOf(file: DataFile, table: DataView, at: number, warnings: string[]): Piece | undefined {
  const fileOffset = u53(table, at + PHDR.fields.offset.offset);
  const physical = u53(table, at + PHDR.fields.paddr.offset);
  const size = u53(table, at + PHDR.fields.filesz.offset);
  if (size === 0) return undefined;
  if (!(physical + size <= MAX_PHYSICAL)) {
    warnings.push(
      `${basename(file.path)}: a segment of ${size} bytes has no physical address and was left out.`,
    );
    return undefined;
  }
  const length = Math.min(size, file.sizeBytes - fileOffset);
  if (length < size)
    warnings.push(
      `${basename(file.path)}: ${size - Math.max(0, length)} bytes of the memory at 0x${physical.toString(16)} are missing, the file ends before them.`,
    );
  return length > 0 ? { fileOffset, physical, length } : undefined;
}

/**
 * Of memory that two segments hold, the first by address counts: a kdump vmcore has the kernel's image a second
 * time (fs/proc/vmcore.c, the segment that prepare_elf64_headers adds for the kernel's text).
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

function readNotes(file: DataFile, table: DataView, at: number): Uint8Array {
  const size = Math.min(u53(table, at + PHDR.fields.filesz.offset), MAX_NOTE_BYTES);
  return file.read(u53(table, at + PHDR.fields.offset.offset), size);
}

/** The content of the note with this name and type in a note segment or section. */
export function findNote(notes: Uint8Array, name: string, type: number): Uint8Array | undefined {
  const view = viewOf(notes);
  let at = 0;
  while (at + NHDR.size <= notes.length) {
    const nameSize = view.getUint32(at + NHDR.fields.namesz.offset, true);
    const size = view.getUint32(at + NHDR.fields.descsz.offset, true);
    const nameAt = at + NHDR.size;
    const contentAt = nameAt + Math.ceil(nameSize / 4) * 4;
    if (contentAt + size > notes.length) return undefined;
    const found = Buffer.from(notes.buffer, notes.byteOffset + nameAt, nameSize).toString("latin1");
    if (found === `${name}\0` && view.getUint32(at + NHDR.fields.type.offset, true) === type)
      return notes.subarray(contentAt, contentAt + size);
    at = contentAt + Math.ceil(size / 4) * 4;
  }
  return undefined;
}
