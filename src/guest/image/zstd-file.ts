/** A file that zstd compressed, as a format: what it holds is examined in turn. */
import { KtstrError } from "../../errors.ts";
import type { ReadableFile } from "./file.ts";
import type { FormatReader } from "./format.ts";
import { SmallFile } from "./small-file.ts";
import { decompress, MAX_DECOMPRESSED_BYTES, walkFrames } from "./zstd.ts";

/** @public Loaded by formats.ts. */
export const zstdFile: FormatReader = { problem, open };

/** Frames and their blocks follow each other to the end of the file; the last one may be cut short. */
function problem(file: ReadableFile): string | undefined {
  try {
    for (const _ of walkFrames((offset, length) => file.read(offset, length), file.sizeBytes));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Throws `KtstrError` where it is damaged, or holds 4 GiB or more. */
function open(file: ReadableFile): ReadableFile {
  const { path, sizeBytes } = file;
  if (sizeBytes > MAX_DECOMPRESSED_BYTES) throw tooLarge(path);
  try {
    return new SmallFile(path, decompress(file.read(0, sizeBytes)));
  } catch (error) {
    if (error instanceof KtstrError) throw error;
    const { code = "", message } = error as NodeJS.ErrnoException;
    if (code === "ERR_BUFFER_TOO_LARGE" || error instanceof RangeError) throw tooLarge(path);
    throw new KtstrError(`decompress ${path}: ${message}`, { hint: "The file is damaged." });
  }
}

function tooLarge(path: string): KtstrError {
  return new KtstrError(`decompress ${path}: it holds more than 4 GiB`, {
    hint: "Decompress it first (`zstd -d`).",
  });
}
