/** Decoders that use the runtime's zlib and zstd: gzip and zstd files. */
import { KtstrError } from "../../errors.ts";
import type { Decoder, Step } from "./unpack.ts";

/**
 * The internal handle of a node:zlib stream, which is the same in Node and Bun. It writes synchronously into a buffer of
 * fixed size.
 */
interface Handle {
  writeSync(
    flush: number,
    from: Uint8Array,
    fromAt: number,
    fromLength: number,
    into: Uint8Array,
    intoAt: number,
    intoLength: number,
  ): void;
  close(): void;
  onerror: (message: string) => void;
}

interface Stream {
  readonly _handle?: Handle | null;
  /** After a write: the number of free output bytes, and of remaining input bytes. */
  readonly _writeState?: Uint32Array;
}

const NOTHING = new Uint8Array(new ArrayBuffer(0));

class StreamDecoder implements Decoder {
  readonly #handle: Handle;
  readonly #state: Uint32Array;
  readonly #finish: number;
  #failure = "";

  constructor(stream: Stream, finish: number, tool: string) {
    const { _handle, _writeState } = stream;
    if (_handle == null || typeof _handle.writeSync !== "function" || _writeState === undefined)
      throw new KtstrError(`this Bun (${Bun.version}) cannot decompress in steps`, {
        hint: `Decompress the file first (\`${tool} -d\`).`,
      });
    this.#handle = _handle;
    this.#state = _writeState;
    this.#finish = finish;
    _handle.onerror = (message) => {
      this.#failure = message;
    };
  }

  step(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): Step {
    return this.#write(0, from, into);
  }

  end(into: Uint8Array<ArrayBuffer>): Step {
    return this.#write(this.#finish, NOTHING, into);
  }

  #write(flush: number, from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): Step {
    this.#handle.writeSync(flush, from, 0, from.length, into, 0, into.length);
    if (this.#failure !== "") throw new Error(this.#failure);
    return { taken: from.length - this.#state[1]!, given: into.length - this.#state[0]! };
  }

  [Symbol.dispose](): void {
    this.#handle.close();
  }
}

/** RFC 1952, including several members. */
export function gzipDecoder(): Decoder {
  const { constants, createGunzip } = process.getBuiltinModule("node:zlib");
  return new StreamDecoder(createGunzip() as unknown as Stream, constants.Z_FINISH, "gzip");
}

/** RFC 8878, including several frames. The caller checks that the last frame is complete. */
export function zstdDecoder(): Decoder {
  const { constants, createZstdDecompress } = process.getBuiltinModule("node:zlib");
  return new StreamDecoder(createZstdDecompress() as unknown as Stream, constants.ZSTD_e_continue, "zstd");
}
