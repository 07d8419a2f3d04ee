/** Decompresses a file into a temporary file. The format of the result is detected in turn. */
import { KtstrError } from "../../errors.ts";
import type { ImageFile, ReadableFile } from "./file.ts";
import { type OnUnpack, TemporaryFile } from "./temporary.ts";

const INPUT_BYTES = 2 ** 18;
const OUTPUT_BYTES = 2 ** 20;

/** Bytes of input consumed (`taken`) and of output written (`given`) by one step of a decoder. */
export interface Step {
  readonly taken: number;
  readonly given: number;
}

/** A decompressor with bounded memory. */
export interface Decoder extends Disposable {
  /** Decompresses part of `from` into `into`. Throws `Error` with a clause as its message if the data is damaged. */
  step(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): Step;
  /** Writes the remaining output after all input was consumed. Throws `Error` if the stream is not complete. */
  end(into: Uint8Array<ArrayBuffer>): Step;
}

/**
 * Decompresses `file`. `tool` is the command that decompresses such files, for the error's hint. Throws `KtstrError` if
 * the file is damaged or cut short, or if there is no space.
 */
export function unpack(
  file: ReadableFile,
  decoder: Decoder,
  tool: string,
  onUnpack?: OnUnpack | undefined,
): ImageFile {
  const into = new Uint8Array(new ArrayBuffer(OUTPUT_BYTES));
  const output = new TemporaryFile(file.path);
  let at = 0;
  try {
    let from = file.read(0, INPUT_BYTES);
    while (at < file.sizeBytes) {
      const { taken, given } = decoder.step(from, into);
      output.append(into.subarray(0, given));
      at += taken;
      from = from.subarray(taken);
      if (taken === 0 && given === 0) {
        if (isPadding(file, at)) break;
        throw new Error("other data follows the compressed data");
      }
      onUnpack?.(at, file.sizeBytes);
      if (from.length > 0) continue;
      from = file.read(at, INPUT_BYTES);
      if (from.length === 0) break;
    }
    for (let given = -1; given !== 0; ) {
      given = decoder.end(into).given;
      output.append(into.subarray(0, given));
    }
    return output.finish(file.path);
  } catch (error) {
    output[Symbol.dispose]();
    if (error instanceof KtstrError) throw error;
    throw new KtstrError(`decompress ${file.path}: ${(error as Error).message} (near byte ${at})`, {
      hint: `The file is damaged or incomplete. \`${tool} -t\` checks it.`,
    });
  } finally {
    decoder[Symbol.dispose]();
  }
}

/** Limit on the output of `decompressesAtStart`. */
const MAX_PROBED_BYTES = 16 * 2 ** 20;

/**
 * Returns whether the first `probeBytes` of the file can be decompressed. False if the file is shorter, or if the library
 * is missing.
 */
export function decompressesAtStart(
  file: ReadableFile,
  probeBytes: number,
  decoderOf: () => Decoder,
): boolean {
  try {
    using decoder = decoderOf();
    const into = new Uint8Array(new ArrayBuffer(2 ** 16));
    let from = file.read(0, probeBytes);
    if (from.length < probeBytes) return false;
    let done = 0;
    while (from.length > 0 && done < MAX_PROBED_BYTES) {
      const { taken, given } = decoder.step(from, into);
      if (taken === 0 && given === 0) return false;
      from = from.subarray(taken);
      done += given;
    }
    return done > 0;
  } catch {
    return false;
  }
}

/** Limit on the padding that tapes and copies of block devices add. */
const MAX_PADDING_BYTES = 2 ** 20;

function isPadding(file: ReadableFile, at: number): boolean {
  const rest = file.sizeBytes - at;
  return rest <= MAX_PADDING_BYTES && file.read(at, rest).every((byte) => byte === 0);
}
