/** Reads files compressed by zstd. The format of the decompressed file is detected in turn. */
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

/** Checks that frames and blocks follow one another to the end of the file. The last one may be truncated. */
function problem(file: ReadableFile): string | undefined {
  try {
    for (const _ of framesIn(file));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Throws `KtstrError` if the file is damaged, or if there is no space for its contents. */
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

/** Returns whether to keep the contents in memory, as for captures. Throws `Error` if a frame is truncated or invalid. */
function isSmall(file: ReadableFile): boolean {
  let total = 0;
  for (const { end, contentBytes } of framesIn(file)) {
    if (end > file.sizeBytes) throw new Error("it ends within a frame");
    total += contentBytes ?? Number.POSITIVE_INFINITY;
  }
  return total <= MAX_IN_MEMORY_BYTES;
}
