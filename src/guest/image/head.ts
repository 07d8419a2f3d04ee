/** A file's first word, which tells what it is. */

/** Files inside an executable that `bun build --compile` made: they can be read whole and not be opened. */
const EMBEDDED = "/$bunfs/";
export const isEmbedded = (path: string): boolean => path.startsWith(EMBEDDED);

/** What names standard input. */
const STDIN: readonly string[] = ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];
export const isStdin = (path: string): boolean => STDIN.includes(path);

/** Whether a file's bytes come in order only, and once: to open it is to take them. */
export function isPipe(path: string): boolean {
  if (isStdin(path)) return true;
  const stat = process.getBuiltinModule("node:fs").statSync(path, { throwIfNoEntry: false });
  return stat !== undefined && (stat.isFIFO() || stat.isSocket());
}

/** As long as zstd's longest frame header (RFC 8878, 3.1.1.1). */
const HEAD_BYTES = 18;

export interface Head {
  /** Little-endian, or 0 where there is none. */
  readonly magic: number;
  /** The file's first bytes, with zeros behind its end. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly sizeBytes: number;
}

/** Throws what the file system throws. */
export function headOf(path: string): Head {
  const { closeSync, fstatSync, openSync, readSync } = process.getBuiltinModule("node:fs");
  const fd = openSync(path, "r");
  try {
    const bytes = new Uint8Array(HEAD_BYTES);
    const { size } = fstatSync(fd);
    const got = readSync(fd, bytes, 0, HEAD_BYTES, 0);
    return { magic: got < 4 ? 0 : new DataView(bytes.buffer).getUint32(0, true), bytes, sizeBytes: size };
  } finally {
    closeSync(fd);
  }
}
