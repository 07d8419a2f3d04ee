/** Writes an ELF core (uapi/linux/elf.h) with selected pages of a machine's memory: the format of a capture. */
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
import type { PhysicalMemory } from "../image/physical.ts";
import type { PageRun } from "./pages.ts";

export interface CoreContents {
  /** `uname -m`. */
  readonly machine: "x86_64" | "aarch64";
  readonly notes: readonly { readonly name: string; readonly type: number; readonly bytes: Uint8Array }[];
  readonly runs: readonly PageRun[];
  /** Virtual address of physical address 0 in the direct map. If undefined, segments have no virtual addresses. */
  readonly directBase: bigint | undefined;
  /**
   * The kernel's image. Its pages get a second segment with these addresses, as in the kernel's own dumps
   * (kernel/kexec_file.c, crash_prepare_elf64_headers). drgn reads the top page table through it.
   */
  readonly image: MappedRange | undefined;
}

export interface MappedRange {
  readonly physical: number;
  readonly length: number;
  readonly virtual: bigint;
}

/** Segments are page-aligned, so that the file can be mapped. */
const ALIGN = 4096;
const ELF_VERSION = 1;
const PF_R = 4;

/** The size and the contents of the file. */
export interface CoreFile {
  readonly sizeBytes: number;
  pieces(): Generator<Uint8Array>;
}

/** Computes the file's layout. All runs must be in `memory`. */
export function coreFile(memory: PhysicalMemory, contents: CoreContents): CoreFile {
  const { runs, notes } = contents;
  const aliases = imageRuns(runs, contents.image);
  const count = 1 + aliases.length + runs.length;
  const isMany = count >= PN_XNUM;
  const noteBytes = encodeNotes(notes);
  const headerBytes = EHDR.size + PHDR.size * count + (isMany ? SHDR.size : 0);
  const notesAt = Math.ceil(headerBytes / 8) * 8;
  const dataAt = Math.ceil((notesAt + noteBytes.length) / ALIGN) * ALIGN;
  const head = new Uint8Array(dataAt);
  const view = new DataView(head.buffer);
  writeEhdr(view, contents.machine, count);
  writePhdr(view, 0, PT_NOTE, { offset: notesAt, physical: 0, virtual: 0n, length: noteBytes.length });
  head.set(noteBytes, notesAt);
  let offset = dataAt;
  const offsets = runs.map(({ length }) => {
    offset += length;
    return offset - length;
  });
  let index = 1;
  for (const { run, physical, length, virtual } of aliases) {
    const at = offsets[run]! + physical - runs[run]!.physical;
    writePhdr(view, index++, PT_LOAD, { offset: at, physical, virtual, length });
  }
  for (const [run, { physical, length }] of runs.entries()) {
    const virtual = contents.directBase === undefined ? 0n : contents.directBase + BigInt(physical);
    writePhdr(view, index++, PT_LOAD, { offset: offsets[run]!, physical, virtual, length });
  }
  return {
    sizeBytes: offset,
    *pieces() {
      yield head;
      for (const { physical, length } of runs) {
        const bytes = new Uint8Array(length);
        memory.copyOut(physical, bytes);
        yield bytes;
      }
    },
  };
}

/** Returns the parts of the runs that are in the kernel's image. */
function imageRuns(
  runs: readonly PageRun[],
  image: MappedRange | undefined,
): (MappedRange & { readonly run: number })[] {
  if (image === undefined) return [];
  return runs.flatMap(({ physical, length }, run) => {
    const from = Math.max(physical, image.physical);
    const to = Math.min(physical + length, image.physical + image.length);
    const virtual = image.virtual + BigInt(from - image.physical);
    return from < to ? [{ run, physical: from, length: to - from, virtual }] : [];
  });
}

function writeEhdr(view: DataView, machine: CoreContents["machine"], count: number): void {
  const { fields } = EHDR;
  view.setUint32(fields.magic.offset, ELF_MAGIC, true);
  view.setUint8(fields.class.offset, ELFCLASS64);
  view.setUint8(fields.data.offset, ELFDATA2LSB);
  view.setUint8(fields.identVersion.offset, ELF_VERSION);
  view.setUint16(fields.type.offset, ET_CORE, true);
  view.setUint16(fields.machine.offset, machine === "x86_64" ? EM_X86_64 : EM_AARCH64, true);
  view.setUint32(fields.version.offset, ELF_VERSION, true);
  view.setBigUint64(fields.phoff.offset, BigInt(EHDR.size), true);
  view.setUint16(fields.ehsize.offset, EHDR.size, true);
  view.setUint16(fields.phentsize.offset, PHDR.size, true);
  view.setUint16(fields.phnum.offset, Math.min(count, PN_XNUM), true);
  if (count < PN_XNUM) return;
  const sectionAt = EHDR.size + PHDR.size * count;
  view.setBigUint64(fields.shoff.offset, BigInt(sectionAt), true);
  view.setUint16(fields.shentsize.offset, SHDR.size, true);
  view.setUint16(fields.shnum.offset, 1, true);
  view.setUint32(sectionAt + SHDR.fields.info.offset, count, true);
}

interface Segment {
  readonly offset: number;
  readonly physical: number;
  readonly virtual: bigint;
  readonly length: number;
}

function writePhdr(view: DataView, index: number, type: number, segment: Segment): void {
  const at = EHDR.size + PHDR.size * index;
  const { fields } = PHDR;
  view.setUint32(at + fields.type.offset, type, true);
  view.setUint32(at + fields.flags.offset, type === PT_LOAD ? PF_R : 0, true);
  view.setBigUint64(at + fields.offset.offset, BigInt(segment.offset), true);
  view.setBigUint64(at + fields.vaddr.offset, BigInt.asUintN(64, segment.virtual), true);
  view.setBigUint64(at + fields.paddr.offset, BigInt(segment.physical), true);
  view.setBigUint64(at + fields.filesz.offset, BigInt(segment.length), true);
  view.setBigUint64(at + fields.memsz.offset, BigInt(type === PT_LOAD ? segment.length : 0), true);
}

function encodeNotes(notes: CoreContents["notes"]): Uint8Array {
  const padded = (size: number): number => Math.ceil(size / 4) * 4;
  const sizes = notes.map(
    ({ name, bytes }) => NHDR.size + padded(Buffer.byteLength(name) + 1) + padded(bytes.length),
  );
  const out = new Uint8Array(sizes.reduce((sum, size) => sum + size, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const [index, { name, type, bytes }] of notes.entries()) {
    const nameSize = Buffer.byteLength(name) + 1;
    view.setUint32(at + NHDR.fields.namesz.offset, nameSize, true);
    view.setUint32(at + NHDR.fields.descsz.offset, bytes.length, true);
    view.setUint32(at + NHDR.fields.type.offset, type, true);
    out.set(Buffer.from(name), at + NHDR.size);
    out.set(bytes, at + NHDR.size + padded(nameSize));
    at += sizes[index]!;
  }
  return out;
}
