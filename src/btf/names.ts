/** Name lookup in one BTF object. Names are compared as bytes; no strings are created. */
import { BTF_KIND, btfKind } from "../uapi/btf.ts";

/** Bytes of a name that are hashed. The limit bounds the time to build the index over a hostile string section. */
const HASHED_BYTES = 64;

/** A hash table of names. Names are numbered from 1; 0 ends a chain. */
export interface NameIndex {
  /** The first name of each hash chain. */
  readonly heads: Int32Array;
  /** For each name, the next name in its hash chain. Its type index is higher. */
  readonly next: Int32Array;
  /** For each name, the index of its type in the type index. */
  readonly places: Int32Array;
}

/**
 * Builds the hash table over the types in `index` and `words`, which the parser made. Strings before `stringStart`
 * belong to the base BTF. Without `withFunctions`, functions are left out: they have four fifths of a kernel's names.
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

/** Returns the indexes of the named types, ascending. Entry 0 is unused. */
function namedPlaces(words: Int32Array, index: Int32Array, withFunctions: boolean): Int32Array {
  let places: Int32Array = new Int32Array(withFunctions ? index.length + 1 : (index.length >>> 2) + 1);
  let count = 1;
  const all = index.length; // read once: before this loop is compiled, each read is a call
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

/** Hashes the string at `offset` up to its NUL. A string that starts outside the section hashes like the empty string. */
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
 * Returns whether the NUL-terminated string at `offset` equals `name`. The terminator is compared first: if many names
 * are tails of one long string, it rejects all but one of them.
 */
export function nameEquals(strings: Uint8Array, offset: number, name: Uint8Array): boolean {
  if (strings[offset + name.length] !== 0) return false;
  for (let at = 0; at < name.length; at++) {
    if (strings[offset + at] !== name[at]) return false;
  }
  return true;
}

/** Compares the NUL-terminated string at `offset` with `name`, like strcmp(). Bytes outside the section read as NUL. */
export function compareName(strings: Uint8Array, offset: number, name: Uint8Array): number {
  const length = name.length;
  for (let at = 0; at < length; at++) {
    const byte = strings[offset + at] ?? 0;
    if (byte !== name[at]) return byte - name[at]!;
  }
  return strings[offset + length] ?? 0;
}

/** Bytes that `compareStrings` compares at most: a hostile string can be very long. */
const COMPARED_BYTES = 1024;

/** Compares two NUL-terminated strings, like strcmp(), up to `COMPARED_BYTES`. */
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

/** Types that are sampled to test whether names are sorted. An object with fewer types is tested completely. */
const SAMPLED_PLACES = 256;

/**
 * Tests by samples whether an object's types are sorted by name, with unnamed types first. Linux 7.2 sorts the BTF of
 * the kernel and its modules and relies on the order (kernel/bpf/btf.c, btf_check_sorted). Other objects can have any
 * order. `compare` compares the names at two indexes.
 */
export function areNamesSorted(count: number, compare: (place: number, other: number) => number): boolean {
  const samples = Math.min(count, SAMPLED_PLACES);
  let before = 0;
  for (let sample = 1; sample < samples; sample++) {
    const place = Math.floor((sample * (count - 1)) / (samples - 1));
    if (compare(before, place) > 0) return false;
    before = place;
  }
  return true;
}

/** Searches `count` sorted types. Returns the first index whose name compares equal and for which `fits` is true, or -1. */
export function findSorted(
  count: number,
  compare: (place: number) => number,
  fits: (place: number) => boolean,
): number {
  let place = lowerBound(0, count, compare);
  const scanEnd = Math.min(count, place + LINEAR_SCAN_TYPES);
  for (; place < scanEnd; place++) {
    if (compare(place) !== 0) return -1;
    if (fits(place)) return place;
  }
  // The end of the equal names is found by binary search: a hostile object can have 100,000 types with one name.
  const end = lowerBound(place, count, (one) => (compare(one) <= 0 ? -1 : 1));
  for (; place < end; place++) if (fits(place)) return place;
  return -1;
}

/** Types of one name that are tested in a linear scan before the binary search for their end. */
const LINEAR_SCAN_TYPES = 4;

/** Returns the first index whose name is not less than the wanted name. */
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
