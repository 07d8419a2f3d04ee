/** The decoders that the runtime has: gzip and zstd. */
import { KtstrError } from "../../errors.ts";
import type { Decoder, Step } from "./unpack.ts";

/**
 * What is behind a stream of node:zlib. Node and Bun have it alike; by it the output is written into a buffer of a
 * fixed size, and no event is waited for.
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
  /** After a write: bytes of output that are free, bytes of input that are left. */
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
      throw new KtstrError(`this Bun (${Bun.version}) does not decompress in steps`, {
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

/** RFC 1952, with as many members as there are. */
export function gzipDecoder(): Decoder {
  const { constants, createGunzip } = process.getBuiltinModule("node:zlib");
  return new StreamDecoder(createGunzip() as unknown as Stream, constants.Z_FINISH, "gzip");
}

/** RFC 8878, with as many frames as there are. Whether the last one is complete, their headers tell. */
export function zstdDecoder(): Decoder {
  const { constants, createZstdDecompress } = process.getBuiltinModule("node:zlib");
  return new StreamDecoder(createZstdDecompress() as unknown as Stream, constants.ZSTD_e_continue, "zstd");
}
