/** What `BTF_KIND_*` are told apart by. */
import { BTF_KIND, BTF_KIND_NAMES } from "../uapi/btf.ts";

/** CONST, VOLATILE, RESTRICT or TYPE_TAG. */
export function isModifier(kind: number): boolean {
  return (
    kind === BTF_KIND.CONST ||
    kind === BTF_KIND.VOLATILE ||
    kind === BTF_KIND.RESTRICT ||
    kind === BTF_KIND.TYPE_TAG
  );
}

/** "STRUCT"; "kind 20" for one that is newer than this reader. */
export function kindName(kind: number): string {
  return BTF_KIND_NAMES[kind] ?? `kind ${kind}`;
}

/** Whether `btf_type.size` is one. */
export function hasStoredSize(kind: number): boolean {
  return (
    kind === BTF_KIND.INT ||
    kind === BTF_KIND.STRUCT ||
    kind === BTF_KIND.UNION ||
    kind === BTF_KIND.ENUM ||
    kind === BTF_KIND.ENUM64 ||
    kind === BTF_KIND.FLOAT ||
    kind === BTF_KIND.DATASEC
  );
}
