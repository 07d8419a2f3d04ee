/** Computes the alignment that a C compiler gives to types. BTF does not store it. */
import { FormatError } from "../errors.ts";
import { BTF_KIND } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";

/** Maximum nesting of structs. The kernel accepts 32 levels. */
const MAX_DEPTH = 64;

/** Alignments and packedness of types, cached per type. */
export class Alignments {
  readonly #btf: Btf;
  readonly #known = new Map<number, number>();
  readonly #packed = new Set<number>();

  constructor(btf: Btf) {
    this.#btf = btf;
  }

  /** Returns the alignment in bytes; 1 for types without one. Throws `FormatError` if a type contains itself. */
  of(typeId: number, depth = 0): number {
    const btf = this.#btf;
    const id = btf.resolve(typeId);
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    if (depth > MAX_DEPTH)
      throw new FormatError("BTF", 0, `type ${typeId}: structs nest deeper than ${MAX_DEPTH}`);
    const kind = btf.kind(id);
    let alignment = 1;
    if (kind === BTF_KIND.ARRAY) alignment = this.of(btf.array(id).elementTypeId, depth + 1);
    else if (kind === BTF_KIND.STRUCT || kind === BTF_KIND.UNION) alignment = this.#ofStruct(id, depth);
    else alignment = Math.min(16, largestPowerOfTwo(btf.sizeOf(id)));
    this.#known.set(id, alignment);
    return alignment;
  }

  /** Returns whether the struct's layout needs `__attribute__((packed))`. */
  isPacked(id: number): boolean {
    this.of(id);
    return this.#packed.has(id);
  }

  #ofStruct(id: number, depth: number): number {
    const btf = this.#btf;
    let alignment = 1;
    let misplaced = false;
    for (const { typeId, bitOffset, bitSize } of btf.members(id)) {
      const own = this.of(typeId, depth + 1);
      alignment = Math.max(alignment, own);
      if (bitSize === 0) misplaced ||= bitOffset % (own * 8) !== 0;
      else misplaced ||= straddles(bitOffset, bitSize, btf.sizeOf(typeId) * 8);
    }
    if (!misplaced && btf.storedSize(id) % alignment === 0) return alignment;
    this.#packed.add(id);
    return 1;
  }
}

/** Returns whether a bit-field crosses a boundary of its type's storage units, which happens only in packed structs. */
function straddles(bitOffset: number, bitSize: number, unitBits: number): boolean {
  return (
    unitBits > 0 && Math.floor(bitOffset / unitBits) !== Math.floor((bitOffset + bitSize - 1) / unitBits)
  );
}

function largestPowerOfTwo(size: number): number {
  let power = 1;
  while (power * 2 <= size && size % (power * 2) === 0) power *= 2;
  return power;
}
