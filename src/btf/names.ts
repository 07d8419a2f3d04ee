/** A hash over the names of one BTF object's types: two arrays of numbers, no string is made. */
import { BTF_KIND, btfKind } from "../uapi/btf.ts";

/** Bytes of a name that the hash looks at: a hostile string section cannot make building it slow. */
const HASHED_BYTES = 64;

export interface NameIndex {
  /** By hash: 1 + the place in the type index of the first type with it, 0: none. */
  readonly heads: Uint32Array;
  /** By place: 1 + the next place with the same hash; ascending along a chain. */
  readonly next: Uint32Array;
}

/**
 * `index` and `words` as the parser leaves them; `stringStart`: the strings before it belong to the base. Four of five
 * names in a kernel are functions'; whoever looks for types leaves them out.
 */
export function buildNameIndex(
  words: Int32Array,
  index: Int32Array,
  strings: Uint8Array,
  stringStart: number,
  baseStringHash: (offset: number) => number,
  withFunctions: boolean,
): NameIndex {
  const size = 1 << Math.max(4, 32 - Math.clz32(index.length));
  const heads = new Uint32Array(size);
  const next = new Uint32Array(index.length);
  for (let place = index.length - 1; place >= 0; place--) {
    const at = index[place]!;
    const nameOffset = words[at]! >>> 0;
    if (nameOffset === 0 || (!withFunctions && btfKind(words[at + 1]!) === BTF_KIND.FUNC)) continue;
    const hash =
      nameOffset < stringStart ? baseStringHash(nameOffset) : hashName(strings, nameOffset - stringStart);
    const slot = hash & (size - 1);
    next[place] = heads[slot]!;
    heads[slot] = place + 1;
  }
  return { heads, next };
}

/** FNV-1a over the string at `offset`, up to its NUL; a string that starts outside hashes like the empty one. */
export function hashName(strings: Uint8Array, offset: number): number {
  let hash = 0x811c9dc5;
  const end = Math.min(strings.length, offset + HASHED_BYTES);
  for (let at = offset; at < end; at++) {
    const byte = strings[at]!;
    if (byte === 0) break;
    hash = Math.imul(hash ^ byte, 0x01000193);
  }
  return hash ^ (hash >>> 15);
}

/**
 * Whether the NUL-terminated string at `offset` is `name`. Its end is looked at first: where many names are tails of one
 * long string, all but one differ there.
 */
export function nameEquals(strings: Uint8Array, offset: number, name: Uint8Array): boolean {
  if (strings[offset + name.length] !== 0) return false;
  for (let at = 0; at < name.length; at++) {
    if (strings[offset + at] !== name[at]) return false;
  }
  return true;
}
