/** The structs of little-endian ELF64 that memory dumps and vmlinux files use (uapi/linux/elf.h). */
import { type Layout, layout, u8, u16, u32, u64 } from "./layout.ts";

/** "\x7fELF", read as a little-endian u32. */
export const ELF_MAGIC = 0x464c_457f;
export const ELFCLASS64 = 2;
export const ELFDATA2LSB = 1;
export const ET_CORE = 4;
export const EM_X86_64 = 62;
export const EM_AARCH64 = 183;
export const PT_LOAD = 1;
export const PT_NOTE = 4;
export const PF_X = 1;
export const PF_R = 4;
/** Value of `e_phnum` if the number of program headers does not fit: it is `sh_info` of section 0. */
export const PN_XNUM = 0xffff;
export const SHT_SYMTAB = 2;
export const SHT_NOBITS = 8;
export const NT_PRSTATUS = 1;
export const NT_GNU_BUILD_ID = 3;

export const EHDR: Layout<
  | "magic"
  | "class"
  | "data"
  | "identVersion"
  | "type"
  | "machine"
  | "version"
  | "phoff"
  | "shoff"
  | "ehsize"
  | "phentsize"
  | "phnum"
  | "shentsize"
  | "shnum"
  | "shstrndx"
> = layout("Elf64_Ehdr", 64, {
  magic: u32(0),
  class: u8(4),
  data: u8(5),
  identVersion: u8(6),
  type: u16(16),
  machine: u16(18),
  version: u32(20),
  phoff: u64(32),
  shoff: u64(40),
  ehsize: u16(52),
  phentsize: u16(54),
  phnum: u16(56),
  shentsize: u16(58),
  shnum: u16(60),
  shstrndx: u16(62),
});

export const PHDR: Layout<"type" | "flags" | "offset" | "vaddr" | "paddr" | "filesz" | "memsz" | "align"> =
  layout("Elf64_Phdr", 56, {
    type: u32(0),
    flags: u32(4),
    offset: u64(8),
    vaddr: u64(16),
    paddr: u64(24),
    filesz: u64(32),
    memsz: u64(40),
    align: u64(48),
  });

export const SHDR: Layout<"name" | "type" | "addr" | "offset" | "size" | "link" | "info"> = layout(
  "Elf64_Shdr",
  64,
  {
    name: u32(0),
    type: u32(4),
    addr: u64(16),
    offset: u64(24),
    size: u64(32),
    link: u32(40),
    info: u32(44),
  },
);

export const SYM: Layout<"name" | "info" | "shndx" | "value" | "size"> = layout("Elf64_Sym", 24, {
  name: u32(0),
  info: u8(4),
  shndx: u16(6),
  value: u64(8),
  size: u64(16),
});

/** `symbol` is the upper half of `r_info`. */
export const RELA: Layout<"offset" | "type" | "symbol" | "addend"> = layout("Elf64_Rela", 24, {
  offset: u64(0),
  type: u32(8),
  symbol: u32(12),
  addend: u64(16),
});

/** A note's header. The name and the descriptor follow, each padded to 4 bytes. */
export const NHDR: Layout<"namesz" | "descsz" | "type"> = layout("Elf64_Nhdr", 12, {
  namesz: u32(0),
  descsz: u32(4),
  type: u32(8),
});
