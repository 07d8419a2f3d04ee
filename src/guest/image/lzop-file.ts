/**
 * Reads files compressed by lzop: a header, then blocks that are compressed separately with LZO1X (lzop's src/lzop.c,
 * write_header and lzo_compress). All numbers are big-endian.
 */
import { viewOf } from "../../uapi/layout.ts";
import type { ReadableFile } from "./file.ts";
import type { FormatReader } from "./format.ts";
import { lzoCodec, type PageCodec } from "./page-codec.ts";
import { RecordDecoder } from "./record-decoder.ts";
import { unpack } from "./unpack.ts";

/** @public Loaded by formats.ts. */
export const lzopFile: FormatReader = {
  problem,
  open: (file, onUnpack) =>
    unpack(file, new LzopDecoder(lzoCodec("decompress the file first: `lzop -d`")), "lzop", onUnpack),
};

const MAGIC = "\x89LZO\0\r\n\x1a\n";
const MAGIC_BYTES = 9;
/** Size up to the length of the name: magic, three versions, method, level, flags, mode, two words of time. */
const FIXED_BYTES = 34;
const METHOD_AT = 15;
const FLAGS_AT = 17;
const NAME_LENGTH_AT = 33;
const CHECKSUM_BYTES = 4;
/** Methods: LZO1X-1, LZO1X-1(15), LZO1X-999. One function decompresses all of them. */
const MAX_METHOD = 3;
/** F_*: the checksums of a block, and the optional parts of a header. */
const ADLER32_OF_DATA = 0x1;
const ADLER32_OF_BLOCK = 0x2;
const CRC32_OF_DATA = 0x100;
const CRC32_OF_BLOCK = 0x200;
const CRC32_OF_HEADER = 0x1000;
/** A filter, an extra field, and several files in one: lzop itself does not write them. */
const UNSUPPORTED_FLAGS = 0x40 | 0x400 | 0x800;
/** lzop's limit on the size of a block. */
const MAX_BLOCK_BYTES = 64 * 2 ** 20;
const MAX_BLOCK_HEAD_BYTES = 8 + 4 * 4;
const MAX_BLOCKS = 100_000_000;

interface Header {
  readonly length: number;
  readonly flags: number;
}

const lengthOfHeader = (fixed: Uint8Array): number => FIXED_BYTES + fixed[NAME_LENGTH_AT]! + CHECKSUM_BYTES;

/** Parses a header of `lengthOfHeader` bytes, or returns why it is not valid. */
function headerOf(bytes: Uint8Array<ArrayBuffer>): Header | string {
  const view = viewOf(bytes);
  if (Buffer.from(bytes).toString("latin1", 0, MAGIC_BYTES) !== MAGIC) return "no lzop header starts there";
  const flags = view.getUint32(FLAGS_AT);
  const method = view.getUint8(METHOD_AT);
  if (method === 0 || method > MAX_METHOD) return `its method is ${method}`;
  if ((flags & UNSUPPORTED_FLAGS) !== 0) return `its flags are 0x${flags.toString(16)}`;
  const length = bytes.length;
  const summed = bytes.subarray(MAGIC_BYTES, length - CHECKSUM_BYTES);
  const checksum = (flags & CRC32_OF_HEADER) === 0 ? Bun.hash.adler32(summed) : Bun.hash.crc32(summed);
  if (checksum !== view.getUint32(length - CHECKSUM_BYTES)) return "the checksum of its header is wrong";
  return { length, flags };
}

interface Block {
  /** Decompressed size; 0 marks the end of the blocks. */
  readonly dataBytes: number;
  readonly storedBytes: number;
  readonly headBytes: number;
}

/**
 * Parses a block's header from its first `MAX_BLOCK_HEAD_BYTES` bytes or fewer. Returns undefined if more bytes are needed,
 * or a clause if the header is not valid.
 */
function blockOf(bytes: Uint8Array<ArrayBuffer>, flags: number): Block | string | undefined {
  const view = viewOf(bytes);
  if (bytes.length < 4) return undefined;
  const dataBytes = view.getUint32(0);
  if (dataBytes === 0) return { dataBytes, storedBytes: 0, headBytes: 4 };
  if (bytes.length < 8) return undefined;
  const storedBytes = view.getUint32(4);
  if (dataBytes > MAX_BLOCK_BYTES || storedBytes === 0 || storedBytes > dataBytes)
    return `a block of ${dataBytes} bytes has ${storedBytes} compressed bytes`;
  const has = (flag: number): number => ((flags & flag) === 0 ? 0 : 4);
  const ofData = has(ADLER32_OF_DATA) + has(CRC32_OF_DATA);
  const ofBlock = storedBytes === dataBytes ? 0 : has(ADLER32_OF_BLOCK) + has(CRC32_OF_BLOCK);
  return { dataBytes, storedBytes, headBytes: 8 + ofData + ofBlock };
}

/** Checks that blocks follow one another to the end mark, and files to the end. The last may be truncated. */
function problem(file: ReadableFile): string | undefined {
  let at = 0;
  while (at < file.sizeBytes) {
    const fixed = file.read(at, FIXED_BYTES);
    if (at > 0 && fixed.every((byte) => byte === 0)) return undefined;
    if (fixed.length < FIXED_BYTES) return "it ends within the header";
    const header = headerOf(file.read(at, lengthOfHeader(fixed)));
    if (typeof header === "string") return header;
    at += header.length;
    for (let count = 0; ; count++) {
      const block = blockOf(file.read(at, MAX_BLOCK_HEAD_BYTES), header.flags);
      if (typeof block === "string") return block;
      if (count === MAX_BLOCKS) return `it has more than ${MAX_BLOCKS} blocks`;
      if (block === undefined) return count === 0 ? "it ends within its first block" : undefined;
      at += block.headBytes + block.storedBytes;
      if (block.dataBytes === 0) break;
      if (at > file.sizeBytes) return count === 0 ? "it ends within its first block" : undefined;
    }
  }
  return undefined;
}

class LzopDecoder extends RecordDecoder {
  readonly #decompress: PageCodec;
  /** The current file's flags; undefined between files. */
  #flags: number | undefined;

  constructor(decompress: PageCodec) {
    super();
    this.#decompress = decompress;
    this.want(FIXED_BYTES);
  }

  protected get isBetweenRecords(): boolean {
    return this.#flags === undefined;
  }

  protected parse(held: Uint8Array<ArrayBuffer>): void {
    if (this.#flags === undefined) this.#header(held);
    else this.#block(held, this.#flags);
  }

  #header(held: Uint8Array<ArrayBuffer>): void {
    const length = lengthOfHeader(held);
    if (held.length < length) {
      this.want(length);
      return;
    }
    const header = headerOf(held);
    if (typeof header === "string") throw new Error(header);
    this.#flags = header.flags;
    this.next(length, 4);
  }

  #block(held: Uint8Array<ArrayBuffer>, flags: number): void {
    const block = blockOf(held, flags);
    if (typeof block === "string") throw new Error(block);
    if (block?.dataBytes === 0) {
      this.#flags = undefined;
      this.next(block.headBytes, FIXED_BYTES);
      return;
    }
    const length = block === undefined ? 8 : block.headBytes + block.storedBytes;
    if (block === undefined || held.length < length) {
      this.want(length);
      return;
    }
    this.give(this.#data(held, block, flags));
    this.next(length, 4);
  }

  #data(held: Uint8Array<ArrayBuffer>, block: Block, flags: number): Uint8Array<ArrayBuffer> {
    const stored = held.slice(block.headBytes);
    const data =
      block.storedBytes === block.dataBytes ? stored : new Uint8Array(new ArrayBuffer(block.dataBytes));
    if (data !== stored && !this.#decompress(stored, data))
      throw new Error("liblzo2 cannot decompress a block");
    const isWrong = (flags & ADLER32_OF_DATA) !== 0 && Bun.hash.adler32(data) !== viewOf(held).getUint32(8);
    if (isWrong) throw new Error("the checksum of a block is wrong");
    return data;
  }
}
