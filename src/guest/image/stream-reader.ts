/** Reads a file from its start to its end, big-endian numbers and names, as network protocols write them. */
import { FormatError } from "../../errors.ts";
import { u53be, viewOf } from "../../uapi/layout.ts";
import type { ReadableFile } from "./file.ts";

/** How much is read at a time. */
const BUFFER_BYTES = 256 * 1024;

/** The file ended within a value. */
export class StreamEnd extends FormatError {}

/** It is of the format, beyond doubt, and cannot be read. */
export class UnreadStream extends FormatError {}

export class StreamReader {
  /** Where the next value begins, in bytes from the start of the file. */
  at = 0;
  readonly #file: ReadableFile;
  /** Names the file in errors. */
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

  /** Throws `StreamEnd`, as all that read do, where the file ends first. */
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

  /** A u64; numbers from 2^53 up are not exact, and for no place in a file. */
  u64(): number {
    const at = this.#take(8);
    return u53be(this.#view, at);
  }

  /** `length` bytes as Latin-1. `length` is at most 65,535. */
  text(length: number): string {
    const at = this.#take(length);
    const { buffer, byteOffset } = this.#view;
    return Buffer.from(buffer, byteOffset + at, length).toString("latin1");
  }

  /** A name behind the byte that has its length. */
  name(): string {
    return this.text(this.u8());
  }

  skip(length: number): void {
    if (length > this.#file.sizeBytes - this.at) throw this.#end();
    this.at += length;
  }

  /** The error of what stands in front of `at`. */
  error(problem: string, hint = ""): FormatError {
    return new FormatError(this.what, this.at, problem, hint);
  }

  #end(): StreamEnd {
    return new StreamEnd(this.what, this.at, "it ends here");
  }

  /** Moves behind the next `length` bytes; where they lie in `#view`. */
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
