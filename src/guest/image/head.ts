/** Reads a file's first bytes, and recognizes pipes and files inside ktstr's executable. */

/** Path prefix of files inside an executable that `bun build --compile` made. They can be read whole but not opened. */
const EMBEDDED = "/$bunfs/";
export const isEmbedded = (path: string): boolean => path.startsWith(EMBEDDED);

/** Names of standard input. */
const STDIN: readonly string[] = ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];
export const isStdin = (path: string): boolean => STDIN.includes(path);

/** Returns whether a file can only be read once and in order. Opening such a file consumes it. */
export function isPipe(path: string): boolean {
  if (isStdin(path)) return true;
  const stat = process.getBuiltinModule("node:fs").statSync(path, { throwIfNoEntry: false });
  return stat !== undefined && (stat.isFIFO() || stat.isSocket());
}

/** The length of zstd's longest frame header (RFC 8878, 3.1.1.1). */
const HEAD_BYTES = 18;

export interface Head {
  /** The first word, little-endian; 0 if the file is shorter. */
  readonly magic: number;
  /** The file's first bytes, padded with zeros. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly sizeBytes: number;
}

/** Reads the start of a file. Throws the file system's errors. */
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
