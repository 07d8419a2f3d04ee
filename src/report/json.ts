/** JSON with exact integers: bigints, which `JSON.stringify` refuses, are printed as their digits. */

/** Text that is already JSON. */
export class JsonText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
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
  if (value instanceof JsonText) return false;
  if (Array.isArray(value)) return value.every(isPlain);
  for (const key in value) if (!isPlain((value as { readonly [key: string]: Json })[key])) return false;
  return true;
}

function write(value: Json, indent: string, newline: string): string {
  if (value === null || value === undefined) return "null";
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "string") return quote(value);
  if (typeof value === "number" && !Number.isFinite(value)) return "null"; // JSON cannot express them
  if (typeof value !== "object") return String(value);
  if (value instanceof JsonText) return value.text;
  const inner = newline + indent;
  const colon = indent === "" ? ":" : ": ";
  const parts: string[] = [];
  if (Array.isArray(value)) {
    // Fast path for lists of CPUs: hundreds of numbers for each of thousands of tasks.
    if (indent === "" && value.every(Number.isFinite)) return `[${value.join(",")}]`;
    for (const item of value as readonly Json[]) parts.push(inner + write(item, indent, inner));
    return parts.length === 0 ? "[]" : `[${parts.join(",")}${newline}]`;
  }
  const object = value as { readonly [key: string]: Json };
  for (const key in object) {
    const item = object[key];
    if (item !== undefined) parts.push(inner + quoteKey(key) + colon + write(item, indent, inner));
  }
  return parts.length === 0 ? "{}" : `{${parts.join(",")}${newline}}`;
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
