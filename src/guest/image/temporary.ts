/** A temporary file without a name, for bytes that come in order and are then read in any: gone with the process. */
import { KtstrError, SyscallError } from "../../errors.ts";
import { Fd } from "../../ffi.ts";
import { ImageFile } from "./file.ts";

/** open(2), O_TMPFILE without its O_DIRECTORY: asm-generic/fcntl.h's __O_TMPFILE. */
const TMPFILE = 0o20000000;
const OWNER_ONLY = 0o600;
/** Zeros of whole blocks become holes. */
const BLOCK_BYTES = 64 * 1024;
const ZEROS = new Uint8Array(BLOCK_BYTES);

/** Of bytes done: `total` is 0 where nobody knows it. */
export type OnUnpack = (doneBytes: number, totalBytes: number) => void;

export class TemporaryFile implements Disposable {
  /** What it holds, for errors: a path. */
  readonly #of: string;
  readonly #folder: string;
  readonly #fd: Fd;
  #size = 0;

  /** In TMPDIR, or /tmp. Throws `SyscallError` where no file can be made there. */
  constructor(of: string) {
    this.#of = of;
    this.#folder = process.env["TMPDIR"] || "/tmp";
    this.#fd = new Fd(nameless(this.#folder), `a temporary file in ${this.#folder}`);
  }

  get sizeBytes(): number {
    return this.#size;
  }

  /** Throws `KtstrError` where the file system has no room for them. */
  append(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      // Up to the next boundary, so that holes are blocks of the file.
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
    const { code = "EIO", errno = -5, syscall = "write" } = error;
    if (code !== "ENOSPC" && code !== "EDQUOT" && code !== "EFBIG")
      return new SyscallError(syscall, `a temporary file in ${this.#folder}`, Math.abs(errno), code);
    const mib = Math.floor(this.#size / 2 ** 20);
    return new KtstrError(
      `unpack ${this.#of}: no room in ${this.#folder} for more than its first ${mib} MiB (${code})`,
      { hint: "Set TMPDIR to a folder with room for the whole memory.", cause: error },
    );
  }

  /** What was appended, as a file to read. Takes the descriptor over. Throws `KtstrError` where it is nothing. */
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

/** O_TMPFILE has no name at any time; a file system without it (NFS, overlayfs before 6.1) has one until it is open. */
function nameless(folder: string): number {
  const { constants, openSync, unlinkSync } = process.getBuiltinModule("node:fs");
  try {
    return openSync(folder, TMPFILE | constants.O_DIRECTORY | constants.O_RDWR, OWNER_ONLY);
  } catch (error) {
    const { code = "EIO", errno = -5 } = error as NodeJS.ErrnoException;
    if (code !== "EOPNOTSUPP" && code !== "ENOTSUP" && code !== "EISDIR")
      throw new SyscallError(
        "open",
        `a temporary file in ${folder}`,
        Math.abs(errno),
        code,
        "Set TMPDIR to a folder that this user may write.",
      );
  }
  const path = `${folder}/ktstr-${crypto.randomUUID()}`;
  const fd = openSync(path, "wx+", OWNER_ONLY);
  unlinkSync(path);
  return fd;
}
