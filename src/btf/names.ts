/** Looking for the names of one BTF object's types: numbers and bytes, no string is made. */
import { BTF_KIND, btfKind } from "../uapi/btf.ts";

/** Bytes of a name that the hash looks at: a hostile string section cannot make building it slow. */
const HASHED_BYTES = 64;

/** Names are counted from 1 on; 0 means that there is none. */
export interface NameIndex {
  /** By hash: the first name with it. */
  readonly heads: Int32Array;
  /** By name: the next one with the same hash, whose place is higher. */
  readonly next: Int32Array;
  /** By name: the place in the type index of the type that it is of. */
  readonly places: Int32Array;
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
  const places = namedPlaces(words, index, withFunctions);
  const size = 1 << Math.max(4, 32 - Math.clz32(places.length));
  const heads = new Int32Array(size);
  const next = new Int32Array(places.length);
  for (let name = places.length - 1; name > 0; name--) {
    const nameOffset = words[index[places[name]!]!]! >>> 0;
    const hash =
      nameOffset < stringStart ? baseStringHash(nameOffset) : hashName(strings, nameOffset - stringStart);
    const slot = hash & (size - 1);
    next[name] = heads[slot]!;
    heads[slot] = name;
  }
  return { heads, next, places };
}

/** From 1 on, ascending. */
function namedPlaces(words: Int32Array, index: Int32Array, withFunctions: boolean): Int32Array {
  let places: Int32Array = new Int32Array(withFunctions ? index.length + 1 : (index.length >>> 2) + 1);
  let count = 1;
  const all = index.length; // read once: a loop that was not compiled yet calls a function for it
  for (let place = 0; place < all; place++) {
    const at = index[place]!;
    if (words[at] === 0 || (!withFunctions && btfKind(words[at + 1]!) === BTF_KIND.FUNC)) continue;
    if (count === places.length) places = grown(places, index.length + 1);
    places[count++] = place;
  }
  return places.subarray(0, count);
}

function grown(array: Int32Array, length: number): Int32Array {
  const larger = new Int32Array(length);
  larger.set(array);
  return larger;
}

/** Over the string at `offset`, up to its NUL; a string that starts outside hashes like the empty one. */
export function hashName(strings: Uint8Array, offset: number): number {
  let hash = 5381;
  const end = Math.min(strings.length, offset + HASHED_BYTES);
  for (let at = offset; at < end; at++) {
    const byte = strings[at]!;
    if (byte === 0) break;
    hash = ((hash << 5) - hash + byte) | 0;
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

/** strcmp of the NUL-terminated string at `offset` with `name`: less than, equal to or greater than 0. Outside is NULs. */
export function compareName(strings: Uint8Array, offset: number, name: Uint8Array): number {
  const length = name.length;
  for (let at = 0; at < length; at++) {
    const byte = strings[offset + at] ?? 0;
    if (byte !== name[at]) return byte - name[at]!;
  }
  return strings[offset + length] ?? 0;
}

/** A hostile string is long. */
const COMPARED_BYTES = 1024;

/** The same of two strings, as far as names reach. */
export function compareStrings(
  strings: Uint8Array,
  offset: number,
  others: Uint8Array,
  otherOffset: number,
): number {
  for (let at = 0; at < COMPARED_BYTES; at++) {
    const byte = strings[offset + at] ?? 0;
    const other = others[otherOffset + at] ?? 0;
    if (byte !== other) return byte - other;
    if (byte === 0) break;
  }
  return 0;
}

/** Places that are looked at to tell whether names ascend: of an object that has no more types, all. */
const SAMPLED_PLACES = 256;

/**
 * Whether the types of an object stand in the order of their names, those without one first. In Linux 7.2 the kernel's
 * and its modules' do, and the kernel relies on it (kernel/bpf/btf.c, btf_check_sorted); others' order is any.
 * `compare` compares the names at two places.
 */
export function namesAscend(count: number, compare: (place: number, other: number) => number): boolean {
  const samples = Math.min(count, SAMPLED_PLACES);
  let before = 0;
  for (let sample = 1; sample < samples; sample++) {
    const place = Math.floor((sample * (count - 1)) / (samples - 1));
    if (compare(before, place) > 0) return false;
    before = place;
  }
  return true;
}

/** The first of `count` places in the order of names that has the name that `compare` compares with, and `fits`; -1: none. */
export function findSorted(
  count: number,
  compare: (place: number) => number,
  fits: (place: number) => boolean,
): number {
  let place = lowerBound(0, count, compare);
  const few = Math.min(count, place + FEW_OF_A_NAME);
  for (; place < few; place++) {
    if (compare(place) !== 0) return -1;
    if (fits(place)) return place;
  }
  // Where they end is searched: a hostile object has a hundred thousand of one name, and that is long.
  const end = lowerBound(place, count, (one) => (compare(one) <= 0 ? -1 : 1));
  for (; place < end; place++) if (fits(place)) return place;
  return -1;
}

/** Types of one name that are looked at one by one. */
const FEW_OF_A_NAME = 4;

/** The first place of some whose name is not less than the one that is looked for. */
function lowerBound(start: number, end: number, compare: (place: number) => number): number {
  let low = start;
  let high = end;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compare(middle) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
