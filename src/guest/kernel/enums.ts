/** Reads the values of the kernel's enumerators by name, also those of anonymous enums. */
import type { Btf } from "../../btf/btf.ts";
import { BTF_KIND } from "../../uapi/btf.ts";

type Values = ReadonlyMap<string, number>;

const known: WeakMap<Btf, Map<string, Values | undefined>> = new WeakMap();

/**
 * Returns the values by name of the anonymous enum whose first enumerator is one of `firsts`; undefined if there is none. The
 * search visits up to all types, and its result is cached.
 */
export function namelessEnum(btf: Btf, ...firsts: readonly string[]): Values | undefined {
  const searched = known.get(btf) ?? new Map<string, Values | undefined>();
  known.set(btf, searched);
  const key = firsts.join();
  if (!searched.has(key)) searched.set(key, findNameless(btf, firsts));
  return searched.get(key);
}

function findNameless(btf: Btf, firsts: readonly string[]): Values | undefined {
  for (let id = 1; id < btf.typeCount; id++) {
    if (btf.kind(id) !== BTF_KIND.ENUM || btf.nameBytes(id).length > 0) continue;
    const [value] = btf.enumValues(id);
    if (value !== undefined && firsts.includes(value.name)) return enumValues(btf, id);
  }
  return undefined;
}

/** Returns the values of an enum type, by name. */
export function enumValues(btf: Btf, id: number): Values {
  return new Map([...btf.enumValues(id)].map(({ name, value }) => [name, Number(value)]));
}
