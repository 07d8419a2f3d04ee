/** Reads the lines of a batch file in bpftool's grammar (tools/bpf/bpftool/main.c, do_batch and make_args). */
import { closeSync, openSync, readSync } from "node:fs";
import { KtstrError } from "../errors.ts";

/** BATCH_LINE_LEN_MAX and BATCH_ARG_NB_MAX of bpftool, both without the terminator. */
const MAX_LINE_BYTES = 65_535;
const MAX_WORDS = 4_095;

/** An error in the batch file itself. */
export class BatchFileError extends KtstrError {}

interface BatchLine {
  /** Line number in the file, from 1; of a continued command its first line. */
  readonly number: number;
  /** At least one. */
  readonly words: readonly string[];
}

/**
 * Yields the commands of a file, or of standard input for "-", as they arrive. Throws `KtstrError` if the file cannot be
 * opened, and `BatchFileError` for later errors.
 */
export function batchLines(path: string): Generator<BatchLine> {
  return logicalLines(path, physicalLines(path === "-" ? 0 : open(path), path));
}

function* logicalLines(path: string, lines: Generator<string, undefined>): Generator<BatchLine> {
  let number = 0;
  for (const first of lines) {
    const start = ++number;
    let text = withoutComment(first);
    while (text.endsWith("\\\n")) {
      const next = lines.next();
      if (next.done) throw failed(path, start, "it ends with \\, but no line follows");
      number++;
      text = text.slice(0, -2) + withoutComment(next.value);
      if (Buffer.byteLength(text) > MAX_LINE_BYTES) throw tooLong(path, start);
    }
    const words = wordsOf(text);
    if (words === undefined) throw failed(path, start, "a quoted word has no closing quote");
    if (words.length > MAX_WORDS) throw failed(path, start, `it has more than ${MAX_WORDS} words`);
    if (words.length > 0) yield { number: start, words };
  }
}

/** Cuts from `#` to the end of the line, also inside quotes. A backslash at the end of a comment does not continue the line. */
function withoutComment(line: string): string {
  const at = line.indexOf("#");
  return at < 0 ? line : line.slice(0, at);
}

/** Splits at blanks. A quote at the start of a word takes all up to the next quote; returns undefined if there is none. */
function wordsOf(text: string): string[] | undefined {
  const words: string[] = [];
  const token = /[ \t\r\n]*(?:(['"])|([^ \t\r\n]+))/y;
  for (let found = token.exec(text); found !== null; found = token.exec(text)) {
    const [, quote, word] = found;
    if (quote === undefined) words.push(word ?? "");
    else {
      const end = text.indexOf(quote, token.lastIndex);
      if (end < 0) return undefined;
      words.push(text.slice(token.lastIndex, end));
      token.lastIndex = end + 1;
    }
  }
  return words;
}

/** Yields lines with their line feeds; the last may have none. */
function* physicalLines(fd: number, path: string): Generator<string, undefined> {
  try {
    const chunk = Buffer.alloc(MAX_LINE_BYTES);
    let rest = Buffer.alloc(0);
    let number = 1;
    for (let size = read(fd, path, chunk); size > 0; size = read(fd, path, chunk)) {
      rest = Buffer.concat([rest, chunk.subarray(0, size)]);
      for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
        if (end >= MAX_LINE_BYTES) throw tooLong(path, number);
        yield rest.toString("utf8", 0, end + 1);
        rest = rest.subarray(end + 1);
        number++;
      }
      if (rest.length >= MAX_LINE_BYTES) throw tooLong(path, number);
    }
    if (rest.length > 0) yield rest.toString("utf8");
  } finally {
    if (fd !== 0) closeSync(fd);
  }
}

function open(path: string): number {
  try {
    return openSync(path, "r");
  } catch (error) {
    throw new KtstrError(`batch file ${path}: ${causeOf(error)}`);
  }
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Returns 0 at the end of the file. Retries if a pipe is non-blocking. */
function read(fd: number, path: string, into: Uint8Array): number {
  for (;;) {
    try {
      return readSync(fd, into);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EOF") return 0;
      if (code !== "EAGAIN" && code !== "EINTR")
        throw new BatchFileError(`batch file ${path}: ${causeOf(error)}`);
      Atomics.wait(sleeper, 0, 0, 10);
    }
  }
}

function causeOf(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" ? "there is no such file" : (code ?? String(error));
}

function failed(path: string, number: number, cause: string): BatchFileError {
  return new BatchFileError(`batch file ${path}, line ${number}: ${cause}`);
}

const tooLong = (path: string, number: number): BatchFileError =>
  failed(path, number, `it has more than ${MAX_LINE_BYTES} bytes`);
