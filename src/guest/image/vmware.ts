/**
 * VMware's suspended machines (.vmss) and snapshots (.vmsn): groups of tags, of which those of the group "memory" say
 * where the memory belongs, which is in the file itself or in a .vmem beside it (the format as crash's vmware_vmss.c reads
 * it). All numbers are little-endian.
 */
import { FormatError } from "../../errors.ts";
import { escapeText } from "../../text.ts";
import { u53, viewOf } from "../../uapi/layout.ts";
import { type DataFile, ImageFile, type ReadableFile } from "./file.ts";
import type { Contents, FormatReader, Piece } from "./format.ts";

/** @public Loaded by formats.ts. */
export const vmware: FormatReader = { problem, open };

/** Magic, version, number of groups; then the groups: a name, where its tags are, and how long they are. */
const HEADER_BYTES = 12;
const GROUP_COUNT_AT = 8;
const GROUP_BYTES = 80;
const GROUP_NAME_BYTES = 64;
const GROUP_POSITION_AT = 64;
const MAX_GROUPS = 4096;
const MAX_TAGS = 100_000;
/** A machine has three: below the hole, above it, and the ROMs' part. */
const MAX_REGIONS = 64;
const PAGE_BYTES = 4096;
/** x86-64 addresses at most 52 bits of physical memory. */
const MAX_PHYSICAL = 2 ** 52;

/** A tag: sizes of value and indices in its first byte, the length of its name in the second. */
const VALUE_BYTES_MASK = 0x3f;
const INDEX_COUNT_SHIFT = 6;
/** What stands for the size of a value where it is a block; 0x3f: one that is not compressed. */
const COMPRESSED_BLOCK = 0x3e;
/** Name, three indices, two sizes of a block, and the length of its padding. */
const MAX_TAG_HEAD_BYTES = 2 + 255 + 3 * 4 + 2 * 8 + 2;

interface Tag {
  readonly name: string;
  readonly index: number;
  /** Of its value, or of a block's bytes. */
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

/** Throws `FormatError` where it is damaged, or compressed, or where the memory is in a file that is not there. */
function open(file: ReadableFile): Contents {
  const state = readState(file);
  const { memory } = state;
  if (memory?.isCompressed === true)
    throw new FormatError(nameOf(file), memory.at, "its memory is compressed, which is not read");
  if (memory !== undefined)
    return contentsOf(state, file.path, memory.at, Math.min(memory.length, file.sizeBytes - memory.at));
  const path = file.path.replace(STATE_NAME, ".vmem");
  if (path === file.path || !isFile(path))
    throw new FormatError(
      nameOf(file),
      0,
      "its memory is in another file",
      "Put the .vmem beside it, with the same name.",
    );
  const vmem = new ImageFile(path);
  return { ...contentsOf(state, path, 0, vmem.sizeBytes), memory: vmem };
}

const STATE_NAME = /\.vms[sn]$/;
const MEMORY_NAME = /\.vmem$/;

/**
 * What a .vmss or .vmsn says about the .vmem beside it; undefined: none is there, or it does not know. Throws
 * `FormatError` where it is damaged.
 * @public Loaded by formats.ts.
 */
export function besideVmem(file: DataFile): Contents | undefined {
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
  /** The block that holds the memory; undefined: another file does. */
  readonly memory: Tag | undefined;
  /** In bytes; `fileOffset` counts from where the memory begins. */
  readonly regions: readonly Piece[];
}

function contentsOf(state: State, path: string, start: number, length: number): Contents {
  const format = "VMware memory";
  // Without regions it is one: below the hole, from address 0 on.
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
  const warnings = missing > 0 ? [`${path} ends early: ${missing} bytes of memory are missing.`] : [];
  return { format, pieces, warnings };
}

/** Throws `FormatError` where it is none. */
function readState(file: ReadableFile): State {
  const header = viewOf(file.read(0, HEADER_BYTES));
  const refuse = (at: number, why: string): FormatError => new FormatError(nameOf(file), at, why);
  if (header.byteLength < HEADER_BYTES) throw refuse(0, "it ends within the header");
  const count = header.getUint32(GROUP_COUNT_AT, true);
  const groups = viewOf(file.read(HEADER_BYTES, count * GROUP_BYTES));
  if (count === 0 || count > MAX_GROUPS || groups.byteLength < count * GROUP_BYTES)
    throw refuse(GROUP_COUNT_AT, `it has ${count} groups`);
  let position: number | undefined;
  for (let at = 0; at < groups.byteLength; at += GROUP_BYTES) {
    const name = cString(groups, at);
    const where = u53(groups, at + GROUP_POSITION_AT);
    if (!/^[\w.-]+$/.test(name) || where >= file.sizeBytes)
      throw refuse(HEADER_BYTES + at, `its group ${JSON.stringify(escapeText(name))} is none`);
    if (name === "memory") position = where;
  }
  if (position === undefined) throw refuse(HEADER_BYTES, "it has no group of memory");
  return stateOf([...tagsFrom(file, position)], refuse);
}

function cString(view: DataView, at: number): string {
  const bytes = Buffer.from(view.buffer, view.byteOffset + at, GROUP_NAME_BYTES);
  const end = bytes.indexOf(0);
  return bytes.toString("latin1", 0, end < 0 ? GROUP_NAME_BYTES : end);
}

/** The tags of a group, up to one of zeros. Throws `FormatError` where the file ends before. */
function* tagsFrom(file: ReadableFile, start: number): Generator<Tag> {
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
    const headBytes = valueAt + (isBlock ? 18 : valueBytes);
    if (nameBytes === 0 || bytes.length < headBytes)
      throw new FormatError(nameOf(file), at, "its tags do not end");
    const padding = isBlock ? view.getUint16(valueAt + 16, true) : 0;
    const length = isBlock ? u53(view, valueAt) : valueBytes;
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
    // The memory is cut short, and with it what follows.
    if (isBlock && at > file.sizeBytes) return;
  }
  throw new FormatError(nameOf(file), at, `it has more than ${MAX_TAGS} tags`);
}

function stateOf(tags: readonly Tag[], refuse: (at: number, why: string) => FormatError): State {
  const find = (name: string, index = 0): Tag | undefined =>
    tags.find((tag) => tag.name === name && tag.index === index);
  const memory = find("Memory");
  const count = find("regionsCount")?.value ?? 0;
  if (count > MAX_REGIONS) throw refuse(0, `its memory has ${count} regions`);
  const regions = Array.from({ length: count }, (_, index) => {
    const [page, ppn, size] = ["regionPageNum", "regionPPN", "regionSize"].map((name) => find(name, index));
    if (page === undefined || ppn === undefined || size === undefined || size.value === 0)
      throw refuse(0, `its region ${index} is not complete`);
    const region = {
      fileOffset: page.value * PAGE_BYTES,
      physical: ppn.value * PAGE_BYTES,
      length: size.value * PAGE_BYTES,
    };
    if (region.physical + region.length > MAX_PHYSICAL) throw refuse(0, `its region ${index} is too large`);
    return region;
  });
  return { memory: memory !== undefined && memory.length > 0 ? memory : undefined, regions };
}
