/** Reads a file sequentially, as big-endian integers and length-prefixed names. */
import { FormatError } from "../../errors.ts";
import { u53be, viewOf } from "../../uapi/layout.ts";
import type { ReadableFile } from "./file.ts";

/** Bytes that are read at a time. */
const BUFFER_BYTES = 256 * 1024;

/** Thrown if the file ends within a value. */
export class StreamEnd extends FormatError {}

/** Thrown if the file is certainly of the format, but cannot be read. */
export class UnsupportedStream extends FormatError {}

export class StreamReader {
  /** Offset of the next value in the file. */
  at = 0;
  readonly #file: ReadableFile;
  /** The file's name in errors. */
  readonly what: string;
  #view: DataView = viewOf(new Uint8Array(0));
  #viewAt = 0;

  constructor(file: ReadableFile, what: string) {
    this.#file = file;
    this.what = what;
  }

  get sizeBytes(): number {
    return this.#file.sizeBytes;
  }

  get isAtEnd(): boolean {
    return this.at >= this.#file.sizeBytes;
  }

  /** This and the other read methods throw `StreamEnd` if the file ends first. */
  u8(): number {
    // `#take` may replace the view.
    const at = this.#take(1);
    return this.#view.getUint8(at);
  }

  u16(): number {
    const at = this.#take(2);
    return this.#view.getUint16(at);
  }

  u32(): number {
    const at = this.#take(4);
    return this.#view.getUint32(at);
  }

  /** Reads a u64. Values from 2^53 are rounded; no offset in a file is that large. */
  u64(): number {
    const at = this.#take(8);
    return u53be(this.#view, at);
  }

  /** Reads `length` bytes, at most 65,535, as Latin-1. */
  text(length: number): string {
    const at = this.#take(length);
    const { buffer, byteOffset } = this.#view;
    return Buffer.from(buffer, byteOffset + at, length).toString("latin1");
  }

  /** Reads a name that follows its length, which is one byte. */
  name(): string {
    return this.text(this.u8());
  }

  skip(length: number): void {
    if (length > this.#file.sizeBytes - this.at) throw this.#end();
    this.at += length;
  }

  /** Returns an error at the current offset. */
  error(problem: string, hint = ""): FormatError {
    return new FormatError(this.what, this.at, problem, hint);
  }

  #end(): StreamEnd {
    return new StreamEnd(this.what, this.at, "the file is truncated here");
  }

  /** Skips the next `length` bytes. Returns their offset in `#view`. */
  #take(length: number): number {
    let inView = this.at - this.#viewAt;
    if (inView < 0 || inView + length > this.#view.byteLength) {
      this.#view = viewOf(this.#file.read(this.at, BUFFER_BYTES));
      this.#viewAt = this.at;
      inView = 0;
      if (this.#view.byteLength < length) throw this.#end();
    }
    this.at += length;
    return inView;
  }
}
