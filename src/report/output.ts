/** Standard output or a file: buffered bytes, written completely despite short writes and EAGAIN. */
import { KtstrError } from "../errors.ts";
import { resetJitThreshold } from "../jit-threshold.ts";
import { EAGAIN, EINTR, EIO, EPIPE, errnoName } from "../uapi/errno.ts";

/** The reader closed the pipe (`| head -1`). The command ends without an error message. */
export class ClosedPipeError extends KtstrError {
  constructor() {
    super("the reader closed the output");
  }
}

/** write(2): returns the number of bytes written, or `-errno`. */
export type Write = (fd: number, bytes: Uint8Array<ArrayBuffer>) => number;

const writeByNode: Write = (fd, bytes) => {
  try {
    return process.getBuiltinModule("node:fs").writeSync(fd, bytes);
  } catch (error) {
    return (error as NodeJS.ErrnoException).errno ?? -EIO;
  }
};
let write = writeByNode;

/** Sets the function that writes. libc's is used if libc is already open, because loading node:fs takes 2 ms. */
export function writeThrough(call: Write): void {
  write = call;
}

const CAPACITY = 256 * 1024;
/** A value is written in pieces of at most this many bytes, so a piece always fits an emptied buffer. */
const PIECE = 8192;

/** Maximum length of text written by the ASCII fast path, such as JSON between values. */
const SHORT = 16;

const DIGITS = "0123456789abcdef";
const BLANK = 0x20;

/**
 * For each byte, the text `"0x00",` and a blank as the eight bytes of a double, so that a byte takes one store instead of
 * seven. The next store overwrites the blank. As the highest byte of the double, the blank also keeps it from being a NaN.
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

/** For each byte, the text `00 ` as four bytes. The next store overwrites the fourth. */
function textHexTable(): Uint32Array {
  const digit = (value: number): number => DIGITS.charCodeAt(value);
  const table = new Uint32Array(256);
  for (let byte = 0; byte < 256; byte++)
    table[byte] = digit(byte >>> 4) | (digit(byte & 15) << 8) | (BLANK << 16) | (BLANK << 24);
  return table;
}

/** ASCII text that is printed once per element, as doubles of eight bytes. A character is below 0x7f, so none is a NaN. */
export class Literal {
  readonly length: number;
  readonly words: Float64Array;

  constructor(text: string) {
    this.length = text.length;
    this.words = new Float64Array(Math.ceil(text.length / 8));
    const bytes = new Uint8Array(this.words.buffer);
    for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  }
}

// Made at first use, because most commands do not print bytes.
let jsonHex: Float64Array | undefined;
let textHex: Uint32Array | undefined;

export class Output {
  readonly #fd: number;
  readonly #bytes = new Uint8Array(new ArrayBuffer(CAPACITY + 16));
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #buffer = Buffer.from(this.#bytes.buffer);
  #used = 0;
  /** Number of bytes written to the file descriptor. */
  #written = 0;
  /** Lines are cut to this width in columns. Set for pages on a terminal. */
  columns: number = Number.POSITIVE_INFINITY;

  constructor(fd = 1) {
    this.#fd = fd;
  }

  /** Appends text. Throws `ClosedPipeError`, or `KtstrError` if the output cannot be written (for example, a full disk). */
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

  /** Appends a text of at most a few words, which takes a store for every eight characters. */
  literal({ words, length }: Literal): this {
    this.#reserve(8 * words.length);
    const used = this.#used;
    for (let word = 0; word < words.length; word++)
      this.#view.setFloat64(used + 8 * word, words[word]!, true);
    this.#used = used + length;
    return this;
  }

  /** Appends the first `length` bytes, at most the capacity of the buffer. */
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

  /** Cuts a line. Escape sequences take no columns. */
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

  /** Appends bytes as bpftool's JSON has them: `["0x01","0x02"]`. */
  jsonHex(from: Uint8Array, offset: number, length: number): this {
    if (length === 0) return this.text("[]");
    jsonHex ??= jsonHexTable();
    const table = jsonHex;
    this.#reserve(1 + PIECE * 7);
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
    this.#bytes[this.#used - 1] = 0x5d; // replaces the last comma
    return this;
  }

  /** Appends bytes as text: `01 02 03`. */
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

  /** Removes a line feed at the end, if it is still in the buffer. */
  chomp(): void {
    if (this.#used > 0 && this.#bytes[this.#used - 1] === 0x0a) this.#used--;
  }

  /** Offset of the end, in bytes from the start. */
  get position(): number {
    return this.#written + this.#used;
  }

  /** Discards output after a position. Returns false, and discards nothing, if some of it was already written. */
  rewind(position: number): boolean {
    if (position < this.#written || position > this.position) return false;
    this.#used = position - this.#written;
    return true;
  }

  /** Appends short ASCII text without a call of native code. Returns false if a character is not ASCII. */
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
 * Writes to standard error, and ignores a missing reader. Works without libc. Unlike `process.stderr`, everything is written
 * before this returns.
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
    else if (result === -EAGAIN) waitOneMillisecond();
    else if (result === -EPIPE) throw new ClosedPipeError();
    else if (result !== -EINTR) throw new KtstrError(`write: ${errnoName(-result)}`);
  }
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Waits 1 ms for a slow reader of a non-blocking pipe. */
function waitOneMillisecond(): void {
  Atomics.wait(sleeper, 0, 0, 1);
}
