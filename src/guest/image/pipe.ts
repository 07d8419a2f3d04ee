/** Reads standard input and pipes: copies their bytes into a temporary file, which can be read at any offset. */
import { KtstrError, syscallError } from "../../errors.ts";
import { Fd } from "../../ffi.ts";
import { ImageFile } from "./file.ts";
import { isStdin } from "./head.ts";
import { type OnUnpack, TemporaryFile } from "./temporary.ts";

const BUFFER_BYTES = 2 ** 20;
/** Interval at which a non-blocking pipe without data is read again. */
const RETRY_MS = 5;

/**
 * Copies a pipe. Throws `SyscallError` if it cannot be read, `KtstrError` if it is empty or there is no space for it.
 *
 * @public Loaded by small-file.ts.
 */
export function openPipe(path: string, onUnpack?: OnUnpack): ImageFile {
  const { closeSync, fstatSync, openSync } = process.getBuiltinModule("node:fs");
  if (!isStdin(path)) {
    const fd = wrapErrors(path, () => openSync(path, "r"));
    try {
      return copyToTemporary(fd, path, onUnpack);
    } finally {
      closeSync(fd);
    }
  }
  const name = "standard input";
  // `ktstr --memory - < FILE`: the file is read directly and stays open.
  if (wrapErrors(name, () => fstatSync(0)).isFile()) return new ImageFile(name, new Fd(0, name, () => 0));
  if (isTerminal())
    throw new KtstrError("read standard input: it is a terminal", {
      hint: "For example `zcat mem.gz | ktstr --memory - inspect`.",
    });
  return copyToTemporary(0, name, onUnpack);
}

/** Does not use `process.stdin`, which would start to read. */
function isTerminal(): boolean {
  return process.getBuiltinModule("node:tty").isatty(0);
}

function copyToTemporary(fd: number, path: string, onUnpack?: OnUnpack): ImageFile {
  const { readSync } = process.getBuiltinModule("node:fs");
  const buffer = new Uint8Array(BUFFER_BYTES);
  const output = new TemporaryFile(path);
  try {
    for (;;) {
      const got = wrapErrors(path, () => readWhenReady(() => readSync(fd, buffer)));
      if (got === 0) return output.finish(path);
      output.append(buffer.subarray(0, got));
      onUnpack?.(output.sizeBytes, 0);
    }
  } catch (error) {
    output[Symbol.dispose]();
    throw error;
  }
}

function readWhenReady(read: () => number): number {
  for (;;) {
    try {
      return read();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      Bun.sleepSync(RETRY_MS);
    }
  }
}

function wrapErrors<T>(path: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw syscallError(error, path);
  }
}
