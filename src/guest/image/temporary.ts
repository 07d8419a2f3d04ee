/** A temporary file without a name, for data that is written sequentially and read at any offset. Deleted when it is closed. */
import { KtstrError, type SyscallError, syscallError } from "../../errors.ts";
import { Fd } from "../../ffi.ts";
import { ImageFile } from "./file.ts";

/** open(2), O_TMPFILE without its O_DIRECTORY: asm-generic/fcntl.h's __O_TMPFILE. */
const TMPFILE = 0o20000000;
const OWNER_ONLY = 0o600;
/** Granularity of holes: a block of zeros is not written. */
const BLOCK_BYTES = 64 * 1024;
const ZEROS = new Uint8Array(BLOCK_BYTES);

/** Progress in bytes; `totalBytes` is 0 if the total is not known. */
export type OnUnpack = (doneBytes: number, totalBytes: number) => void;

export class TemporaryFile implements Disposable {
  /** Path of the unpacked file, for errors. */
  readonly #source: string;
  readonly #folder: string;
  readonly #fd: Fd;
  #size = 0;

  /** Creates the file in TMPDIR or /tmp. Throws `SyscallError` if that fails. `source` is named in errors. */
  constructor(source: string) {
    this.#source = source;
    this.#folder = process.env["TMPDIR"] || "/tmp";
    this.#fd = new Fd(openUnnamed(this.#folder), `a temporary file in ${this.#folder}`);
  }

  get sizeBytes(): number {
    return this.#size;
  }

  /** Appends bytes. Throws `KtstrError` if the file system is full. */
  append(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      // Up to the next block boundary, so that holes are whole blocks.
      const block = bytes.subarray(at, at + BLOCK_BYTES - (this.#size % BLOCK_BYTES));
      if (!isZero(block)) this.#write(block);
      this.#size += block.length;
      at += block.length;
    }
  }

  #write(block: Uint8Array): void {
    const { writeSync } = process.getBuiltinModule("node:fs");
    try {
      for (let at = 0; at < block.length; )
        at += writeSync(this.#fd.number, block, at, block.length - at, this.#size + at);
    } catch (error) {
      throw this.#failure(error as NodeJS.ErrnoException);
    }
  }

  #failure(error: NodeJS.ErrnoException): Error {
    const { code } = error;
    if (code !== "ENOSPC" && code !== "EDQUOT" && code !== "EFBIG")
      return syscallError(error, `a temporary file in ${this.#folder}`);
    const mib = Math.floor(this.#size / 2 ** 20);
    return new KtstrError(
      `unpack ${this.#source}: no space in ${this.#folder} after the first ${mib} MiB (${code})`,
      { hint: "Set TMPDIR to a directory with space for the whole memory.", cause: error },
    );
  }

  /** Returns the appended data as a file. Transfers the descriptor. Throws `KtstrError` if nothing was appended. */
  finish(path: string): ImageFile {
    const { ftruncateSync } = process.getBuiltinModule("node:fs");
    try {
      ftruncateSync(this.#fd.number, this.#size);
    } catch (error) {
      throw this.#failure(error as NodeJS.ErrnoException);
    }
    return new ImageFile(path, this.#fd);
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}

function isZero(block: Uint8Array): boolean {
  return block[0] === 0 && Buffer.compare(block, ZEROS.subarray(0, block.length)) === 0;
}

/** Uses O_TMPFILE. File systems without it (NFS, overlayfs before 6.1) get a file with a name that is unlinked at once. */
function openUnnamed(folder: string): number {
  const { constants, openSync, unlinkSync } = process.getBuiltinModule("node:fs");
  try {
    return openSync(folder, TMPFILE | constants.O_DIRECTORY | constants.O_RDWR, OWNER_ONLY);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EOPNOTSUPP" && code !== "ENOTSUP" && code !== "EISDIR") throw openFailure(folder, error);
  }
  const path = `${folder}/ktstr-${crypto.randomUUID()}`;
  try {
    const fd = openSync(path, "wx+", OWNER_ONLY);
    unlinkSync(path);
    return fd;
  } catch (error) {
    throw openFailure(folder, error);
  }
}

function openFailure(folder: string, error: unknown): SyscallError {
  const hint = "Set TMPDIR to a directory that this user can write to.";
  return syscallError(error, `a temporary file in ${folder}`, () => hint);
}
