/**
 * Patches an executable of Bun so that it starts without /proc.
 *
 * JavaScriptCore calls `pthread_getattr_np` for the bounds of the main thread's stack. glibc reads them from /proc/self/maps
 * (nptl/pthread_getattr_np.c). If that fails, JavaScriptCore aborts before any JavaScript runs. The patch appends a function
 * (`stack-code.ts`) that first calls glibc's function and, if that fails, computes the bounds from the auxiliary vector and the
 * limit of the stack's size. Two places of the file change:
 *
 * - The program header PT_NOTE, which nothing reads at run time, becomes PT_LOAD for the appended bytes.
 * - The first instruction of the PLT entry of `pthread_getattr_np` becomes a jump to the function. The rest of the entry, which
 *   finds glibc's function at the first call, stays.
 */
import { open } from "node:fs/promises";
import {
  EHDR,
  EM_AARCH64,
  EM_X86_64,
  PF_R,
  PF_X,
  PHDR,
  PT_LOAD,
  PT_NOTE,
  RELA,
  SHDR,
  SYM,
} from "../src/uapi/elf.ts";
import { cutAtNul, type Layout, readU53, viewOf } from "../src/uapi/layout.ts";
import { jumpTo, stackCode, TARGETS, type Targets } from "./stack-code.ts";

const GETATTR = "pthread_getattr_np";
/** Entries of the PLT have this size on both architectures. */
const PLT_ENTRY_BYTES = 16;
/** Alignment of the code in the file. */
const CODE_ALIGN = 16;

/** Addresses of the added code, and of the PLT entry that jumps to it. */
export interface Patched {
  readonly machine: "x86_64" | "aarch64";
  readonly address: number;
  readonly entry: number;
  readonly targets: Targets;
}

/** Patches the file in place. If the file does not have the layout of Bun's executables, throws an error and does not change it. */
export async function patchStack(path: string): Promise<Patched> {
  await using file = await open(path, "r+");
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    const bytes = new Uint8Array(length);
    const { bytesRead } = await file.read(bytes, 0, length, offset);
    if (bytesRead < length) throw new Error(`${path}: ends before byte ${offset + length}`);
    return bytes;
  };
  const header = await read(0, EHDR.size);
  const machineId = viewOf(header).getUint16(EHDR.fields.machine.offset, true);
  const machine = machineId === EM_X86_64 ? "x86_64" : machineId === EM_AARCH64 ? "aarch64" : undefined;
  if (machine === undefined) throw new Error(`${path}: machine ${machineId} is neither x86-64 nor arm64`);

  const sections = await readSections(header, read);
  const section = async (name: string): Promise<{ bytes: Uint8Array; address: number; offset: number }> => {
    const found = sections.get(name);
    if (found === undefined) throw new Error(`${path}: there is no section ${name}`);
    return { bytes: await read(found.offset, found.size), address: found.address, offset: found.offset };
  };
  const plt = await section(".plt");
  const slots = slotsByName(
    (await section(".rela.plt")).bytes,
    (await section(".dynsym")).bytes,
    (await section(".dynstr")).bytes,
  );
  const entryOf = (name: string): { slot: number; entry: number } => {
    const slot = slots.get(name);
    if (slot === undefined) throw new Error(`${path}: ${name} has no slot in .got.plt`);
    for (let at = 0; at + PLT_ENTRY_BYTES <= plt.bytes.length; at += PLT_ENTRY_BYTES)
      if (
        slotOfEntry(machine, viewOf(plt.bytes.subarray(at, at + PLT_ENTRY_BYTES)), plt.address + at) === slot
      )
        return { slot, entry: plt.address + at };
    throw new Error(`${path}: no entry of .plt jumps through the slot of ${name}`);
  };

  const { slot, entry } = entryOf(GETATTR);
  const targets = Object.fromEntries(
    TARGETS.map((name) => [name, name === "slot" ? slot : entryOf(name).entry]),
  ) as Targets;
  const { size: fileBytes } = await file.stat();
  const offset = Math.ceil(fileBytes / CODE_ALIGN) * CODE_ALIGN;
  const segment = await placeSegment(path, header, read, offset);
  const { bytes } = stackCode(machine, segment.address, targets);
  const { filesz, memsz } = PHDR.fields;
  for (const { offset: at } of [filesz, memsz])
    viewOf(segment.header).setBigUint64(at, BigInt(bytes.length), true);
  const jump = jumpTo(machine, entry, segment.address);
  await file.write(bytes, 0, bytes.length, offset);
  await file.write(segment.header, 0, PHDR.size, segment.headerOffset);
  await file.write(jump, 0, jump.length, plt.offset + entry - plt.address);
  return { machine, address: segment.address, entry, targets };
}

type Read = (offset: number, length: number) => Promise<Uint8Array>;

async function readSections(
  header: Uint8Array,
  read: Read,
): Promise<Map<string, { offset: number; size: number; address: number }>> {
  const view = viewOf(header);
  const count = view.getUint16(EHDR.fields.shnum.offset, true);
  const table = await read(readU53(view, EHDR.fields.shoff.offset), count * SHDR.size);
  const all = rows(table, SHDR).map((row) => ({
    name: row.getUint32(SHDR.fields.name.offset, true),
    address: readU53(row, SHDR.fields.addr.offset),
    offset: readU53(row, SHDR.fields.offset.offset),
    size: readU53(row, SHDR.fields.size.offset),
  }));
  const { offset, size } = all[view.getUint16(EHDR.fields.shstrndx.offset, true)]!;
  const names = await read(offset, size);
  return new Map(all.map((one) => [stringAt(names, one.name), one]));
}

/** Returns addresses in .got.plt by the names of the functions that they will point to. */
function slotsByName(relocations: Uint8Array, symbols: Uint8Array, names: Uint8Array): Map<string, number> {
  return new Map(
    rows(relocations, RELA).map((row) => {
      const symbol = row.getUint32(RELA.fields.symbol.offset, true) * SYM.size;
      const name = stringAt(names, viewOf(symbols).getUint32(symbol + SYM.fields.name.offset, true));
      return [name, readU53(row, RELA.fields.offset.offset)];
    }),
  );
}

/** Returns the slot that a PLT entry jumps through, or undefined for other code, such as the header of the PLT. */
function slotOfEntry(machine: "x86_64" | "aarch64", code: DataView, address: number): number | undefined {
  if (machine === "x86_64") {
    // jmp *slot(%rip)
    return code.getUint16(0) === 0xff25 ? address + 6 + code.getInt32(2, true) : undefined;
  }
  // adrp x16, page; ldr x17, [x16, low]
  const [adrp, ldr] = [code.getUint32(0, true), code.getUint32(4, true)];
  if ((adrp & 0x9f00_001f) >>> 0 !== 0x9000_0010 || (ldr & 0xffc0_03ff) >>> 0 !== 0xf940_0211)
    return undefined;
  const pages = (((adrp << 8) >> 13) << 2) | ((adrp >>> 29) & 3);
  return (Math.floor(address / 4096) + pages) * 4096 + ((ldr >>> 10) & 0xfff) * 8;
}

/**
 * Returns a PT_LOAD header for bytes at `offset` of the file, and the offset of the PT_NOTE header that it replaces. The
 * segment's address is above all others, because loaders require ascending addresses.
 */
async function placeSegment(
  path: string,
  elfHeader: Uint8Array,
  read: Read,
  offset: number,
): Promise<{ header: Uint8Array; headerOffset: number; address: number }> {
  const view = viewOf(elfHeader);
  const tableOffset = readU53(view, EHDR.fields.phoff.offset);
  const table = await read(tableOffset, view.getUint16(EHDR.fields.phnum.offset, true) * PHDR.size);
  const all = rows(table, PHDR);
  const type = (row: DataView): number => row.getUint32(PHDR.fields.type.offset, true);
  const note = all.findLastIndex((row) => type(row) === PT_NOTE);
  const lastLoad = all.findLastIndex((row) => type(row) === PT_LOAD);
  if (note < lastLoad || lastLoad < 0) throw new Error(`${path}: no PT_NOTE follows the PT_LOAD headers`);
  const loads = all.filter((row) => type(row) === PT_LOAD);
  const { vaddr, memsz, align } = PHDR.fields;
  const end = Math.max(...loads.map((row) => readU53(row, vaddr.offset) + readU53(row, memsz.offset)));
  const alignment = Math.max(...loads.map((row) => readU53(row, align.offset)));
  const address = Math.ceil(end / alignment) * alignment + (offset % alignment);
  const header = new Uint8Array(PHDR.size);
  const made = viewOf(header);
  made.setUint32(PHDR.fields.type.offset, PT_LOAD, true);
  made.setUint32(PHDR.fields.flags.offset, PF_R | PF_X, true);
  made.setBigUint64(PHDR.fields.offset.offset, BigInt(offset), true);
  for (const { offset: at } of [vaddr, PHDR.fields.paddr]) made.setBigUint64(at, BigInt(address), true);
  made.setBigUint64(align.offset, BigInt(alignment), true);
  return { header, headerOffset: tableOffset + note * PHDR.size, address };
}

function rows(table: Uint8Array, { size }: Layout): DataView[] {
  return Array.from({ length: Math.floor(table.length / size) }, (_, index) =>
    viewOf(table.subarray(index * size, (index + 1) * size)),
  );
}

const stringAt = (strings: Uint8Array, offset: number): string =>
  new TextDecoder().decode(cutAtNul(strings.subarray(offset)));
