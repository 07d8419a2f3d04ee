/** Reads the values of the kernel's enumerators by name, also those of anonymous enums. */
import type { Btf } from "../../btf/btf.ts";
import { BTF_KIND } from "../../uapi/btf.ts";

const known: WeakMap<Btf, Map<string, ReadonlyMap<string, number>>> = new WeakMap();

/**
 * Returns the values by name of the anonymous enum that has an enumerator `first`; undefined if there is none. The index
 * needs one pass over the types and is cached.
 */
export function namelessEnum(btf: Btf, first: string): ReadonlyMap<string, number> | undefined {
  const before = known.get(btf) ?? new Map<string, ReadonlyMap<string, number>>();
  known.set(btf, before);
  const kept = before.get(first);
  if (kept !== undefined) return kept;
  for (let id = 1; id < btf.typeCount; id++) {
    if (btf.kind(id) !== BTF_KIND.ENUM || btf.nameBytes(id).length > 0) continue;
    const [value] = btf.enumValues(id);
    if (value?.name !== first) continue;
    const values = enumValues(btf, id);
    before.set(first, values);
    return values;
  }
  return undefined;
}

/** Returns the values of an enum type, by name. */
export function enumValues(btf: Btf, id: number): ReadonlyMap<string, number> {
  return new Map([...btf.enumValues(id)].map(({ name, value }) => [name, Number(value)]));
}
