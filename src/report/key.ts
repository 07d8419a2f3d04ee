/** Parses keys: bpftool's bytes, a number, a name, or JSON for a typed key. */
import { EncodeError, encodeValue, integerOf } from "../btf/encode.ts";
import type { Jsonable } from "../btf/json.ts";
import { UsageError } from "../errors.ts";
import type { MapInfo } from "../state.ts";
import type { MapTypes } from "./typed.ts";

/**
 * Converts the text of `--key TEXT` to bytes:
 *
 * - `hex 01 02 0a` and `0x01 0x02 10 0`: bytes, as bpftool's DATA
 * - `42`, `-1`, `0xff`: the whole key as one little-endian integer, of any width
 * - `ZOO_CALM`, `true`, `eth0`: an enumerator, a bool, a `char[]`
 * - `{"pid": 1, "in": [1, 2]}`: members by name; omitted members are zero
 *
 * Throws `UsageError`.
 */
export function keyFromText(text: string, map: MapInfo, types: MapTypes | undefined): Uint8Array {
  if (map.keySize === 0) throw new UsageError(`--key: map ${map.id} has no keys`);
  const trimmed = text.trim();
  const words = trimmed.split(/\s+/);
  const type = types?.key;
  const isJson = /^[{["]/.test(trimmed);
  if (
    !isJson &&
    (words[0] === "hex" || (words.length > 1 && words.every((word) => /^(0x)?[0-9a-f]+$/i.test(word))))
  )
    return keyFromWords(words, map);
  if (type === undefined) return untyped(trimmed, map);
  const value = isJson ? parseJson(trimmed) : trimmed;
  try {
    return encodeValue(type.btf, type.id, value, map.keySize);
  } catch (error) {
    if (!(error instanceof EncodeError)) throw error;
    throw new UsageError(`--key ${text}: ${error.message}`, { hint: error.hint });
  }
}

/** Parses bpftool's `[hex] BYTES` (`parse_bytes` of tools/bpf/bpftool/map.c): one number per byte of the key. */
export function keyFromWords(words: readonly string[], map: MapInfo): Uint8Array {
  const [first = ""] = words;
  const inHex = first !== "" && "hex".startsWith(first);
  const digits = inHex ? words.slice(1) : words;
  const bytes = digits.map((word) => {
    const value = byteOf(word, inHex);
    if (value === undefined) throw new UsageError(`key: ${JSON.stringify(word)} is not a byte`);
    return value;
  });
  if (bytes.length !== map.keySize)
    throw new UsageError(`key: map ${map.id} expects ${map.keySize} bytes, got ${bytes.length}`);
  return Uint8Array.from(bytes);
}

/** Parses like `strtoul` with base 16, or with base 0, in which a leading 0 means octal. */
function byteOf(word: string, inHex: boolean): number | undefined {
  const hex = /^(?:0x)?([0-9a-f]+)$/i.exec(word);
  let value: number | undefined;
  if (inHex || /^0x/i.test(word)) value = hex === null ? undefined : Number.parseInt(hex[1]!, 16);
  else if (/^0[0-7]+$/.test(word)) value = Number.parseInt(word, 8);
  else if (/^\d+$/.test(word)) value = Number(word);
  return value !== undefined && value <= 0xff ? value : undefined;
}

function untyped(text: string, map: MapInfo): Uint8Array {
  const value = integerOf(text);
  if (value === undefined)
    throw new UsageError(`--key ${text}: the map's key has no type: give a number, or bytes as in hex 01 02`);
  const bits = BigInt(map.keySize * 8);
  if (value >= 1n << bits || value < -(1n << (bits - 1n)))
    throw new UsageError(`--key ${text}: it does not fit in ${map.keySize} bytes`);
  const bytes = new Uint8Array(map.keySize);
  let rest = BigInt.asUintN(Number(bits), value);
  for (let at = 0; at < bytes.length && rest > 0n; at++, rest >>= 8n) bytes[at] = Number(rest & 0xffn);
  return bytes;
}

type Reviver = (
  this: unknown,
  key: string,
  value: unknown,
  context?: { readonly source?: string },
) => unknown;

/** Parses JSON. Integers keep all digits. */
function parseJson(text: string): Jsonable {
  const exact: Reviver = (_key, value, context) => {
    const source = context?.source ?? "";
    return typeof value === "number" && /^-?\d+$/.test(source) ? BigInt(source) : value;
  };
  try {
    return JSON.parse(text, exact as (this: unknown, key: string, value: unknown) => unknown) as Jsonable;
  } catch (error) {
    throw new UsageError(
      `--key ${text}: not valid JSON: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}
