/** Writes plain data as JSON text. Integers keep all digits. */

export type Jsonable =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly Jsonable[]
  | { readonly [name: string]: Jsonable };

/** Returns compact JSON. Infinities and NaN, which JSON cannot represent, become strings. */
export function jsonText(value: Jsonable): string {
  if (typeof value === "string") return quoteJson(value);
  if (typeof value === "number" && !Number.isFinite(value)) return `"${value}"`;
  if (value === null || typeof value !== "object") return String(value);
  if (Array.isArray(value)) return `[${value.map(jsonText).join(",")}]`;
  return `{${Object.entries(value as { readonly [name: string]: Jsonable })
    .map(([name, inner]) => `${quoteJson(name)}:${jsonText(inner)}`)
    .join(",")}}`;
}

/** Control characters above ASCII and characters that change the text direction. Terminals can interpret them. */
const UNSAFE = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

export function quoteJson(text: string): string {
  return JSON.stringify(text).replace(
    UNSAFE,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
