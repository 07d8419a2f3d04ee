/** Converts errors of node:fs to `SyscallError`, for commands that read a given file. */
import { syscallError } from "../errors.ts";

const HINTS: Readonly<Record<string, string>> = { EISDIR: "Give a file, not a folder." };

/** Runs one call of node:fs on the file. Throws `SyscallError` with the path and a hint. */
export function fileCall<T>(call: string, path: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    const hintOf = (code: string): string =>
      HINTS[code] ?? "Check the path, and that this user may read the file.";
    throw syscallError(error, path, hintOf, call);
  }
}
