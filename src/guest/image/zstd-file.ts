/** A file that zstd compressed, as a format: what it holds is examined in turn. */
import { KtstrError } from "../../errors.ts";
import { zstdDecoder } from "./bun-codec.ts";
import type { ReadableFile } from "./file.ts";
import type { FormatReader } from "./format.ts";
import { SmallFile } from "./small-file.ts";
import type { OnUnpack } from "./temporary.ts";
import { unpack } from "./unpack.ts";
import { decompress, MAX_IN_MEMORY_BYTES, walkFrames } from "./zstd.ts";

/** @public Loaded by formats.ts. */
export const zstdFile: FormatReader = { problem, open };

const framesIn = (file: ReadableFile): ReturnType<typeof walkFrames> =>
  walkFrames((offset, length) => file.read(offset, length), file.sizeBytes);

/** Frames and their blocks follow each other to the end of the file; the last one may be cut short. */
function problem(file: ReadableFile): string | undefined {
  try {
    for (const _ of framesIn(file));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Throws `KtstrError` where it is damaged, or where there is no room for what it holds. */
function open(file: ReadableFile, onUnpack?: OnUnpack): ReadableFile {
  const { path, sizeBytes } = file;
  try {
    if (isSmall(file)) return new SmallFile(path, decompress(file.read(0, sizeBytes)));
  } catch (error) {
    if (error instanceof KtstrError) throw error;
    throw new KtstrError(`decompress ${path}: ${(error as Error).message}`, { hint: "The file is damaged." });
  }
  return unpack(file, zstdDecoder(), "zstd", onUnpack);
}

/** Whether what it holds is kept in memory, as captures are. Throws `Error` where a frame is cut short, or is none. */
function isSmall(file: ReadableFile): boolean {
  let total = 0;
  for (const { end, contentBytes } of framesIn(file)) {
    if (end > file.sizeBytes) throw new Error("it ends within a frame");
    total += contentBytes ?? Number.POSITIVE_INFINITY;
  }
  return total <= MAX_IN_MEMORY_BYTES;
}
