/**
 * Reads Firecracker's snapshots: a state file, and next to it the guest's memory without headers. A state file is a magic
 * number, a version, the state and a CRC (src/vmm/src/snapshot/mod.rs; in older releases src/snapshot/src/lib.rs, with
 * versionize). The state is bincode with integers of fixed size. Its layout differs between releases, so the table of memory
 * regions is found by its contents. The newest releases write all of it with bitcode, and the file does not start with the
 * magic number: such a state is not recognized.
 */
import { FormatError } from "../../errors.ts";
import { escapeText } from "../../text.ts";
import { u53, viewOf } from "../../uapi/layout.ts";
import { ImageFile, type ReadableFile } from "./file.ts";
import type { Contents, FormatReader, Piece } from "./format.ts";

/** @public Loaded by formats.ts. */
export const firecracker: FormatReader = { problem, open };

/** Firecracker's own limit is 10 MiB (mod.rs, DESERIALIZATION_BYTES_LIMIT). */
const MAX_STATE_BYTES = 16 * 2 ** 20;
/** Bytes 2 to 5 of the magic number: "8664" on x86-64, "AAAA" on arm64. The first two bytes are the format's version. */
const ARM64_AT = 2;
const ARM64 = 0xaaaa;
/** Version of the format with versionize. Its version of the state is a u16, otherwise it is a string. */
const VERSIONIZE = 1;
const MAGIC_BYTES = 8;
/** A semantic version. */
const MAX_VERSION_BYTES = 64;
const CRC_BYTES = 8;
const MIB = 2 ** 20;
const PAGE_BYTES = 4096;

/** Address of the first region: src/vmm/src/arch/aarch64/layout.rs, DRAM_MEM_START. 0 on x86-64. */
const ARM64_RAM = 2 ** 31;
/** x86-64 has at most three regions of RAM (arch_memory_regions), and one that can be plugged. */
const MAX_REGIONS = 16;
/** Limit on the slots of a region that can be plugged. */
const MAX_SLOTS = 65_536;
/** Limit on the slots that are read in one search. */
const MAX_SLOTS_READ = 2 ** 20;
/** x86-64 and arm64 address at most 52 bits of physical memory. */
const MAX_PHYSICAL = 2 ** 52;
/** Limit on entries of the folder in which the memory is searched. */
const MAX_ENTRIES = 10_000;

/** The memory regions: `pieces` of a memory file of `sizeBytes`. */
interface Table {
  readonly sizeBytes: number;
  readonly pieces: readonly Piece[];
}

const nameOf = (file: ReadableFile): string => `Firecracker state ${file.path}`;

function problem(file: ReadableFile): string | undefined {
  if (file.sizeBytes > MAX_STATE_BYTES) return `it has more than ${MAX_STATE_BYTES} bytes`;
  // The CRC of bytes that are followed by their own CRC is 0.
  const crc = crc64(file.read(0, file.sizeBytes));
  return crc.hi === 0 && crc.lo === 0 ? undefined : "its checksum does not match";
}

/** Throws `FormatError` if the state has no table of memory regions, or if no file next to it has their size. */
function open(file: ReadableFile): Contents {
  const table = tableIn(file);
  const path = memoryNextTo(file, table.sizeBytes);
  return { format: "Firecracker snapshot", memory: new ImageFile(path), pieces: table.pieces, warnings: [] };
}

/** Finds the table. Throws `FormatError` if there is none, or if several differ. */
function tableIn(file: ReadableFile): Table {
  const state = viewOf(file.read(0, Math.min(file.sizeBytes, MAX_STATE_BYTES)));
  const error = (at: number, why: string): FormatError => new FormatError(nameOf(file), at, why, HINT);
  if (state.byteLength < MAGIC_BYTES + CRC_BYTES) throw error(0, "it ends within the header");
  const end = state.byteLength - CRC_BYTES;
  const start = startOfState(state);
  if (start + 8 > end) throw error(MAGIC_BYTES, "it ends within its version");
  // `MicrovmState` starts with `VmInfo`, which starts with `mem_size_mib` (src/vmm/src/persist.rs).
  const ramBytes = u53(state, start) * MIB;
  if (!(ramBytes > 0 && ramBytes < MAX_PHYSICAL)) throw error(start, "its memory size is not valid");
  const base = state.getUint16(ARM64_AT, true) === ARM64 ? ARM64_RAM : 0;
  const search: Search = { state, end, base, ramBytes, slotsLeft: MAX_SLOTS_READ };
  const found = new Map<string, Table>();
  for (let at = start + 8; at + 24 <= end; at++) {
    const count = state.getUint32(at, true);
    if (count === 0 || count > MAX_REGIONS || state.getUint32(at + 8, true) !== base) continue;
    for (const read of LAYOUTS) {
      const table = tableAt(search, at, read);
      if (table !== undefined) found.set(JSON.stringify(table.pieces), table);
    }
  }
  const [table] = found.values();
  if (table === undefined || found.size > 1)
    throw error(
      start,
      found.size > 1
        ? `it has ${found.size} tables of memory regions`
        : `it has no table of memory regions of ${ramBytes} bytes`,
    );
  return table;
}

const HINT =
  "Give the memory file of the snapshot instead: its layout is then taken from the kernel's list of RAM.";

function startOfState(state: DataView): number {
  if (state.getUint16(0, true) === VERSIONIZE) return MAGIC_BYTES + 2;
  const length = u53(state, MAGIC_BYTES);
  return length <= MAX_VERSION_BYTES ? MAGIC_BYTES + 8 + length : state.byteLength;
}

interface Region {
  readonly physical: number;
  readonly length: number;
  /** Offset in the memory file, if the table has it. */
  readonly fileOffset?: number;
  /** False if the size of the machine's RAM does not include this region. */
  readonly isRam: boolean;
  /** Slots of equal size; false: the slot is not in the memory file. */
  readonly plugged: readonly boolean[];
  /** Offset after the region. */
  readonly next: number;
}

interface Search {
  readonly state: DataView;
  /** Offset after the state. */
  readonly end: number;
  /** Address of the first region. */
  readonly base: number;
  readonly ramBytes: number;
  slotsLeft: number;
}

type ReadRegion = (search: Search, at: number) => Region | undefined;

/** `GuestMemoryRegionState` in its three forms (src/vmm/src/vstate/memory.rs; src/vmm/src/memory_snapshot.rs). */
const LAYOUTS: readonly ReadRegion[] = [
  // base_address: u64, size: usize, offset: u64
  ({ state, end }, at) =>
    at + 24 > end ? undefined : { ...plain(state, at), fileOffset: u53(state, at + 16), next: at + 24 },
  // base_address: u64, size: usize
  ({ state, end }, at) => (at + 16 > end ? undefined : { ...plain(state, at), next: at + 16 }),
  // base_address: u64, size: usize, region_type: 0 (Dram) or 1 (Hotpluggable), plugged: Vec<bool>
  (search, at) => {
    const { state, end } = search;
    if (at + 28 > end) return undefined;
    const [type, count] = [state.getUint32(at + 16, true), u53(state, at + 20)];
    if (type > 1 || !(count > 0 && count <= MAX_SLOTS) || at + 28 + count > end) return undefined;
    search.slotsLeft -= count;
    if (search.slotsLeft < 0) return undefined;
    const plugged = Array.from({ length: count }, (_, slot) => state.getUint8(at + 28 + slot));
    if (plugged.some((each) => each > 1)) return undefined;
    return {
      ...plain(state, at),
      isRam: type === 0,
      plugged: plugged.map((each) => each === 1),
      next: at + 28 + count,
    };
  },
];

const plain = (state: DataView, at: number): Omit<Region, "next"> => ({
  physical: u53(state, at),
  length: u53(state, at + 8),
  isRam: true,
  plugged: [true],
});

/** Reads a `Vec` of regions: its length as u64, then the regions. Returns undefined if it is not such a table. */
function tableAt(search: Search, start: number, read: ReadRegion): Table | undefined {
  const { state, base } = search;
  const count = u53(state, start);
  if (count > MAX_REGIONS || u53(state, start + 8) !== base) return undefined;
  const pieces: Piece[] = [];
  let [at, fileOffset, ram, above] = [start + 8, 0, 0, base];
  for (let index = 0; index < count; index++) {
    const region = read(search, at);
    if (region === undefined) return undefined;
    const { physical, length, plugged } = region;
    const slotBytes = length / plugged.length;
    const isValid =
      physical >= above &&
      physical % PAGE_BYTES === 0 &&
      length > 0 &&
      length % MIB === 0 &&
      slotBytes % PAGE_BYTES === 0 &&
      physical + length <= MAX_PHYSICAL &&
      (region.fileOffset ?? fileOffset) === fileOffset;
    if (!isValid) return undefined;
    for (const [slot, isPlugged] of plugged.entries())
      if (isPlugged) addPiece(pieces, fileOffset + slot * slotBytes, physical + slot * slotBytes, slotBytes);
    at = region.next;
    fileOffset += length;
    above = physical + length;
    if (region.isRam) ram += length;
  }
  return ram === search.ramBytes ? { sizeBytes: fileOffset, pieces } : undefined;
}

/** Adds a piece, or extends the last one. */
function addPiece(pieces: Piece[], fileOffset: number, physical: number, length: number): void {
  const last = pieces.at(-1);
  if (
    last !== undefined &&
    last.physical + last.length === physical &&
    last.fileOffset + last.length === fileOffset
  )
    pieces[pieces.length - 1] = { ...last, length: last.length + length };
  else pieces.push({ fileOffset, physical, length });
}

/** Finds the memory by its size, because users choose both names. Throws `FormatError` if no or several files have that size. */
function memoryNextTo(file: ReadableFile, sizeBytes: number): string {
  const { readdirSync, statSync } = process.getBuiltinModule("node:fs");
  const { dirname, join } = process.getBuiltinModule("node:path");
  const folder = dirname(file.path);
  const found = readdirSync(folder)
    .slice(0, MAX_ENTRIES)
    .map((name) => join(folder, name))
    .filter((path) => {
      const stat = statSync(path, { throwIfNoEntry: false });
      return stat?.isFile() === true && stat.size === sizeBytes;
    });
  const [path] = found;
  if (path !== undefined && found.length === 1) return path;
  const names = found.map((each) => escapeText(each)).join(", ");
  throw new FormatError(
    nameOf(file),
    0,
    found.length === 0
      ? `its memory, a file of ${sizeBytes} bytes, is not in the same folder`
      : `several files in its folder have the size of its memory: ${names}`,
    "Put the state and its memory file into a folder of their own.",
  );
}

/** The CRC-64 of Jones, reflected, from 0: the crc64 package, which Firecracker uses (src/vmm/src/snapshot/crc.rs). */
const POLYNOMIAL = 0x95ac_9329_ac4b_c9b5n;
let crcTable: Uint32Array | undefined;

/** The remainders of all bytes: low word, high word. */
function makeTable(): Uint32Array {
  const table = new Uint32Array(512);
  for (let byte = 0; byte < 256; byte++) {
    let crc = BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = (crc >> 1n) ^ ((crc & 1n) === 0n ? 0n : POLYNOMIAL);
    table[2 * byte] = Number(crc & 0xffff_ffffn);
    table[2 * byte + 1] = Number(crc >> 32n);
  }
  return table;
}

/** Returns the CRC as two words. */
export function crc64(bytes: Uint8Array): { readonly hi: number; readonly lo: number } {
  crcTable ??= makeTable();
  let [hi, lo] = [0, 0];
  for (const byte of bytes) {
    const entry = 2 * ((lo ^ byte) & 0xff);
    lo = ((lo >>> 8) | (hi << 24)) ^ crcTable[entry]!;
    hi = (hi >>> 8) ^ crcTable[entry + 1]!;
  }
  return { hi: hi >>> 0, lo: lo >>> 0 };
}
