/** Decoders that use shared libraries of the system: xz, LZ4 and bzip2. */
import { KtstrError } from "../../errors.ts";
import { addressOf, sharedLibrary } from "../../ffi.ts";
import type { Decoder, Step } from "./unpack.ts";

/** lzma/base.h: `lzma_stream` with its reserved members, on 64-bit machines. */
const LZMA_STREAM_BYTES = 136;
const NEXT_IN = 0;
const AVAIL_IN = 8;
const NEXT_OUT = 24;
const AVAIL_OUT = 32;
/** lzma/container.h: decodes concatenated streams as one. */
const LZMA_CONCATENATED = 0x08;
/** Memory limit. `xz -9` needs 65 MiB; only files with a larger custom dictionary need more than this. */
const LZMA_MEMORY_BYTES = 96 * 2 ** 20;
/** `lzma_action` and `lzma_ret`, lzma/base.h. */
const LZMA_RUN = 0;
const LZMA_FINISH = 3;
const LZMA_OK = 0;
const LZMA_STREAM_END = 1;
const LZMA_MEMLIMIT_ERROR = 6;
const LZMA_OPTIONS_ERROR = 8;
const LZMA_BUF_ERROR = 10;

const LZMA_FUNCTIONS = {
  lzma_stream_decoder: { args: ["ptr", "u64", "i32"], returns: "i32" },
  lzma_code: { args: ["ptr", "i32"], returns: "i32" },
  lzma_end: { args: ["ptr"], returns: "i32" },
} as const;

/** Decodes the .xz format, including concatenated streams. Throws `KtstrError` if liblzma is not installed. */
export function xzDecoder(): Decoder {
  return new LzmaDecoder(
    sharedLibrary(["liblzma.so.5"], LZMA_FUNCTIONS, (why) => missing("xz", "liblzma5", why)),
  );
}

type Functions<Names extends string> = Record<
  Names,
  (...args: (ArrayBufferView | number | null)[]) => number
>;

const NOTHING = new Uint8Array(new ArrayBuffer(1));

class LzmaDecoder implements Decoder {
  readonly #library: Functions<keyof typeof LZMA_FUNCTIONS>;
  readonly #stream = new Uint8Array(new ArrayBuffer(LZMA_STREAM_BYTES));
  readonly #view = new DataView(this.#stream.buffer);
  #ended = false;

  constructor(library: Functions<keyof typeof LZMA_FUNCTIONS>) {
    this.#library = library;
    this.#check(library.lzma_stream_decoder(this.#stream, LZMA_MEMORY_BYTES, LZMA_CONCATENATED));
  }

  step(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): Step {
    return this.#code(from, from.length, into, LZMA_RUN);
  }

  end(into: Uint8Array<ArrayBuffer>): Step {
    if (this.#ended) return { taken: 0, given: 0 };
    const step = this.#code(NOTHING, 0, into, LZMA_FINISH);
    if (!this.#ended && step.given === 0) throw new Error("the file is truncated");
    return step;
  }

  #code(from: Uint8Array<ArrayBuffer>, length: number, into: Uint8Array<ArrayBuffer>, action: number): Step {
    const view = this.#view;
    view.setBigUint64(NEXT_IN, BigInt(addressOf(from)), true);
    view.setBigUint64(AVAIL_IN, BigInt(length), true);
    view.setBigUint64(NEXT_OUT, BigInt(addressOf(into)), true);
    view.setBigUint64(AVAIL_OUT, BigInt(into.length), true);
    const result = this.#library.lzma_code(this.#stream, action);
    this.#ended = result === LZMA_STREAM_END;
    // LZMA_BUF_ERROR: no progress is possible with these bytes, which is not an error.
    if (result !== LZMA_BUF_ERROR) this.#check(result);
    return {
      taken: length - Number(view.getBigUint64(AVAIL_IN, true)),
      given: into.length - Number(view.getBigUint64(AVAIL_OUT, true)),
    };
  }

  #check(result: number): void {
    if (result === LZMA_OK || result === LZMA_STREAM_END) return;
    if (result === LZMA_MEMLIMIT_ERROR)
      throw new KtstrError(`decompress: xz needs more than 96 MiB of memory to decompress this file`, {
        hint: "Decompress it first (`xz -d`).",
      });
    throw new Error(
      result === LZMA_OPTIONS_ERROR
        ? "liblzma does not support its options"
        : `liblzma cannot decode it (${result})`,
    );
  }

  [Symbol.dispose](): void {
    this.#library.lzma_end(this.#stream);
  }
}

/** lz4frame.h: LZ4F_VERSION. */
const LZ4F_VERSION = 100;

const LZ4_FUNCTIONS = {
  LZ4F_createDecompressionContext: { args: ["ptr", "i32"], returns: "i64_fast" },
  LZ4F_decompress: { args: ["u64", "ptr", "ptr", "ptr", "ptr", "ptr"], returns: "i64_fast" },
  LZ4F_freeDecompressionContext: { args: ["u64"], returns: "i64_fast" },
} as const;

/** Decodes LZ4's frame format, including several frames. Throws `KtstrError` if liblz4 is not installed. */
export function lz4Decoder(): Decoder {
  return new Lz4Decoder(
    sharedLibrary(["liblz4.so.1"], LZ4_FUNCTIONS, (why) => missing("lz4", "liblz4-1", why)),
  );
}

class Lz4Decoder implements Decoder {
  readonly #library: Functions<keyof typeof LZ4_FUNCTIONS>;
  /** `LZ4F_dctx *` */
  readonly #context: number;
  readonly #given = new BigUint64Array(1);
  readonly #taken = new BigUint64Array(1);
  /** Number of bytes that the library expects next; 0 at the end of a frame. */
  #wanted = 0;

  constructor(library: Functions<keyof typeof LZ4_FUNCTIONS>) {
    this.#library = library;
    const context = new BigUint64Array(1);
    if (library.LZ4F_createDecompressionContext(context, LZ4F_VERSION) !== 0)
      throw new Error("liblz4 cannot allocate memory");
    this.#context = Number(context[0]);
  }

  step(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): Step {
    this.#given[0] = BigInt(into.length);
    this.#taken[0] = BigInt(from.length);
    const wanted = this.#library.LZ4F_decompress(this.#context, into, this.#given, from, this.#taken, null);
    // LZ4F_isError: error codes are small negative numbers.
    if (wanted < 0) throw new Error(`liblz4 cannot decode it (${wanted})`);
    this.#wanted = wanted;
    return { taken: Number(this.#taken[0]), given: Number(this.#given[0]) };
  }

  end(into: Uint8Array<ArrayBuffer>): Step {
    if (this.#wanted === 0) return { taken: 0, given: 0 };
    this.#given[0] = BigInt(into.length);
    this.#taken[0] = 0n;
    const wanted = this.#library.LZ4F_decompress(
      this.#context,
      into,
      this.#given,
      NOTHING,
      this.#taken,
      null,
    );
    if (wanted < 0) throw new Error(`liblz4 cannot decode it (${wanted})`);
    this.#wanted = wanted;
    if (wanted !== 0 && this.#given[0] === 0n) throw new Error("the file is truncated");
    return { taken: 0, given: Number(this.#given[0]) };
  }

  [Symbol.dispose](): void {
    this.#library.LZ4F_freeDecompressionContext(this.#context);
  }
}

/** bzlib.h: `bz_stream`, on 64-bit machines. */
const BZ_STREAM_BYTES = 80;
const BZ_NEXT_IN = 0;
const BZ_AVAIL_IN = 8;
const BZ_NEXT_OUT = 24;
const BZ_AVAIL_OUT = 32;
/** Results of its functions. */
const BZ_OK = 0;
const BZ_STREAM_END = 4;

const BZ_FUNCTIONS = {
  BZ2_bzDecompressInit: { args: ["ptr", "i32", "i32"], returns: "i32" },
  BZ2_bzDecompress: { args: ["ptr"], returns: "i32" },
  BZ2_bzDecompressEnd: { args: ["ptr"], returns: "i32" },
} as const;

/** Decodes bzip2's format, including concatenated streams. Throws `KtstrError` if libbz2 is not installed. */
export function bzip2Decoder(): Decoder {
  return new Bzip2Decoder(
    sharedLibrary(["libbz2.so.1.0", "libbz2.so.1"], BZ_FUNCTIONS, (why) =>
      missing("bzip2", "libbz2-1.0", why),
    ),
  );
}

class Bzip2Decoder implements Decoder {
  readonly #library: Functions<keyof typeof BZ_FUNCTIONS>;
  readonly #stream = new Uint8Array(new ArrayBuffer(BZ_STREAM_BYTES));
  readonly #view = new DataView(this.#stream.buffer);
  /** Whether a stream has started and not ended. */
  #isOpen = false;

  constructor(library: Functions<keyof typeof BZ_FUNCTIONS>) {
    this.#library = library;
  }

  step(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): Step {
    if (!this.#isOpen) {
      // Zeros between streams can be padding; the caller decides.
      if (from[0] === 0) return { taken: 0, given: 0 };
      this.#stream.fill(0);
      if (this.#library.BZ2_bzDecompressInit(this.#stream, 0, 0) !== BZ_OK)
        throw new Error("libbz2 cannot allocate memory");
      this.#isOpen = true;
    }
    return this.#code(from, from.length, into);
  }

  end(into: Uint8Array<ArrayBuffer>): Step {
    if (!this.#isOpen) return { taken: 0, given: 0 };
    const step = this.#code(NOTHING, 0, into);
    if (this.#isOpen && step.given === 0) throw new Error("the file is truncated");
    return step;
  }

  #code(from: Uint8Array<ArrayBuffer>, length: number, into: Uint8Array<ArrayBuffer>): Step {
    const view = this.#view;
    view.setBigUint64(BZ_NEXT_IN, BigInt(addressOf(from)), true);
    view.setUint32(BZ_AVAIL_IN, length, true);
    view.setBigUint64(BZ_NEXT_OUT, BigInt(addressOf(into)), true);
    view.setUint32(BZ_AVAIL_OUT, into.length, true);
    const result = this.#library.BZ2_bzDecompress(this.#stream);
    if (result !== BZ_OK && result !== BZ_STREAM_END) throw new Error(`libbz2 cannot decode it (${result})`);
    const step = {
      taken: length - view.getUint32(BZ_AVAIL_IN, true),
      given: into.length - view.getUint32(BZ_AVAIL_OUT, true),
    };
    if (result === BZ_STREAM_END) this.#close();
    return step;
  }

  #close(): void {
    if (this.#isOpen) this.#library.BZ2_bzDecompressEnd(this.#stream);
    this.#isOpen = false;
  }

  [Symbol.dispose](): void {
    this.#close();
  }
}

function missing(tool: string, debian: string, why: string): KtstrError {
  return new KtstrError(
    `decompress: this file needs the library of ${tool}, which cannot be opened (${why})`,
    {
      hint: `Install it (Debian: ${debian}), or decompress the file first (\`${tool} -d\`).`,
    },
  );
}
