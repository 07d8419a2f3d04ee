/** Standard output, or a file: buffered bytes that are written whole, whatever the other end does. */
import { KtstrError } from "../errors.ts";
import { EAGAIN, EINTR, EIO, EPIPE, errnoName } from "../uapi/errno.ts";

/** The reader went away (`| head -1`): nothing is wrong, and nothing more is wanted. */
export class ClosedPipeError extends KtstrError {
  constructor() {
    super("the output was closed by its reader");
  }
}

/** write(2): how many bytes were taken, or `-errno`. */
export type Write = (fd: number, bytes: Uint8Array<ArrayBuffer>) => number;

let write: Write = (fd, bytes) => {
  try {
    return process.getBuiltinModule("node:fs").writeSync(fd, bytes);
  } catch (error) {
    return (error as NodeJS.ErrnoException).errno ?? -EIO;
  }
};

/** From now on by this call: libc's, where it is open anyway, for loading node:fs takes 2 ms. */
export function writeThrough(call: Write): void {
  write = call;
}

const CAPACITY = 256 * 1024;
/** A value is written in pieces of at most this many bytes, so a piece always fits an emptied buffer. */
const PIECE = 8192;

/** What JSON puts between values is no longer. */
const SHORT = 16;

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/**
 * `"0x00",` for each byte as the eight bytes of a double: one store a byte instead of seven. The eighth is a
 * blank that the next store overwrites; as the double's highest byte it also keeps it from being a NaN.
 */
const JSON_HEX = new Float64Array(
  Buffer.from(HEX.map((hex) => `"0x${hex}", `).join(""), "latin1").buffer.slice(0),
);

const BLANK = 0x20;
/** `00 ` for each byte, in the same way: the fourth of four bytes is overwritten by the next. */
const TEXT_HEX = Uint32Array.from(
  HEX,
  (hex) => hex.charCodeAt(0) | (hex.charCodeAt(1) << 8) | (BLANK << 16) | (BLANK << 24),
);

export class Output {
  readonly #fd: number;
  readonly #bytes = new Uint8Array(new ArrayBuffer(CAPACITY + 16));
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #buffer = Buffer.from(this.#bytes.buffer);
  #used = 0;

  constructor(fd = 1) {
    this.#fd = fd;
  }

  /** Throws `ClosedPipeError`, or `KtstrError` where the output cannot be written (a full disk). */
  text(text: string): this {
    if (text.length <= SHORT && this.#ascii(text)) return this;
    // A UTF-16 unit takes at most three bytes of UTF-8.
    if (text.length * 3 <= CAPACITY) {
      this.#reserve(text.length * 3);
      this.#used += this.#buffer.write(text, this.#used, "utf8");
      return this;
    }
    this.flush();
    this.#writeAll(Buffer.from(text, "utf8"));
    return this;
  }

  line(text = ""): this {
    return this.text(`${text}\n`);
  }

  /** `["0x01","0x02"]`: bytes as bpftool's JSON has them. */
  jsonHex(from: Uint8Array, offset: number, length: number): this {
    if (length === 0) return this.text("[]");
    this.#reserve(1);
    this.#bytes[this.#used++] = 0x5b;
    for (let done = 0; done < length; done += PIECE) {
      const end = offset + Math.min(done + PIECE, length);
      this.#reserve(PIECE * 7);
      let at = this.#used;
      for (let index = offset + done; index < end; index++) {
        this.#view.setFloat64(at, JSON_HEX[from[index] as number] as number, true);
        at += 7;
      }
      this.#used = at;
    }
    this.#bytes[this.#used - 1] = 0x5d; // over the last comma
    return this;
  }

  /** `01 02 03`: bytes for people. */
  hex(from: Uint8Array, offset: number, length: number): this {
    if (length === 0) return this;
    for (let done = 0; done < length; done += PIECE) {
      const end = offset + Math.min(done + PIECE, length);
      this.#reserve(PIECE * 3);
      let at = this.#used;
      for (let index = offset + done; index < end; index++) {
        this.#view.setUint32(at, TEXT_HEX[from[index] as number] as number, true);
        at += 3;
      }
      this.#used = at;
    }
    this.#used--; // the last blank
    return this;
  }

  flush(): void {
    if (this.#used === 0) return;
    const used = this.#used;
    this.#used = 0;
    this.#writeAll(this.#bytes.subarray(0, used));
  }

  /** Letter by letter: for few of them that is faster than a call out of the engine. False: some are not ASCII. */
  #ascii(text: string): boolean {
    this.#reserve(SHORT);
    const bytes = this.#bytes;
    const used = this.#used;
    for (let index = 0; index < text.length; index++) {
      const unit = text.charCodeAt(index);
      if (unit > 0x7f) return false;
      bytes[used + index] = unit;
    }
    this.#used = used + text.length;
    return true;
  }

  #reserve(size: number): void {
    if (this.#used + size > CAPACITY) this.flush();
  }

  #writeAll(bytes: Uint8Array<ArrayBuffer>): void {
    let done = 0;
    while (done < bytes.length) {
      const result = write(this.#fd, bytes.subarray(done));
      if (result >= 0) done += result;
      else if (result === -EAGAIN) waitABit();
      else if (result === -EPIPE) throw new ClosedPipeError();
      else if (result !== -EINTR) throw new KtstrError(`write: ${errnoName(-result)}`);
    }
  }
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** A pipe whose other end is slow and that somebody made non-blocking: there is nothing to wait on but time. */
function waitABit(): void {
  Atomics.wait(sleeper, 0, 0, 1);
}
