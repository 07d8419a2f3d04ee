/** Parses JSON into plain data with exact integers. */
import { FormatError } from "../errors.ts";

export type ParsedJson =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly ParsedJson[]
  | { readonly [key: string]: ParsedJson };

/** Limit on nesting. Prevents a stack overflow by hostile files; ktstr's own JSON is not as deep. */
const MAX_DEPTH = 500;

/**
 * Integers of up to 53 bits become numbers, larger ones bigints. Objects have no prototype, so that no key is special; the
 * last of duplicate keys wins. Throws `FormatError`.
 */
export function parseJson(text: string, what: string): ParsedJson {
  const parser = new Parser(text, what);
  const value = parser.value(0);
  parser.end();
  return value;
}

const BLANK = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const WORDS = [
  ["true", true],
  ["false", false],
  ["null", null],
] as const;

class Parser {
  readonly #text: string;
  readonly #what: string;
  #at = 0;

  constructor(text: string, what: string) {
    this.#text = text;
    this.#what = what;
  }

  value(depth: number): ParsedJson {
    if (depth > MAX_DEPTH) this.#fail(`nested deeper than ${MAX_DEPTH}`);
    this.#skip(BLANK);
    switch (this.#text[this.#at]) {
      case "{":
        return this.#object(depth);
      case "[":
        return this.#array(depth);
      case '"':
        return this.#string();
      default:
        return this.#scalar();
    }
  }

  end(): void {
    this.#skip(BLANK);
    if (this.#at < this.#text.length) this.#fail("unexpected text after the value");
  }

  #object(depth: number): ParsedJson {
    const object: { [key: string]: ParsedJson } = Object.create(null);
    this.#at++;
    if (this.#takes("}")) return object;
    do {
      this.#skip(BLANK);
      if (this.#text[this.#at] !== '"') this.#fail("expected a key");
      const key = this.#string();
      if (!this.#takes(":")) this.#fail("expected a colon");
      object[key] = this.value(depth + 1);
    } while (this.#takes(","));
    if (!this.#takes("}")) this.#fail("an object is not closed");
    return object;
  }

  #array(depth: number): ParsedJson {
    const array: ParsedJson[] = [];
    this.#at++;
    if (this.#takes("]")) return array;
    do array.push(this.value(depth + 1));
    while (this.#takes(","));
    if (!this.#takes("]")) this.#fail("an array is not closed");
    return array;
  }

  #string(): string {
    const start = this.#at;
    let isPlain = true;
    for (let at = start + 1; at < this.#text.length; at++) {
      const code = this.#text.charCodeAt(at);
      if (code === QUOTE) {
        this.#at = at + 1;
        return isPlain ? this.#text.slice(start + 1, at) : this.#unescape(start);
      }
      if (code < 0x20) this.#fail("a string contains a control character");
      if (code !== BACKSLASH) continue;
      isPlain = false;
      at++;
    }
    this.#fail("a string is not closed");
  }

  #unescape(start: number): string {
    try {
      return JSON.parse(this.#text.slice(start, this.#at)) as string;
    } catch {
      this.#fail("a string has an invalid escape");
    }
  }

  #scalar(): ParsedJson {
    for (const [word, value] of WORDS)
      if (this.#text.startsWith(word, this.#at)) {
        this.#at += word.length;
        return value;
      }
    const number = this.#skip(NUMBER);
    if (number === undefined) this.#fail("expected a value");
    const [token, fraction, exponent] = number;
    const value = Number(token);
    if (fraction !== undefined || exponent !== undefined || Number.isSafeInteger(value)) return value;
    return BigInt(token);
  }

  #takes(character: string): boolean {
    this.#skip(BLANK);
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #skip(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found === null) return undefined;
    this.#at = pattern.lastIndex;
    return found;
  }

  #fail(problem: string): never {
    throw new FormatError(this.#what, this.#at, problem);
  }
}
