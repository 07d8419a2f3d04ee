/** Writes files atomically. */
import {
  closeSync,
  fsyncSync,
  linkSync,
  openSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { KtstrError, syscallError } from "../errors.ts";

/**
 * Writes a temporary file next to `path`, syncs it, and then renames it to `path`. Only the owner can read it unless `mode` is
 * given. An existing file is kept until the rename. Throws `KtstrError` and removes the temporary file on an error, also if
 * the file exists and `replace` is false, or if it is not a regular file.
 */
export function writeWholeFile(
  path: string,
  pieces: Iterable<Uint8Array>,
  replace: boolean,
  mode = 0o600,
): void {
  const there = step("stat", path, () => statSync(path, { throwIfNoEntry: false }));
  if (there !== undefined && !there.isFile()) throw notRegular(path);
  if (there !== undefined && !replace) throw alreadyExists(path);
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  const fd = step("create", temporary, () => openSync(temporary, "wx", mode));
  try {
    try {
      for (const piece of pieces) writeAll(fd, piece, path);
      step("fsync", path, () => fsyncSync(fd));
    } finally {
      closeSync(fd);
    }
    if (replace) step("rename", path, () => renameSync(temporary, path));
    else nameOnce(temporary, path);
  } catch (error) {
    unlinkSync(temporary);
    throw error;
  }
  syncDirectory(dirname(path));
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Special files such as /dev/null must not be replaced. */
function notRegular(path: string): KtstrError {
  return new KtstrError(`write ${path}: it exists and is not a regular file`, {
    hint: "Give the name of a file.",
  });
}

function alreadyExists(path: string): KtstrError {
  return new KtstrError(`write ${path}: it exists already`, { hint: "--force replaces it." });
}

function writeAll(fd: number, bytes: Uint8Array, path: string): void {
  for (let done = 0; done < bytes.length; )
    done += step("write", path, () => writeSync(fd, bytes, done, bytes.length - done));
}

/** link(2) never replaces an existing file. On file systems without links, existence is checked again before rename(2). */
function nameOnce(temporary: string, path: string): void {
  try {
    linkSync(temporary, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST" || exists(path)) throw alreadyExists(path);
    step("rename", path, () => renameSync(temporary, path));
    return;
  }
  unlinkSync(temporary);
}

/** Makes the name durable. Errors are ignored: not every file system can sync directories. */
function syncDirectory(path: string): void {
  try {
    const fd = openSync(path, "r");
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch {
    // The file itself was synced.
  }
}

const HINTS: Readonly<Record<string, string>> = {
  ENOSPC: "The disk is full.",
  EDQUOT: "This user's quota of disk space is used up.",
  EACCES: "This user may not write into that folder.",
  EPERM: "This user may not write into that folder.",
  EROFS: "That file system is mounted read-only.",
  ENOENT: "That folder does not exist.",
};

function step<T>(command: string, path: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw syscallError(error, path, (code) => HINTS[code] ?? "", command);
  }
}
