/**
 * Files that are read whole: what zstd compressed, and ELF cores up to some size, which captures are. It takes nothing
 * but a file system, so a capture opens wherever Bun runs.
 */
import { closeSync, fstatSync, openSync, readFileSync, readSync } from "node:fs";
import { KtstrError, SyscallError } from "../errors.ts";
import { ELF_MAGIC } from "../uapi/elf.ts";
import { viewOf } from "./elf.ts";
import { type DataFile, ImageFile } from "./file.ts";
import { WINDOW_BYTES } from "./physical.ts";

/** Larger cores are mapped. */
const SMALL_BYTES = 64 * 2 ** 20;
/** The first four bytes of a zstd frame (RFC 8878, 3.1.1), little-endian. */
const ZSTD_MAGIC = 0xfd2f_b528;
/** Files inside an executable that `bun build --compile` made: they can be read whole and not be opened. */
const EMBEDDED = "/$bunfs/";
const MAX_DECOMPRESSED_BYTES = 2 ** 32 - 1;

/** Opens a file by its content. Throws `SyscallError` where it cannot be read, `KtstrError` where it is empty or broken. */
export function openDataFile(path: string): DataFile {
  if (path.startsWith(EMBEDDED)) return new SmallFile(path, decompressed(path, readWhole(path)));
  const { magic, sizeBytes } = headOf(path);
  if (magic === ZSTD_MAGIC) return new SmallFile(path, decompressed(path, readWhole(path)));
  if (magic === ELF_MAGIC && sizeBytes <= SMALL_BYTES) return new SmallFile(path, readWhole(path));
  return new ImageFile(path);
}

/** The first word of a file, or 0 where it has none. */
function headOf(path: string): { readonly magic: number; readonly sizeBytes: number } {
  return reading(path, () => {
    const fd = openSync(path, "r");
    try {
      const head = new Uint8Array(4);
      const { size } = fstatSync(fd);
      const got = readSync(fd, head, 0, 4, 0);
      return { magic: got < 4 ? 0 : viewOf(head).getUint32(0, true), sizeBytes: size };
    } finally {
      closeSync(fd);
    }
  });
}

function readWhole(path: string): Uint8Array<ArrayBuffer> {
  return reading(path, () => readFileSync(path));
}

function reading<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const { code = "EIO", errno = -5, syscall = "read" } = error as NodeJS.ErrnoException;
    throw new SyscallError(
      syscall,
      path,
      Math.abs(errno),
      code,
      "Check the path, and that this user may read the file.",
    );
  }
}

function decompressed(path: string, bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  try {
    const size = contentSize(bytes);
    if (size !== undefined && size > MAX_DECOMPRESSED_BYTES) throw new RangeError("too large");
    if (size !== undefined) return new Uint8Array(Bun.zstdDecompressSync(bytes).buffer as ArrayBuffer);
    // Loading node:zlib takes longer than decompressing a capture; only it can bound what does not tell its size.
    const { zstdDecompressSync } = process.getBuiltinModule("node:zlib");
    return zstdDecompressSync(bytes, { maxOutputLength: MAX_DECOMPRESSED_BYTES });
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    const isTooLarge = code === "ERR_BUFFER_TOO_LARGE" || error instanceof RangeError;
    throw new KtstrError(
      `decompress ${path}: ${isTooLarge ? "it holds more than 4 GiB" : message}`,
      isTooLarge ? { hint: "Decompress it first (`zstd -d`)." } : { hint: "The file is damaged." },
    );
  }
}

/** RFC 8878, 3.1.1.1: what the first frame's header says; undefined: it does not. */
function contentSize(bytes: Uint8Array): number | undefined {
  const view = viewOf(bytes);
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

class SmallFile implements DataFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly #bytes: Uint8Array<ArrayBuffer>;

  constructor(path: string, bytes: Uint8Array<ArrayBuffer>) {
    this.path = path;
    // Not a Buffer, whose slices are no copies.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    this.sizeBytes = bytes.length;
    if (bytes.length === 0) throw new KtstrError(`read ${path}: the file is empty`);
  }

  /** It is in memory: whatever becomes of the file, nothing shrinks. */
  check(): void {}

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(offset, offset + Math.max(0, length));
  }

  window(offset: number, length: number): Uint8Array {
    return this.#bytes.subarray(offset, offset + Math.min(length, WINDOW_BYTES));
  }

  search(from: number, to: number, visit: (view: DataView, offset: number) => boolean): void {
    visit(viewOf(this.#bytes.subarray(from, to)), from);
  }

  [Symbol.dispose](): void {}
}
