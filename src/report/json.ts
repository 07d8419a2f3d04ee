/** Prints JSON with exact integers: bigints, for which `JSON.stringify` throws, are printed as their digits. */

/** Text that is already JSON. */
export class JsonText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** A long list whose items are made while they are printed, so that they are not in memory together. */
export class JsonList {
  readonly items: () => Iterable<Json>;

  constructor(items: () => Iterable<Json>) {
    this.items = items;
  }
}

/** Plain data to print. Members with value `undefined` are omitted. */
export type Json =
  | string
  | number
  | bigint
  | boolean
  | null
  | undefined
  | JsonText
  | JsonList
  | readonly Json[]
  | { readonly [key: string]: Json };

/** Prints one line if `indent` is "", else lines with one `indent` per level. */
export function stringify(value: Json, indent = ""): string {
  // The engine's `JSON.stringify` is several times as fast, and prints most objects exactly.
  if (isPlain(value)) return escapeUnsafe(JSON.stringify(value, undefined, indent) ?? "null");
  return write(value, indent, indent === "" ? "" : "\n");
}

function isPlain(value: Json): boolean {
  if (typeof value !== "object" || value === null) return typeof value !== "bigint";
  if (value instanceof JsonText || value instanceof JsonList) return false;
  if (Array.isArray(value)) return value.every(isPlain);
  for (const key in value) if (!isPlain((value as { readonly [key: string]: Json })[key])) return false;
  return true;
}

function write(value: Json, indent: string, newline: string): string {
  let text = "";
  new Printer((piece) => {
    text += piece;
  }, indent).print(value, newline);
  return text;
}

/** Prints the text that `stringify` returns, in pieces, so that the whole text is not in memory. */
export function writeJson(out: { text(text: string): unknown }, value: Json, indent = ""): void {
  new Printer((piece) => void out.text(piece), indent).print(value, indent === "" ? "" : "\n");
}

class Printer {
  readonly #put: (piece: string) => void;
  readonly #indent: string;
  readonly #colon: string;
  /** The last list of numbers, and its text. Thousands of tasks share one list of hundreds of CPUs. */
  #last: readonly Json[] = [];
  #lastInner = "";
  #lastText = "";

  constructor(put: (piece: string) => void, indent: string) {
    this.#put = put;
    this.#indent = indent;
    this.#colon = indent === "" ? ":" : ": ";
  }

  /** `newline`: a line feed and the indent of `value`; "" prints one line. */
  print(value: Json, newline: string): void {
    if (typeof value !== "object" || value === null) this.#put(scalarText(value));
    else if (value instanceof JsonText) this.#put(value.text);
    else if (value instanceof JsonList) this.#list(value.items(), newline);
    else if (!Array.isArray(value)) this.#object(value as { readonly [key: string]: Json }, newline);
    else if (value.length > 0 && value.every(Number.isFinite)) this.#numbers(value, newline);
    else this.#list(value, newline);
  }

  #numbers(list: readonly Json[], newline: string): void {
    const inner = newline + this.#indent;
    if (this.#last !== list || this.#lastInner !== inner) {
      this.#last = list;
      this.#lastInner = inner;
      this.#lastText = `[${inner}${list.join(`,${inner}`)}${newline}]`;
    }
    this.#put(this.#lastText);
  }

  #list(items: Iterable<Json>, newline: string): void {
    const inner = newline + this.#indent;
    let before = "[";
    for (const item of items) {
      this.#put(before);
      this.#put(inner);
      this.print(item, inner);
      before = ",";
    }
    this.#put(before === "[" ? "[]" : `${newline}]`);
  }

  #object(object: { readonly [key: string]: Json }, newline: string): void {
    const inner = newline + this.#indent;
    let before = "{";
    for (const key in object) {
      const item = object[key];
      if (item === undefined) continue;
      this.#put(before);
      this.#put(inner);
      this.#put(quoteKey(key));
      this.#put(this.#colon);
      this.print(item, inner);
      before = ",";
    }
    this.#put(before === "{" ? "{}" : `${newline}}`);
  }
}

function scalarText(value: string | number | bigint | boolean | null | undefined): string {
  if (value === null || value === undefined) return "null";
  if (typeof value === "string") return quote(value);
  if (typeof value === "number" && !Number.isFinite(value)) return "null"; // JSON cannot express them
  return value.toString();
}

/** Characters that JSON does not escape but terminals may interpret: DEL, C1, bidirectional overrides, separators. */
const UNSAFE = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const PLAIN = /^[\w .:/-]*$/;

function quote(value: string): string {
  if (PLAIN.test(value)) return `"${value}"`;
  return escapeUnsafe(JSON.stringify(value));
}

function escapeUnsafe(json: string): string {
  return json.replace(UNSAFE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

const keys = new Map<string, string>();

/** Caches quoted keys, because few distinct keys are used often. The cache is bounded: a machine's types may have any names. */
function quoteKey(key: string): string {
  const known = keys.get(key);
  if (known !== undefined) return known;
  const quoted = quote(key);
  if (keys.size < 1024) keys.set(key, quoted);
  return quoted;
}
