/** A file's first word, which tells what it is. */

/** Files inside an executable that `bun build --compile` made: they can be read whole and not be opened. */
const EMBEDDED = "/$bunfs/";
export const isEmbedded = (path: string): boolean => path.startsWith(EMBEDDED);

/** `magic`: little-endian, or 0 where there is none. Throws what the file system throws. */
export function headOf(path: string): { readonly magic: number; readonly sizeBytes: number } {
  const { closeSync, fstatSync, openSync, readSync } = process.getBuiltinModule("node:fs");
  const fd = openSync(path, "r");
  try {
    const head = new Uint8Array(4);
    const { size } = fstatSync(fd);
    const got = readSync(fd, head, 0, 4, 0);
    return { magic: got < 4 ? 0 : new DataView(head.buffer).getUint32(0, true), sizeBytes: size };
  } finally {
    closeSync(fd);
  }
}
