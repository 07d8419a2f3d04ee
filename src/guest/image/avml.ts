/**
 * Reads files of AVML with `--compress`. Each block of memory has a LiME header with a different magic number, followed by
 * its data in Snappy's framing format (Snappy's framing_format.txt) and the size of that data. The file is converted to a
 * LiME dump in a temporary file.
 */
import { u53, viewOf } from "../../uapi/layout.ts";
import type { ReadableFile } from "./file.ts";
import type { FormatReader } from "./format.ts";
import { type PageCodec, snappyCodec } from "./page-codec.ts";
import { RecordDecoder } from "./record-decoder.ts";
import { unpack } from "./unpack.ts";

/** @public Loaded by formats.ts. */
export const avml: FormatReader = {
  problem,
  open: (file, onUnpack) =>
    unpack(
      file,
      new AvmlDecoder(snappyCodec("convert the file first: `avml-convert`")),
      "avml-convert",
      onUnpack,
    ),
};

/** Magic and version, 4 bytes each; the first and the last address, 8 bytes each; 8 zeros. Little-endian. */
const HEADER_BYTES = 32;
const MAGIC = 0x4c4d_5641;
const VERSION = 2;
const FIRST_AT = 8;
const LAST_AT = 16;
const ZEROS_AT = 24;
const LIME_MAGIC = 0x4c69_4d45;
const LIME_VERSION = 1;
/** x86-64 and arm64 address at most 52 bits of physical memory. */
const MAX_PHYSICAL = 2 ** 52;
/** AVML splits ranges into blocks of this size. It omits the data of a block of zeros. */
const MAX_BLOCK_BYTES = 16 * 2 ** 20;

/** A chunk's type, and its length in 3 bytes. */
const CHUNK_HEAD_BYTES = 4;
const CHUNK_COMPRESSED = 0x00;
const CHUNK_STORED = 0x01;
/** Chunks of this type and above can be skipped. */
const CHUNK_SKIPPABLE = 0x80;
const CHUNK_STREAM = 0xff;
const CHECKSUM_BYTES = 4;
const MAX_CHUNK_DATA_BYTES = 65_536;
/** The stream's first chunk: "sNaPpY". */
const STREAM_CHUNK = "\xff\x06\0\0sNaPpY";
/** A stream is followed by its size. */
const TRAILER_BYTES = 8;

interface Header {
  readonly first: number;
  readonly length: number;
}

/** Parses the first `HEADER_BYTES` bytes, or returns why they are not a header. */
function headerOf(view: DataView): Header | string {
  if (view.byteLength < HEADER_BYTES) return "it ends within the header";
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(4, true) !== VERSION || u53(view, ZEROS_AT) !== 0)
    return "no AVML block starts there";
  const [first, last] = [u53(view, FIRST_AT), u53(view, LAST_AT)];
  if (!(first <= last && last < MAX_PHYSICAL)) return "the address range of a block is not valid";
  return { first, length: last - first + 1 };
}

/** Checks what follows the header: a stream or, if the block is all zeros, the next header or the end of the file. */
function problem(file: ReadableFile): string | undefined {
  const bytes = file.read(0, 2 * HEADER_BYTES);
  const header = headerOf(viewOf(bytes));
  if (typeof header === "string") return header;
  const following = bytes.subarray(HEADER_BYTES);
  if (Buffer.from(following).toString("latin1", 0, STREAM_CHUNK.length) === STREAM_CHUNK) return undefined;
  const next = headerOf(viewOf(following));
  const isZeros = header.length <= MAX_BLOCK_BYTES && (following.length === 0 || typeof next !== "string");
  return isZeros ? undefined : "no Snappy stream follows its header";
}

class AvmlDecoder extends RecordDecoder {
  readonly #decompress: PageCodec;
  /** The current block, and the number of its bytes that are still to be output. Undefined between blocks. */
  #block: Header | undefined;
  #left = 0;
  /** Whether the block's stream has started. */
  #hasStream = false;

  constructor(decompress: PageCodec) {
    super();
    this.#decompress = decompress;
    this.want(HEADER_BYTES);
  }

  protected get isBetweenRecords(): boolean {
    return this.#block === undefined;
  }

  protected override atEnd(held: Uint8Array<ArrayBuffer>): void {
    if (this.#block !== undefined && !this.#hasStream && held.length === 0) this.#zeros(this.#block);
  }

  protected parse(held: Uint8Array<ArrayBuffer>): void {
    const block = this.#block;
    if (block === undefined) this.#header(held);
    else if (this.#left === 0 && this.#hasStream) {
      this.#block = undefined;
      this.next(TRAILER_BYTES, HEADER_BYTES);
    } else if (!this.#hasStream && viewOf(held).getUint32(0, true) === MAGIC) {
      this.#zeros(block);
      this.want(HEADER_BYTES);
    } else this.#chunk(held);
  }

  #header(held: Uint8Array<ArrayBuffer>): void {
    const header = headerOf(viewOf(held));
    if (typeof header === "string") throw new Error(header);
    const lime = held.slice(0, HEADER_BYTES);
    viewOf(lime).setUint32(0, LIME_MAGIC, true);
    viewOf(lime).setUint32(4, LIME_VERSION, true);
    this.give(lime);
    this.#block = header;
    this.#left = header.length;
    this.#hasStream = false;
    this.next(HEADER_BYTES, CHUNK_HEAD_BYTES);
  }

  /** Outputs a block without data. Throws `Error` if it is larger than AVML's blocks. */
  #zeros({ length }: Header): void {
    if (length > MAX_BLOCK_BYTES) throw new Error(`a block of ${length} bytes has no data`);
    this.give(new Uint8Array(new ArrayBuffer(length)));
    this.#block = undefined;
  }

  #chunk(held: Uint8Array<ArrayBuffer>): void {
    const word = viewOf(held).getUint32(0, true);
    const [type, length] = [word & 0xff, word >>> 8];
    if (!this.#hasStream && type !== CHUNK_STREAM) throw new Error("no Snappy stream follows a header");
    const end = CHUNK_HEAD_BYTES + length;
    if (held.length < end) {
      this.want(end);
      return;
    }
    this.#hasStream = true;
    if (type === CHUNK_COMPRESSED || type === CHUNK_STORED) {
      const stored = held.slice(CHUNK_HEAD_BYTES + CHECKSUM_BYTES, end);
      const data = type === CHUNK_STORED ? stored : this.#decompressed(stored);
      if (data.length > this.#left) throw new Error("a block has more data than its header says");
      this.#left -= data.length;
      this.give(data);
    } else if (type < CHUNK_SKIPPABLE) throw new Error(`a chunk has the type ${type}`);
    this.next(end, this.#left === 0 ? TRAILER_BYTES : CHUNK_HEAD_BYTES);
  }

  #decompressed(stored: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    const data = new Uint8Array(new ArrayBuffer(lengthOf(stored)));
    if (!this.#decompress(stored, data)) throw new Error("libsnappy cannot decompress a chunk");
    return data;
  }
}

/** Returns the decompressed size of a chunk: a varint before the data (Snappy's format_description.txt, 1). */
function lengthOf(stored: Uint8Array): number {
  let length = 0;
  for (let at = 0; at < 3; at++) {
    const byte = stored[at] ?? 0;
    length += (byte & 0x7f) * 2 ** (7 * at);
    if (byte < 0x80) break;
  }
  if (length === 0 || length > MAX_CHUNK_DATA_BYTES)
    throw new Error(`the decompressed size of a chunk is ${length}`);
  return length;
}
