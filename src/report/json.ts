/** JSON with exact integers: a bigint prints as its digits, which `JSON.stringify` refuses to do. */

/** What a printer is given: plain data. `undefined` members are left out. */
export type Json =
  | string
  | number
  | bigint
  | boolean
  | null
  | undefined
  | readonly Json[]
  | { readonly [key: string]: Json };

/** `indent` "" prints one line, else it is repeated once a level. */
export function stringify(value: Json, indent = ""): string {
  return write(value, indent, indent === "" ? "" : "\n");
}

function write(value: Json, indent: string, newline: string): string {
  if (value === null || value === undefined) return "null";
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object") return quote(value);
  const inner = newline + indent;
  const colon = indent === "" ? ":" : ": ";
  const parts: string[] = [];
  if (Array.isArray(value)) {
    for (const item of value as readonly Json[]) parts.push(inner + write(item, indent, inner));
    return parts.length === 0 ? "[]" : `[${parts.join(",")}${newline}]`;
  }
  for (const [key, item] of Object.entries(value as { [key: string]: Json })) {
    if (item !== undefined) parts.push(inner + quote(key) + colon + write(item, indent, inner));
  }
  return parts.length === 0 ? "{}" : `{${parts.join(",")}${newline}}`;
}

/** A string, number or boolean. Control characters that JSON lets through (DEL, C1, separators) are escaped too. */
function quote(value: string | number | boolean): string {
  return JSON.stringify(value).replace(
    /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
