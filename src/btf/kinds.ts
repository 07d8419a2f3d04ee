/** What `BTF_KIND_*` are told apart by. */
import { BTF_KIND, BTF_KIND_NAMES } from "../uapi/btf.ts";

/** 1 for each of some kinds: told by one look, for this is asked of every type that is followed. */
function only(...kinds: readonly number[]): Uint8Array {
  const table = new Uint8Array(0x80);
  for (const kind of kinds) table[kind] = 1;
  return table;
}

const MODIFIERS = only(BTF_KIND.CONST, BTF_KIND.VOLATILE, BTF_KIND.RESTRICT, BTF_KIND.TYPE_TAG);
const ALIASES = MODIFIERS.slice();
ALIASES[BTF_KIND.TYPEDEF] = 1;
const SIZED = only(
  BTF_KIND.INT,
  BTF_KIND.STRUCT,
  BTF_KIND.UNION,
  BTF_KIND.ENUM,
  BTF_KIND.ENUM64,
  BTF_KIND.FLOAT,
  BTF_KIND.DATASEC,
);

/** CONST, VOLATILE, RESTRICT or TYPE_TAG. */
export function isModifier(kind: number): boolean {
  return MODIFIERS[kind] === 1;
}

/** STRUCT or UNION. */
export function isStruct(kind: number): boolean {
  return kind === BTF_KIND.STRUCT || kind === BTF_KIND.UNION;
}

/** A modifier or TYPEDEF: the type is the one that it refers to. */
export function isAlias(kind: number): boolean {
  return ALIASES[kind] === 1;
}

/** "STRUCT"; "kind 20" for one that is newer than this reader. */
export function kindName(kind: number): string {
  return BTF_KIND_NAMES[kind] ?? `kind ${kind}`;
}

/** Whether `btf_type.size` is one. */
export function hasStoredSize(kind: number): boolean {
  return SIZED[kind] === 1;
}
