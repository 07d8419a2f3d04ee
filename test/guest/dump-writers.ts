/** Writes memory dumps of formats whose tools are not run here, following the formats' descriptions. */
import { KtstrError } from "../../src/errors.ts";
import { sharedLibrary } from "../../src/ffi.ts";

const PAGE = 4096;

/** A range of memory from a physical address on. */
export interface Range {
  readonly first: number;
  readonly bytes: Uint8Array;
}

const u16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
};
const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const padded = (bytes: Uint8Array, to: number): Buffer =>
  Buffer.concat([bytes, Buffer.alloc((to - (bytes.length % to)) % to)]);

/** Writes LiME's header, or AVML's, which has another magic number and version. */
export const rangeHeader = (magic: string, version: number, first: number, bytes: number): Buffer =>
  Buffer.concat([Buffer.from(magic), u32(version), u64(first), u64(first + bytes - 1), u64(0)]);

/** Returns libsnappy's compressor; undefined if it is not installed. */
export function snappy(): ((bytes: Uint8Array<ArrayBuffer>) => Buffer) | undefined {
  try {
    const { snappy_compress } = sharedLibrary(
      ["libsnappy.so.1"],
      { snappy_compress: { args: ["ptr", "u64", "ptr", "ptr"], returns: "i32" } },
      (why) => new KtstrError(why),
    );
    return (bytes) => {
      const into = new Uint8Array(new ArrayBuffer(32 + bytes.length + Math.ceil(bytes.length / 6)));
      const length = BigUint64Array.of(BigInt(into.length));
      if (snappy_compress(bytes, bytes.length, into, length) !== 0) throw new Error("snappy_compress");
      return Buffer.from(into.subarray(0, Number(length[0])));
    };
  } catch {
    return undefined;
  }
}

const AVML_BLOCK_BYTES = 2 ** 24;
const SNAPPY_CHUNK_BYTES = 65_536;

const chunk = (type: number, contents: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([type]), u32(contents.length).subarray(0, 3), contents]);

/**
 * The part of a block of zeros that AVML writes (its src/image.rs, copy_if_nonzero): nothing in most versions, the header without data
 * in some.
 */
export type AvmlZeros = "nothing" | "header";

/** Cuts a range into AVML's blocks. `data` returns the bytes after the header of a block that is not all zeros. */
function* blocksOf(
  { first, bytes }: Range,
  header: (first: number, length: number) => Buffer,
  zeros: AvmlZeros,
  data: (block: Uint8Array<ArrayBuffer>) => Iterable<Uint8Array>,
): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += AVML_BLOCK_BYTES) {
    const block = Uint8Array.from(bytes.subarray(at, at + AVML_BLOCK_BYTES));
    const isZeros = Buffer.compare(block, new Uint8Array(block.length)) === 0;
    if (!isZeros || zeros === "header") yield header(first + at, block.length);
    if (!isZeros) yield* data(block);
  }
}

/** Returns AVML's blocks of a range, without `--compress`: LiME's format. */
export const avmlPlainBlocks = (range: Range, zeros: AvmlZeros): Iterable<Uint8Array> =>
  blocksOf(
    range,
    (first, length) => rangeHeader("EMiL", 1, first, length),
    zeros,
    (block) => [block],
  );

/** Returns AVML's blocks of a range, with `--compress`. Checksums are zeros, because they are not read. */
export const avmlBlocks = (
  range: Range,
  compress: (bytes: Uint8Array<ArrayBuffer>) => Buffer,
  zeros: AvmlZeros = "header",
): Iterable<Uint8Array> =>
  blocksOf(
    range,
    (first, length) => rangeHeader("AVML", 2, first, length),
    zeros,
    (block) => {
      const stream = snappyStream(block, compress);
      return [stream, u64(stream.length)];
    },
  );

/** Snappy's framing_format.txt. */
function snappyStream(
  block: Uint8Array<ArrayBuffer>,
  compress: (bytes: Uint8Array<ArrayBuffer>) => Buffer,
): Buffer {
  const chunks = [chunk(0xff, Buffer.from("sNaPpY"))];
  for (let within = 0; within < block.length; within += SNAPPY_CHUNK_BYTES) {
    const data = block.slice(within, within + SNAPPY_CHUNK_BYTES);
    const compressed = compress(data);
    // Data that compresses to seven eighths or more is stored.
    chunks.push(
      compressed.length < (data.length * 7) / 8
        ? chunk(0, Buffer.concat([u32(0), compressed]))
        : chunk(1, Buffer.concat([u32(0), data])),
    );
  }
  return Buffer.concat(chunks);
}

interface Tag {
  readonly name: string;
  readonly indices?: readonly number[];
  readonly value: Buffer;
}

const tagBytes = ({ name, indices = [], value }: Tag): Buffer =>
  Buffer.concat([
    Buffer.from([(indices.length << 6) | value.length, name.length]),
    Buffer.from(name),
    ...indices.map(u32),
    value,
  ]);

/** The head of a block of memory; `paddingBytes` bring its data to a page. */
function blockHead(
  bytes: number,
  { isCompressed = false, is32Bit = false }: VmwareOptions,
  paddingBytes: number,
): Buffer {
  const name = "Memory";
  const size = (is32Bit ? u32 : u64)(bytes);
  return Buffer.concat([
    Buffer.from([0x80 | (isCompressed ? 0x3e : 0x3f), name.length]),
    Buffer.from(name),
    ...[u32(0), u32(0), size, size, u16(paddingBytes), Buffer.alloc(paddingBytes)],
  ]);
}

export interface VmwareOptions {
  readonly ranges: readonly { readonly first: number; readonly length: number }[];
  /** Whether the memory follows in the same file. */
  readonly hasMemory: boolean;
  readonly isCompressed?: boolean;
  /** The format of old versions: block sizes have 4 bytes. */
  readonly is32Bit?: boolean;
  /** Empty if the machine's memory is one piece. */
  readonly withoutRegions?: boolean;
}

/** Writes a .vmss up to the first byte of memory, or all of it if the memory is in another file. */
export function vmwareState(options: VmwareOptions): Buffer {
  const { ranges, hasMemory, is32Bit = false, withoutRegions = false } = options;
  let page = 0;
  const regions = ranges.flatMap(({ first, length }, index) => {
    const tags = [
      { name: "regionPPN", indices: [index], value: u32(first / PAGE) },
      { name: "regionPageNum", indices: [index], value: u32(page) },
      { name: "regionSize", indices: [index], value: u32(length / PAGE) },
    ];
    page += length / PAGE;
    return tags;
  });
  const count = { name: "regionsCount", value: u32(ranges.length) };
  const described = [
    ...(withoutRegions ? [] : [count, ...regions]),
    { name: "align_mask", value: u32(0xffff) },
  ];
  const groups = ["Checkpoint", "memory"];
  const checkpoint = Buffer.concat([tagBytes({ name: "fileversion", value: u32(8) }), u16(0)]);
  const start = 12 + 80 * groups.length;
  const where = [start, start + checkpoint.length];
  const table = groups.map((name, index) =>
    Buffer.concat([Buffer.from(name.padEnd(64, "\0")), u64(where[index]!), u64(0)]),
  );
  const head = Buffer.concat([
    u32(is32Bit ? 0xbed2bed0 : 0xbed2bed2),
    u32(8),
    u32(groups.length),
    ...table,
    checkpoint,
    ...described.map(tagBytes),
  ]);
  if (!hasMemory) return Buffer.concat([head, u16(0)]);
  const bare = head.length + blockHead(page * PAGE, options, 0).length;
  return Buffer.concat([head, blockHead(page * PAGE, options, (PAGE - (bare % PAGE)) % PAGE)]);
}

/** End of a group's tags, after the memory. */
export const VMWARE_END: Buffer = u16(0);

/** Writes a note as VirtualBox does: everything padded to eight bytes, and the length of the name without its NUL. */
const vboxNote = (type: number, name: string, contents: Uint8Array): Buffer => {
  const data = padded(contents, 8);
  return Buffer.concat([
    u32(name.length),
    u32(data.length),
    u32(type),
    padded(Buffer.from(`${name}\0`), 8),
    data,
  ]);
};

/**
 * Writes the part of a core of `VBoxManage debugvm dumpvmcore` before the memory (VirtualBox's DBGFCoreWrite.cpp): no
 * EI_VERSION, no virtual addresses, and a segment without data for a device's range. The ranges follow.
 */
export function vboxCoreHead(
  ranges: readonly { readonly first: number; readonly length: number }[],
  device: { readonly first: number; readonly length: number },
): Buffer {
  const notes = Buffer.concat([
    vboxNote(
      0xb00,
      "VBCORE",
      Buffer.concat([u32(0xc01ac0de), u32(0x10000), u32(24), u32(0x07000000), u32(1), u32(1)]),
    ),
    vboxNote(0xb01, "VBCPU", Buffer.alloc(1000, 0x5a)),
  ]);
  const elf = Buffer.alloc(64);
  elf.write("\x7fELF\x02\x01", "latin1");
  elf.writeUInt16LE(4, 16); // ET_CORE
  elf.writeUInt16LE(62, 18); // EM_X86_64
  elf.writeUInt32LE(1, 20);
  elf.writeBigUInt64LE(64n, 32);
  for (const [at, value] of [64, 56, ranges.length + 2, 64].entries()) elf.writeUInt16LE(value, 52 + 2 * at);
  const segment = (type: number, at: number, physical: number, inFile: number, inMemory: number): Buffer =>
    Buffer.concat([u32(type), u32(4), ...[at, 0, physical, inFile, inMemory, 0].map(u64)]);
  const notesAt = 64 + 56 * (ranges.length + 2);
  let at = notesAt + notes.length;
  const loads = ranges.map(({ first, length }) => {
    at += length;
    return segment(1, at - length, first, length, length);
  });
  const hole = segment(1, at, device.first, 0, device.length);
  return Buffer.concat([elf, segment(4, notesAt, 0, notes.length, notes.length), ...loads, hole, notes]);
}
