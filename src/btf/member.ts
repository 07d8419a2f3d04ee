/** Finds struct members by path, for `Btf.member`. place.ts follows the paths that users write. */
import { BTF_KIND, btfIntBits, btfIntOffset } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";
import { isStruct } from "./kinds.ts";

/** The location of a member, relative to the struct where the path starts. */
export interface MemberPlace {
  /** For a bit-field, the byte that holds its first bit. */
  readonly byteOffset: number;
  /** The first bit within that byte; 0 if the member is not a bit-field. */
  readonly bitOffset: number;
  /** Width of a bit-field in bits; 0 if the member is not a bit-field and has the size of its type. */
  readonly bitSize: number;
  /** As declared: typedefs and modifiers are not stripped. */
  readonly typeId: number;
}

interface Found {
  bits: number;
  bitSize: number;
  typeId: number;
}

/** Limits for hostile types: nesting of anonymous structs, and members visited per lookup. */
const MAX_DEPTH = 16;
const MAX_VISITS = 100_000;

/** A path of one step, as most are. */
const NAME = /^[^.[\]]+$/;
const STEP = /^(?:\.?([^.[\]]+)|\[(\d+)\])/;

/** See `Btf.member`. */
export function findMember(btf: Btf, structId: number, path: string): MemberPlace | undefined {
  const found: Found = { bits: 0, bitSize: 0, typeId: structId };
  if (NAME.test(path)) return enterStruct(btf, found, path) ? placeOf(btf, found) : undefined;
  let rest = path;
  while (rest !== "") {
    const step = STEP.exec(rest);
    if (step === null || found.bitSize !== 0) return undefined;
    rest = rest.slice(step[0].length);
    const [, name, index] = step;
    const entered =
      name === undefined ? enterArray(btf, found, Number(index)) : enterStruct(btf, found, name);
    if (!entered) return undefined;
  }
  return placeOf(btf, found);
}

function enterArray(btf: Btf, found: Found, index: number): boolean {
  const id = btf.resolve(found.typeId);
  if (btf.kind(id) !== BTF_KIND.ARRAY) return false;
  const { elementTypeId, count } = btf.array(id);
  if (index >= count) return false;
  found.bits += index * btf.sizeOf(elementTypeId) * 8;
  found.typeId = elementTypeId;
  return true;
}

function enterStruct(btf: Btf, found: Found, name: string): boolean {
  const budget = { visits: MAX_VISITS };
  return search(btf, btf.resolve(found.typeId), found.bits, Buffer.from(name), found, budget, 0);
}

/** Searches depth-first in declaration order, as C resolves a name through anonymous members. */
function search(
  btf: Btf,
  structId: number,
  baseBits: number,
  name: Uint8Array,
  found: Found,
  budget: { visits: number },
  depth: number,
): boolean {
  if (!isStruct(btf.kind(structId))) return false;
  const count = btf.vlen(structId);
  for (let from = 0; from < count; ) {
    const n = btf.memberNamed(structId, name, from);
    budget.visits -= (n < 0 ? count : n + 1) - from;
    if (n < 0 || budget.visits < 0) return false;
    from = n + 1;
    const member = btf.memberAt(structId, n);
    if (member.nameOffset !== 0) {
      found.bits = baseBits + member.bitOffset;
      found.bitSize = member.bitSize;
      found.typeId = member.typeId;
      return true;
    }
    if (depth >= MAX_DEPTH) continue;
    const inner = btf.resolve(member.typeId);
    if (search(btf, inner, baseBits + member.bitOffset, name, found, budget, depth + 1)) return true;
  }
  return false;
}

function placeOf(btf: Btf, { bits, bitSize, typeId }: Found): MemberPlace {
  const id = btf.resolve(typeId);
  if (bitSize === 0 && btf.kind(id) === BTF_KIND.INT) {
    // Older compilers do not set the kind flag. They write a bit-field as an INT with fewer bits than its storage.
    const trailer = btf.trailer(id);
    const intBits = btfIntBits(trailer);
    if (intBits !== btf.storedSize(id) * 8) {
      const first = bits + btfIntOffset(trailer);
      return { byteOffset: Math.floor(first / 8), bitOffset: first % 8, bitSize: intBits, typeId };
    }
  }
  return { byteOffset: Math.floor(bits / 8), bitOffset: bits % 8, bitSize, typeId };
}
