/** Compressed files are decompressed into a temporary file, and what they hold is examined in turn. */
import { KtstrError } from "../../errors.ts";
import type { ImageFile, ReadableFile } from "./file.ts";
import { type OnUnpack, TemporaryFile } from "./temporary.ts";

const INPUT_BYTES = 2 ** 18;
const OUTPUT_BYTES = 2 ** 20;

/** What a step took of the input and gave of the output, in bytes. */
export interface Step {
  readonly taken: number;
  readonly given: number;
}

/** A stream that is decompressed step by step, in bounded memory. */
export interface Decoder extends Disposable {
  /** Decompresses some of `from` into `into`. Throws `Error`, whose message is a clause, where the bytes are damaged. */
  step(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): Step;
  /** After the last byte was taken: gives what is left. Throws `Error` where the stream is not complete. */
  end(into: Uint8Array<ArrayBuffer>): Step;
}

/**
 * Throws `KtstrError` where the file is damaged or cut short, or where there is no room. `tool` is the command that
 * decompresses such files.
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
        throw new Error("something else follows what is compressed");
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
      hint: `The file is damaged or not complete: \`${tool} -t\` checks it.`,
    });
  } finally {
    decoder[Symbol.dispose]();
  }
}

/** More than this is not decompressed to see whether a file is compressed. */
const MAX_PROBED_BYTES = 16 * 2 ** 20;

/**
 * Whether the file's first `probeBytes` decompress to something. False where the file is shorter, and where the machine
 * has no library for it.
 */
export function goesOn(file: ReadableFile, probeBytes: number, decoderOf: () => Decoder): boolean {
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

/** The longest that tapes and copies of devices add. */
const MAX_PADDING_BYTES = 2 ** 20;

function isPadding(file: ReadableFile, at: number): boolean {
  const rest = file.sizeBytes - at;
  return rest <= MAX_PADDING_BYTES && file.read(at, rest).every((byte) => byte === 0);
}
