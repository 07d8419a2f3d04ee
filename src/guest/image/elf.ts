/** Reads the section headers and the sections of an ELF file. */
import { FormatError } from "../../errors.ts";
import { EHDR, ELF_MAGIC, ELFCLASS64, ELFDATA2LSB, SHDR, SHT_NOBITS } from "../../uapi/elf.ts";
import { u53, viewOf } from "../../uapi/layout.ts";
import type { DataFile } from "./file.ts";

export interface Section {
  readonly name: string;
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  /** `sh_link`: the index of a related section. For a symbol table, its string table. */
  readonly link: number;
}

/** A vmlinux has about 80 sections. */
const MAX_SECTIONS = 65_535;
/** Limit on a section that is read whole. A vmlinux with DWARF has about 20 MB of symbol strings. */
const MAX_SECTION_BYTES = 512 * 2 ** 20;

export class ElfFile {
  /** The file's name for messages: "vmlinux /boot/vmlinux". */
  readonly format: string;
  /** `e_machine`. */
  readonly machine: number;
  readonly sections: readonly Section[];
  readonly #file: DataFile;
  readonly #littleEndian: boolean;

  /**
   * Reads the headers. Throws `FormatError` if they are not those of a 64-bit ELF file, or if the file is big-endian and
   * `anyByteOrder` is not set.
   */
  constructor(
    file: DataFile,
    format: string,
    { anyByteOrder = false }: { readonly anyByteOrder?: boolean } = {},
  ) {
    this.#file = file;
    this.format = format;
    const head = file.read(0, EHDR.size);
    const header = viewOf(head);
    if (head.length < EHDR.size || header.getUint32(0, true) !== ELF_MAGIC)
      throw new FormatError(
        format,
        0,
        "it is not an ELF file",
        "A compressed kernel (vmlinuz, bzImage) is not an ELF file.",
      );
    this.#littleEndian = header.getUint8(EHDR.fields.data.offset) === ELFDATA2LSB;
    if (header.getUint8(EHDR.fields.class.offset) !== ELFCLASS64)
      throw new FormatError(format, 4, "it is not 64-bit");
    if (!this.#littleEndian && !anyByteOrder) throw new FormatError(format, 5, "it is not little-endian");
    this.machine = header.getUint16(EHDR.fields.machine.offset, this.#littleEndian);
    this.sections = this.#readSections(header);
  }

  section(name: string): Section | undefined {
    return this.sections.find((section) => section.name === name);
  }

  /** Returns a copy of a section's bytes. Throws `FormatError` if it extends past the end of the file or is too large. */
  contents(section: Section): Uint8Array<ArrayBuffer> {
    const { name, type, offset, size } = section;
    if (type === SHT_NOBITS) return new Uint8Array(0);
    if (!(offset + size <= this.#file.sizeBytes))
      throw new FormatError(
        this.format,
        offset,
        `section ${name} of ${size} bytes extends past the end of the file`,
      );
    if (size > MAX_SECTION_BYTES)
      throw new FormatError(
        this.format,
        offset,
        `section ${name} has ${size} bytes, more than the limit of ${MAX_SECTION_BYTES}`,
      );
    return this.#file.read(offset, size);
  }

  #readSections(header: DataView): Section[] {
    const little = this.#littleEndian;
    const offset = u53(header, EHDR.fields.shoff.offset, little);
    const entrySize = header.getUint16(EHDR.fields.shentsize.offset, little);
    const count = header.getUint16(EHDR.fields.shnum.offset, little);
    const namesIndex = header.getUint16(EHDR.fields.shstrndx.offset, little);
    if (count === 0 || count > MAX_SECTIONS || entrySize < SHDR.size)
      throw new FormatError(
        this.format,
        EHDR.fields.shnum.offset,
        `it has ${count} section headers of ${entrySize} bytes`,
      );
    if (!(offset + count * entrySize <= this.#file.sizeBytes))
      throw new FormatError(
        this.format,
        EHDR.fields.shoff.offset,
        "the section headers extend past the end of the file",
      );
    const table = viewOf(this.#file.read(offset, count * entrySize));
    const raw = Array.from({ length: count }, (_, index) => readSection(table, index * entrySize, little));
    const names = raw[namesIndex];
    const text =
      names === undefined ? Buffer.alloc(0) : Buffer.from(this.contents({ ...names, name: "names" }));
    return raw.map(({ nameAt, ...section }) => {
      const end = text.indexOf(0, nameAt);
      return { ...section, name: end < nameAt ? "" : text.toString("latin1", nameAt, end) };
    });
  }
}

function readSection(
  table: DataView,
  at: number,
  little: boolean,
): Omit<Section, "name"> & { readonly nameAt: number } {
  return {
    nameAt: table.getUint32(at + SHDR.fields.name.offset, little),
    type: table.getUint32(at + SHDR.fields.type.offset, little),
    offset: u53(table, at + SHDR.fields.offset.offset, little),
    size: u53(table, at + SHDR.fields.size.offset, little),
    link: table.getUint32(at + SHDR.fields.link.offset, little),
  };
}
