/** Classes of `BTF_KIND_*`. */
import { BTF_KIND, BTF_KIND_NAMES } from "../uapi/btf.ts";

/** Returns a lookup table with 1 for each of `kinds`. Kinds are tested for every type that is followed. */
function kindTable(...kinds: readonly number[]): Uint8Array {
  const table = new Uint8Array(0x80);
  for (const kind of kinds) table[kind] = 1;
  return table;
}

const MODIFIERS = kindTable(BTF_KIND.CONST, BTF_KIND.VOLATILE, BTF_KIND.RESTRICT, BTF_KIND.TYPE_TAG);
const ALIASES = MODIFIERS.slice();
ALIASES[BTF_KIND.TYPEDEF] = 1;
const SIZED = kindTable(
  BTF_KIND.INT,
  BTF_KIND.STRUCT,
  BTF_KIND.UNION,
  BTF_KIND.ENUM,
  BTF_KIND.ENUM64,
  BTF_KIND.FLOAT,
  BTF_KIND.DATASEC,
);

/** Returns whether the kind is CONST, VOLATILE, RESTRICT or TYPE_TAG. */
export function isModifier(kind: number): boolean {
  return MODIFIERS[kind] === 1;
}

/** Returns whether the kind is STRUCT or UNION. */
export function isStruct(kind: number): boolean {
  return kind === BTF_KIND.STRUCT || kind === BTF_KIND.UNION;
}

/** Returns whether the kind is a modifier or TYPEDEF: the type is equivalent to the one that it refers to. */
export function isAlias(kind: number): boolean {
  return ALIASES[kind] === 1;
}

/** Returns the kind's name: "STRUCT", or "kind 20" for a kind that this reader does not know. */
export function kindName(kind: number): string {
  return BTF_KIND_NAMES[kind] ?? `kind ${kind}`;
}

/** Returns whether the kind uses `btf_type.size`. */
export function hasStoredSize(kind: number): boolean {
  return SIZED[kind] === 1;
}
