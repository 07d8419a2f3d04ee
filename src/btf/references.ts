/** Finds the types that other types refer to. */
import { BTF_KIND } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";
import { isModifier } from "./kinds.ts";

/** Returns an array with 1 at each id that a type of the BTF or of its base refers to. */
export function referencedIds(btf: Btf): Uint8Array {
  const referenced = new Uint8Array(btf.typeCount);
  for (let id = 1; id < btf.typeCount; id++) for (const target of references(btf, id)) referenced[target] = 1;
  return referenced;
}

function* references(btf: Btf, id: number): Generator<number> {
  const kind = btf.kind(id);
  switch (kind) {
    case BTF_KIND.STRUCT:
    case BTF_KIND.UNION:
      for (const { typeId } of btf.members(id)) yield typeId;
      break;
    case BTF_KIND.ARRAY: {
      const { elementTypeId, indexTypeId } = btf.array(id);
      yield elementTypeId;
      yield indexTypeId;
      break;
    }
    case BTF_KIND.FUNC_PROTO:
      yield btf.referenced(id);
      for (const { typeId } of btf.params(id)) yield typeId;
      break;
    case BTF_KIND.DATASEC:
      for (const { typeId } of btf.sectionVars(id)) yield typeId;
      break;
    case BTF_KIND.PTR:
    case BTF_KIND.TYPEDEF:
    case BTF_KIND.FUNC:
    case BTF_KIND.VAR:
    case BTF_KIND.DECL_TAG:
      yield btf.referenced(id);
      break;
    default:
      if (isModifier(kind)) yield btf.referenced(id);
  }
}
