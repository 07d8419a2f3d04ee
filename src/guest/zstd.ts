/** Files that zstd compressed (RFC 8878). */
import { readFileSync } from "node:fs";
import { headOf, isEmbedded } from "./head.ts";

/** The first four bytes of a frame (3.1.1), little-endian. */
const ZSTD_MAGIC = 0xfd2f_b528;
const MAX_DECOMPRESSED_BYTES = 2 ** 32 - 1;

/** By a file's first word. */
export const isZstd = (magic: number): boolean => magic === ZSTD_MAGIC;

/** What the bytes hold. Throws `RangeError` where that is 4 GiB or more, `Error` where they are damaged. */
export function decompress(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const size = contentSize(bytes);
  if (size !== undefined && size > MAX_DECOMPRESSED_BYTES) throw new RangeError("too large");
  if (size !== undefined) return ownBytes(Bun.zstdDecompressSync(bytes));
  // Loading node:zlib takes longer than decompressing a capture; only it can bound what does not tell its size.
  const { zstdDecompressSync } = process.getBuiltinModule("node:zlib");
  return ownBytes(zstdDecompressSync(bytes, { maxOutputLength: MAX_DECOMPRESSED_BYTES }));
}

/**
 * Begins to decompress a file on another thread, while this one loads what reads it. undefined: it is not compressed, or
 * not as it should be, which whoever opens it then finds out.
 */
export async function decompressAhead(path: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    if (!isEmbedded(path) && !isZstd(headOf(path).magic)) return undefined;
    const bytes = readFileSync(path);
    const size = contentSize(bytes);
    if (size === undefined || size > MAX_DECOMPRESSED_BYTES) return undefined;
    return ownBytes(await Bun.zstdDecompress(bytes));
  } catch {
    return undefined;
  }
}

/** Not a Buffer, whose slices are no copies. */
function ownBytes({ buffer, byteOffset, length }: Buffer): Uint8Array<ArrayBuffer> {
  return new Uint8Array(buffer as ArrayBuffer, byteOffset, length);
}

/** 3.1.1.1: what the first frame's header says; undefined: it does not. */
function contentSize(bytes: Uint8Array): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 18) return undefined;
  const descriptor = view.getUint8(4);
  const isSingle = (descriptor & 0x20) !== 0;
  const at = 5 + (isSingle ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]!;
  switch (descriptor >>> 6) {
    case 0:
      return isSingle ? view.getUint8(at) : undefined;
    case 1:
      return view.getUint16(at, true) + 256;
    case 2:
      return view.getUint32(at, true);
    default:
      return Number(view.getBigUint64(at, true));
  }
}
