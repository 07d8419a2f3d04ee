/** Standard output, or a file: buffered bytes that are written whole and at once, whatever the other end does. */
import { KtstrError } from "../errors.ts";
import { resetJitThreshold } from "../jit-threshold.ts";
import { EAGAIN, EINTR, EIO, EPIPE, errnoName } from "../uapi/errno.ts";

/** The reader went away (`| head -1`): nothing is wrong, and nothing more is wanted. */
export class ClosedPipeError extends KtstrError {
  constructor() {
    super("the output was closed by its reader");
  }
}

/** write(2): how many bytes were taken, or `-errno`. */
export type Write = (fd: number, bytes: Uint8Array<ArrayBuffer>) => number;

const writeByNode: Write = (fd, bytes) => {
  try {
    return process.getBuiltinModule("node:fs").writeSync(fd, bytes);
  } catch (error) {
    return (error as NodeJS.ErrnoException).errno ?? -EIO;
  }
};
let write = writeByNode;

/** From now on by this call: libc's, where it is open anyway, for loading node:fs takes 2 ms. */
export function writeThrough(call: Write): void {
  write = call;
}

const CAPACITY = 256 * 1024;
/** A value is written in pieces of at most this many bytes, so a piece always fits an emptied buffer. */
const PIECE = 8192;

/** What JSON puts between values is no longer. */
const SHORT = 16;

const DIGITS = "0123456789abcdef";
const BLANK = 0x20;

/**
 * `"0x00",` for each byte as the eight bytes of a double: one store a byte instead of seven. The eighth is a
 * blank that the next store overwrites; as the double's highest byte it also keeps it from being a NaN.
 */
function jsonHexTable(): Float64Array {
  const table = new Float64Array(256);
  const bytes = new Uint8Array(table.buffer);
  for (let byte = 0; byte < 256; byte++) {
    const text = `"0x${DIGITS[byte >>> 4]}${DIGITS[byte & 15]}", `;
    for (let at = 0; at < 8; at++) bytes[8 * byte + at] = text.charCodeAt(at);
  }
  return table;
}

/** `00 ` for each byte, in the same way: the fourth of four bytes is overwritten by the next. */
function textHexTable(): Uint32Array {
  const digit = (value: number): number => DIGITS.charCodeAt(value);
  const table = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++)
    table[byte] = digit(byte >>> 4) | (digit(byte & 15) << 8) | (BLANK << 16) | (BLANK << 24);
  return table;
}

// Made when somebody first prints bytes: most commands never do.
let jsonHex: Float64Array | undefined;
let textHex: Uint32Array | undefined;

export class Output {
  readonly #fd: number;
  readonly #bytes = new Uint8Array(new ArrayBuffer(CAPACITY + 16));
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #buffer = Buffer.from(this.#bytes.buffer);
  #used = 0;
  /** Bytes that are written out. */
  #written = 0;
  /** Lines are cut to so many; set for a page for people on a terminal. */
  columns: number = Number.POSITIVE_INFINITY;

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
    const bytes = Buffer.from(text, "utf8");
    writeAll(write, this.#fd, bytes);
    this.#written += bytes.length;
    return this;
  }

  /** The first `length` of some bytes, at most so many as are buffered. */
  bytes(from: Uint8Array, length: number): this {
    this.#reserve(length);
    this.#bytes.set(from.subarray(0, length), this.#used);
    this.#used += length;
    return this;
  }

  line(text = ""): this {
    const cut = text.length <= this.columns ? text : text.split("\n").map(this.#cut).join("\n");
    return this.text(`${cut}\n`);
  }

  /** Escape sequences of a style take no columns. */
  readonly #cut = (line: string): string => {
    if (line.length <= this.columns) return line;
    let left = this.columns - 1;
    let isCut = false;
    const kept = line.replace(/\u001b\[\d+m|[^\u001b]/gu, (one) => {
      if (one.length > 2) return one;
      if (left > 0) {
        left--;
        return one;
      }
      isCut = true;
      return "";
    });
    return isCut ? `${kept}\u2026` : line;
  };

  /** `["0x01","0x02"]`: bytes as bpftool's JSON has them. */
  jsonHex(from: Uint8Array, offset: number, length: number): this {
    if (length === 0) return this.text("[]");
    jsonHex ??= jsonHexTable();
    const table = jsonHex;
    this.#reserve(1);
    this.#bytes[this.#used++] = 0x5b;
    for (let done = 0; done < length; done += PIECE) {
      const end = offset + Math.min(done + PIECE, length);
      this.#reserve(PIECE * 7);
      let at = this.#used;
      for (let index = offset + done; index < end; index++) {
        this.#view.setFloat64(at, table[from[index]!]!, true);
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
    textHex ??= textHexTable();
    const table = textHex;
    for (let done = 0; done < length; done += PIECE) {
      const end = offset + Math.min(done + PIECE, length);
      this.#reserve(PIECE * 3);
      let at = this.#used;
      for (let index = offset + done; index < end; index++) {
        this.#view.setUint32(at, table[from[index]!]!, true);
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
    this.#written += used;
    writeAll(write, this.#fd, this.#bytes.subarray(0, used));
  }

  /** Takes back a line feed that was printed last, where it is not written out yet. */
  chomp(): void {
    if (this.#used > 0 && this.#bytes[this.#used - 1] === 0x0a) this.#used--;
  }

  /** In bytes from the start. */
  get position(): number {
    return this.#written + this.#used;
  }

  /** Takes back what was printed behind a position. False: some of it is written out, and nothing is taken back. */
  rewind(position: number): boolean {
    if (position < this.#written || position > this.position) return false;
    this.#used = position - this.#written;
    return true;
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
    if (this.#used + size <= CAPACITY) return;
    this.flush();
    resetJitThreshold();
  }
}

/**
 * Standard error, which may have no reader, also where there is no libc to write by. Unlike `process.stderr`, nothing of
 * it is left to do when this returns.
 */
export function writeError(text: string): void {
  try {
    writeAll(writeByNode, 2, Buffer.from(text, "utf8"));
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
  }
}

function writeAll(call: Write, fd: number, bytes: Uint8Array<ArrayBuffer>): void {
  let done = 0;
  while (done < bytes.length) {
    const result = call(fd, bytes.subarray(done));
    if (result >= 0) done += result;
    else if (result === -EAGAIN) waitABit();
    else if (result === -EPIPE) throw new ClosedPipeError();
    else if (result !== -EINTR) throw new KtstrError(`write: ${errnoName(-result)}`);
  }
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** A pipe whose other end is slow and that somebody made non-blocking: there is nothing to wait on but time. */
function waitABit(): void {
  Atomics.wait(sleeper, 0, 0, 1);
}
