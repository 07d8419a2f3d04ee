/** JSON with exact integers: a bigint prints as its digits, which `JSON.stringify` refuses to do. */

/** JSON that is text already, of a renderer that writes bpftool's. */
export class JsonText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** What a printer is given: plain data. `undefined` members are left out. */
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

/** `indent` "" prints one line, else it is repeated once a level. */
export function stringify(value: Json, indent = ""): string {
  // The engine's own is several times as fast, and most objects have nothing that it cannot print.
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
  if (typeof value === "number" && !Number.isFinite(value)) return "null"; // JSON has no word for them
  if (typeof value !== "object") return String(value);
  if (value instanceof JsonText) return value.text;
  const inner = newline + indent;
  const colon = indent === "" ? ":" : ": ";
  const parts: string[] = [];
  if (Array.isArray(value)) {
    // Lists of CPUs: hundreds of numbers, of thousands of tasks.
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

/** Beside what JSON escapes itself: DEL, C1, bidirectional overrides and separators, which a terminal may obey. */
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

/** Keys are few and come again and again; those of types that a machine brings along are not kept for ever. */
function quoteKey(key: string): string {
  const known = keys.get(key);
  if (known !== undefined) return known;
  const quoted = quote(key);
  if (keys.size < 1024) keys.set(key, quoted);
  return quoted;
}
