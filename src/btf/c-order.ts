/**
 * Sorts types for `format c`: enums, integers, structs by name, then functions. A type that refers to another type is
 * sorted by that type (tools/bpf/bpftool/btf.c, sort_btf_c). This order keeps the diff of two kernels' headers small.
 */
import { FormatError } from "../errors.ts";
import { BTF_KIND } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";
import { isModifier, isStruct } from "./kinds.ts";

const MAX_RANK = 10;
/** Limit on the length of a chain of references. No compiler emits longer ones. */
const MAX_DEPTH = 256;

interface Key {
  readonly id: number;
  readonly rank: number;
  /** The name of the type at the end of the chain of references. */
  readonly sortName: string;
  readonly name: string;
  /** Breaks ties between types with equal names. Computed lazily. */
  hash: Hash | undefined;
}

/** A u64 as two 32-bit words. */
interface Hash {
  readonly hi: number;
  readonly lo: number;
}

/** Returns the ids of the BTF without its base, sorted. Throws `FormatError` if a chain of references is too long. */
export function sortedIds(btf: Btf): number[] {
  const keys: Key[] = [];
  for (let id = btf.firstId; id < btf.typeCount; id++)
    keys.push({
      id,
      rank: rankOf(btf, id),
      sortName: sortNameOf(btf, id),
      name: btf.typeName(id),
      hash: undefined,
    });
  return keys.sort((a, b) => compare(btf, a, b)).map(({ id }) => id);
}

function compare(btf: Btf, a: Key, b: Key): number {
  if (a.rank !== b.rank) return a.rank - b.rank;
  if (a.sortName !== b.sortName) return a.sortName < b.sortName ? -1 : 1;
  if (a.name !== b.name) return a.name < b.name ? -1 : 1;
  a.hash ??= hashOf(btf, a.id, true, 0);
  b.hash ??= hashOf(btf, b.id, true, 0);
  return a.hash.hi - b.hash.hi || a.hash.lo - b.hash.lo || a.id - b.id;
}

/** PTR, TYPEDEF, DECL_TAG and modifiers are sorted by the type that they refer to. */
const isReference = (kind: number): boolean =>
  kind === BTF_KIND.PTR || kind === BTF_KIND.TYPEDEF || kind === BTF_KIND.DECL_TAG || isModifier(kind);

/** Does what `btf_type_rank` does. */
function rankOf(btf: Btf, start: number): number {
  let id = start;
  let hasName = false;
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const kind = btf.kind(id);
    hasName ||= btf.typeName(id) !== "";
    if (kind === BTF_KIND.ENUM || kind === BTF_KIND.ENUM64) return hasName ? 1 : 0;
    if (kind === BTF_KIND.INT || kind === BTF_KIND.FLOAT) return 2;
    if (!hasName) return MAX_RANK;
    if (isStruct(kind)) return 3;
    if (kind === BTF_KIND.FUNC_PROTO) return 4;
    if (kind === BTF_KIND.ARRAY) id = btf.array(id).elementTypeId;
    else if (isReference(kind)) id = btf.referenced(id);
    else return MAX_RANK;
  }
  throw chainError(start);
}

/** Does what `btf_type_sort_name` does. */
function sortNameOf(btf: Btf, start: number): string {
  let id = start;
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const kind = btf.kind(id);
    if (kind === BTF_KIND.ARRAY) id = btf.array(id).elementTypeId;
    else if (isReference(kind)) id = btf.referenced(id);
    else {
      const isEnum = kind === BTF_KIND.ENUM || kind === BTF_KIND.ENUM64;
      const name = btf.typeName(id);
      if (!isEnum || name !== "" || id !== start) return name;
      for (const { name: first } of btf.enumValues(id)) return first;
      return "";
    }
  }
  throw chainError(start);
}

/** Hashes names and, if `withMembers`, the names and types of members (`btf_type_disambig_hash`). */
function hashOf(btf: Btf, id: number, withMembers: boolean, depth: number): Hash {
  if (depth > MAX_DEPTH) throw chainError(id);
  const kind = btf.kind(id);
  let hash = addName({ hi: 0, lo: 0 }, btf.typeName(id));
  if (kind === BTF_KIND.ENUM || kind === BTF_KIND.ENUM64) {
    for (const { name } of btf.enumValues(id)) hash = addName(hash, name);
  } else if (isStruct(kind)) {
    if (!withMembers) return hash;
    for (const { name, typeId } of btf.members(id))
      hash = add(addName(hash, name), hashOf(btf, typeId, false, depth + 1));
  } else if (kind === BTF_KIND.ARRAY) {
    const { count, elementTypeId } = btf.array(id);
    hash = add(add(hash, { hi: 0, lo: count }), hashOf(btf, elementTypeId, withMembers, depth + 1));
  } else if (isReference(kind)) hash = add(hash, hashOf(btf, btf.referenced(id), withMembers, depth + 1));
  return hash;
}

const TWO_32 = 2 ** 32;

const isAscii = (name: string): boolean => /^[\0-\x7f]*$/.test(name);

/** Returns `hash * 31 + value` in 64 bits. */
function add({ hi, lo }: Hash, value: Hash): Hash {
  const low = lo * 31 + value.lo;
  return { hi: (hi * 31 + value.hi + Math.floor(low / TWO_32)) % TWO_32, lo: low % TWO_32 };
}

function addName(hash: Hash, name: string): Hash {
  return name === "" ? hash : add(hash, nameHash(name));
}

/** Hashes a string as `str_hash` of tools/lib/bpf/hashmap.h does, where characters are signed. */
function nameHash(name: string): Hash {
  const bytes = isAscii(name) ? undefined : Buffer.from(name);
  const length = bytes?.length ?? name.length;
  let hi = 0;
  let lo = 0;
  for (let at = 0; at < length; at++) {
    const byte = bytes === undefined ? name.charCodeAt(at) : bytes[at]!;
    const isNegative = byte >= 0x80;
    const low = lo * 31 + (isNegative ? byte + TWO_32 - 0x100 : byte);
    hi = (hi * 31 + (isNegative ? TWO_32 - 1 : 0) + Math.floor(low / TWO_32)) % TWO_32;
    lo = low % TWO_32;
  }
  return { hi, lo };
}

function chainError(id: number): FormatError {
  return new FormatError("BTF", 0, `type ${id}: its chain of references is too long`);
}
