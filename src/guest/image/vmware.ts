/**
 * Reads VMware's suspended machines (.vmss) and snapshots (.vmsn). Such a file has groups of tags. The tags of the group
 * "memory" give the physical addresses of the memory, which is in the same file or in a .vmem file next to it. The format is
 * the one that crash's vmware_vmss.c reads, and for 32-bit states the one of Volatility's layers/vmware.py. All numbers are
 * little-endian.
 */
import { FormatError } from "../../errors.ts";
import { escapeText } from "../../text.ts";
import { u53, viewOf } from "../../uapi/layout.ts";
import { type DataFile, ImageFile, type ReadableFile } from "./file.ts";
import type { Contents, FormatReader, Piece } from "./format.ts";

/** @public Loaded by formats.ts. */
export const vmware: FormatReader = { problem, open };

/** Magic, version, number of groups. Each group has a name, the offset of its tags and their size. */
const HEADER_BYTES = 12;
const GROUP_COUNT_AT = 8;
const GROUP_BYTES = 80;
const GROUP_NAME_BYTES = 64;
const GROUP_POSITION_AT = 64;
const MAX_GROUPS = 4096;
const MAX_TAGS = 100_000;
/** A machine has three: below the PCI hole, above it, and ROMs. */
const MAX_REGIONS = 64;
const PAGE_BYTES = 4096;
/** x86-64 addresses at most 52 bits of physical memory. */
const MAX_PHYSICAL = 2 ** 52;

/** A tag's first byte has the sizes of its value and indices, the second the length of its name. */
const VALUE_BYTES_MASK = 0x3f;
const INDEX_COUNT_SHIFT = 6;
/** Value sizes that mark a block: this one is compressed, 0x3f is not. */
const COMPRESSED_BLOCK = 0x3e;
/** The lowest digit of the magic number is the version. In version 0, the sizes of a block have 4 bytes instead of 8. */
const VERSION_MASK = 0x0f;
/** Name, three indices, two block sizes, and the size of the padding. */
const MAX_TAG_HEAD_BYTES = 2 + 255 + 3 * 4 + 2 * 8 + 2;

interface Tag {
  readonly name: string;
  readonly index: number;
  /** Offset of the value, or of the block's data. */
  readonly at: number;
  readonly length: number;
  readonly isCompressed: boolean;
  readonly value: number;
}

const nameOf = (file: ReadableFile): string => `VMware state ${file.path}`;

function problem(file: ReadableFile): string | undefined {
  try {
    readState(file);
    return undefined;
  } catch (error) {
    if (error instanceof FormatError) return error.problem;
    throw error;
  }
}

/** Throws `FormatError` if the file is damaged or compressed, or if the file with the memory is missing. */
function open(file: ReadableFile): Contents {
  const state = readState(file);
  const { memory } = state;
  if (memory?.isCompressed === true)
    throw new FormatError(nameOf(file), memory.at, "its memory is compressed, which is not supported");
  if (memory !== undefined)
    return contentsOf(state, file.path, memory.at, Math.min(memory.length, file.sizeBytes - memory.at));
  const path = file.path.replace(STATE_NAME, ".vmem");
  if (path === file.path || !isFile(path))
    throw new FormatError(
      nameOf(file),
      0,
      "its memory is in another file",
      "Put the .vmem file next to it, with the same name.",
    );
  const vmem = new ImageFile(path);
  return { ...contentsOf(state, path, 0, vmem.sizeBytes), memory: vmem };
}

const STATE_NAME = /\.vms[sn]$/;
const MEMORY_NAME = /\.vmem$/;

/**
 * Returns the layout of a .vmem file from the .vmss or .vmsn file next to it, or undefined if there is none. Throws
 * `FormatError` if that file is damaged.
 * @public Loaded by formats.ts.
 */
export function contentsOfVmem(file: DataFile): Contents | undefined {
  if (!MEMORY_NAME.test(file.path)) return undefined;
  for (const suffix of [".vmss", ".vmsn"]) {
    const path = file.path.replace(MEMORY_NAME, suffix);
    if (!isFile(path)) continue;
    using stateFile = new ImageFile(path);
    const state = readState(stateFile);
    if (state.memory === undefined) return contentsOf(state, file.path, 0, file.sizeBytes);
  }
  return undefined;
}

const isFile = (path: string): boolean =>
  process.getBuiltinModule("node:fs").statSync(path, { throwIfNoEntry: false })?.isFile() === true;

interface State {
  /** The block that holds the memory; undefined if the memory is in another file. */
  readonly memory: Tag | undefined;
  /** Regions in bytes; `fileOffset` is relative to the start of the memory. */
  readonly regions: readonly Piece[];
}

function contentsOf(state: State, path: string, start: number, length: number): Contents {
  const format = "VMware memory";
  // Without regions, the memory is a single range from address 0.
  const whole = { fileOffset: 0, physical: 0, length: state.memory?.length ?? length };
  const regions = state.regions.length === 0 ? [whole] : state.regions;
  const pieces = regions
    .map((region) => ({
      ...region,
      fileOffset: start + region.fileOffset,
      length: Math.min(region.length, length - region.fileOffset),
    }))
    .filter((piece) => piece.length > 0);
  const missing =
    regions.reduce((sum, each) => sum + each.length, 0) - pieces.reduce((sum, each) => sum + each.length, 0);
  const warnings = missing > 0 ? [`${path} is truncated: ${missing} bytes of memory are missing.`] : [];
  return { format, pieces, warnings };
}

/** Throws `FormatError` if the file is not a VMware state. */
function readState(file: ReadableFile): State {
  const header = viewOf(file.read(0, HEADER_BYTES));
  const error = (at: number, why: string): FormatError => new FormatError(nameOf(file), at, why);
  if (header.byteLength < HEADER_BYTES) throw error(0, "it ends within the header");
  const count = header.getUint32(GROUP_COUNT_AT, true);
  const groups = viewOf(file.read(HEADER_BYTES, count * GROUP_BYTES));
  if (count === 0 || count > MAX_GROUPS || groups.byteLength < count * GROUP_BYTES)
    throw error(GROUP_COUNT_AT, `it has ${count} groups`);
  let position: number | undefined;
  for (let at = 0; at < groups.byteLength; at += GROUP_BYTES) {
    const name = cString(groups, at);
    const where = u53(groups, at + GROUP_POSITION_AT);
    if (!/^[\w.-]+$/.test(name) || where >= file.sizeBytes)
      throw error(HEADER_BYTES + at, `its group ${JSON.stringify(escapeText(name))} is not valid`);
    if (name === "memory") position = where;
  }
  if (position === undefined) throw error(HEADER_BYTES, "it has no memory group");
  const sizeBytes = (header.getUint8(0) & VERSION_MASK) === 0 ? 4 : 8;
  return stateOf([...tagsFrom(file, position, sizeBytes)], error);
}

function cString(view: DataView, at: number): string {
  const bytes = Buffer.from(view.buffer, view.byteOffset + at, GROUP_NAME_BYTES);
  const end = bytes.indexOf(0);
  return bytes.toString("latin1", 0, end < 0 ? GROUP_NAME_BYTES : end);
}

/**
 * Yields the tags of a group, which ends with a tag of zeros. `sizeBytes` is the size of a block's size fields. Throws
 * `FormatError` if the file ends first.
 */
function* tagsFrom(file: ReadableFile, start: number, sizeBytes: 4 | 8): Generator<Tag> {
  let at = start;
  for (let count = 0; count < MAX_TAGS; count++) {
    const bytes = file.read(at, MAX_TAG_HEAD_BYTES);
    const view = viewOf(bytes);
    const [sizes = 0, nameBytes = 0] = bytes;
    if (bytes.length >= 2 && sizes === 0 && nameBytes === 0) return;
    const valueBytes = sizes & VALUE_BYTES_MASK;
    const isBlock = valueBytes >= COMPRESSED_BLOCK;
    const indexAt = 2 + nameBytes;
    const valueAt = indexAt + 4 * (sizes >>> INDEX_COUNT_SHIFT);
    const headBytes = valueAt + (isBlock ? 2 * sizeBytes + 2 : valueBytes);
    if (nameBytes === 0 || bytes.length < headBytes)
      throw new FormatError(nameOf(file), at, "its list of tags is not terminated");
    const padding = isBlock ? view.getUint16(valueAt + 2 * sizeBytes, true) : 0;
    const length = isBlock ? sizeAt(view, valueAt, sizeBytes) : valueBytes;
    const tag = {
      name: Buffer.from(bytes.subarray(2, indexAt)).toString("latin1"),
      index: valueAt === indexAt ? 0 : view.getUint32(indexAt, true),
      at: at + (isBlock ? headBytes + padding : valueAt),
      length,
      isCompressed: valueBytes === COMPRESSED_BLOCK,
      value: isBlock || valueBytes < 4 ? 0 : view.getUint32(valueAt, true),
    };
    yield tag;
    at = tag.at + length;
    // The memory is truncated, and no tag follows it.
    if (isBlock && at > file.sizeBytes) return;
  }
  throw new FormatError(nameOf(file), at, `it has more than ${MAX_TAGS} tags`);
}

const sizeAt = (view: DataView, at: number, sizeBytes: 4 | 8): number =>
  sizeBytes === 4 ? view.getUint32(at, true) : u53(view, at);

function stateOf(tags: readonly Tag[], error: (at: number, why: string) => FormatError): State {
  const find = (name: string, index = 0): Tag | undefined =>
    tags.find((tag) => tag.name === name && tag.index === index);
  const memory = find("Memory");
  const count = find("regionsCount")?.value ?? 0;
  if (count > MAX_REGIONS) throw error(0, `its memory has ${count} regions`);
  const regions = Array.from({ length: count }, (_, index) => {
    const [page, ppn, size] = ["regionPageNum", "regionPPN", "regionSize"].map((name) => find(name, index));
    if (page === undefined || ppn === undefined || size === undefined || size.value === 0)
      throw error(0, `its region ${index} is not complete`);
    const region = {
      fileOffset: page.value * PAGE_BYTES,
      physical: ppn.value * PAGE_BYTES,
      length: size.value * PAGE_BYTES,
    };
    if (region.physical + region.length > MAX_PHYSICAL) throw error(0, `its region ${index} is too large`);
    return region;
  });
  return { memory: memory !== undefined && memory.length > 0 ? memory : undefined, regions };
}
