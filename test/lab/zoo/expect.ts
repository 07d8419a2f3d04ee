/**
 * Compares bpftool's `formatted` values with the zoo's handwritten values. bpftool's rules (7.x): an anonymous struct or union
 * has the key ""; bit-fields and 128-bit integers are hex strings without a sign; chars and pointers are numbers; a char array
 * of printable text with a NUL is a string; an enum is the enumerator's name.
 */
import type { Expected } from "./answers.ts";

type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** Parses bpftool's JSON without loss: integers above 2^53 become strings, and several keys "" of a struct "#0", "#1", ... */
export function parseExactly(text: string): Json {
  let anonymous = 0;
  return JSON.parse(
    text.replace(/"":/g, () => `"#${anonymous++}":`).replace(/([:[,]\s*)(-?\d{16,})(?=\s*[,\]}])/g, '$1"$2"'),
  ) as Json;
}

const isObject = (value: Json | Expected): value is { readonly [name: string]: Json & Expected } =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Returns a member of the struct, or of an anonymous struct or union in it. */
function member(value: { readonly [name: string]: Json }, name: string): Json | undefined {
  if (name in value) return value[name];
  for (const [key, inner] of Object.entries(value)) {
    const found = key.startsWith("#") && isObject(inner) ? member(inner, name) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Returns whether a bit-field's hex equals a value. The width of the field is unknown here, so any width is accepted. */
function sameBits(raw: bigint, wanted: bigint): boolean {
  if (raw === wanted) return true;
  for (let bits = 1n; bits <= 128n; bits++)
    if (wanted < 0n && raw === BigInt.asUintN(Number(bits), wanted)) return true;
  return false;
}

function sameScalar(actual: Json, wanted: boolean | number | string): boolean {
  if (actual === wanted || String(actual) === String(wanted)) return true;
  if (typeof actual === "boolean" || Array.isArray(actual) || isObject(actual)) return false;
  const isNumber = (text: string): boolean => /^(-?\d+|0x[0-9a-f]+)$/.test(text);
  if (!isNumber(String(actual))) return false;
  if (typeof wanted === "boolean") return BigInt(String(actual)) === (wanted ? 1n : 0n);
  return isNumber(String(wanted)) && sameBits(BigInt(String(actual)), BigInt(String(wanted)));
}

const bytesOf = (items: readonly Json[]): string =>
  items.map((item) => (Number(item) & 0xff).toString(16).padStart(2, "0")).join("");

/**
 * Returns the first difference, as `path: difference`, or undefined if there is none. Enumerators in bit-fields are not
 * compared, because bpftool prints their bits.
 */
export function difference(actual: Json | undefined, wanted: Expected, path = ""): string | undefined {
  if (actual === undefined) return `${path}: not there`;
  if (isObject(wanted)) {
    const bytes = wanted["bytes"];
    if (typeof bytes === "string" && typeof actual === "string") {
      const text = Buffer.from(actual, "utf8").toString("hex");
      return bytes === text || bytes.startsWith(`${text}00`)
        ? undefined
        : `${path}: text ${text}, not ${bytes}`;
    }
    if (typeof bytes === "string" && Array.isArray(actual)) {
      return bytesOf(actual) === bytes ? undefined : `${path}: bytes ${bytesOf(actual)}, not ${bytes}`;
    }
    if (!isObject(actual)) return `${path}: ${JSON.stringify(actual)} is no struct`;
    for (const [name, value] of Object.entries(wanted)) {
      const found = difference(member(actual, name), value, `${path}.${name}`);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  if (Array.isArray(wanted)) {
    if (!Array.isArray(actual) || actual.length !== wanted.length)
      return `${path}: ${JSON.stringify(actual)}`;
    for (const [index, value] of wanted.entries()) {
      const found = difference(actual[index] as Json, value as Expected, `${path}[${index}]`);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  if (typeof wanted === "string" && /^[A-Z]/.test(wanted) && /^0x/.test(String(actual))) return undefined;
  if (wanted === null || !sameScalar(actual, wanted as boolean | number | string)) {
    return `${path}: ${JSON.stringify(actual)}, not ${JSON.stringify(wanted)}`;
  }
  return undefined;
}

/** Converts a section's variables, which bpftool prints as `{".data": [{name: value}, ...]}`, to one object. */
export function sectionMembers(formatted: Json): Json {
  if (!isObject(formatted)) return formatted;
  const [list] = Object.values(formatted);
  if (!Array.isArray(list) || !Object.keys(formatted)[0]?.startsWith(".")) return formatted;
  return Object.assign({}, ...list) as Json;
}
