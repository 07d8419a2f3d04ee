/** Unique names for C: BTF can hold several types or enumerators with one name. */
import { BTF_KIND } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";

/** C has two name spaces: tags (struct, union, enum) and identifiers (typedefs, enumerators). */
export class CNames {
  readonly #btf: Btf;
  readonly #tags = new Map<string, number>();
  readonly #identifiers = new Map<string, number>();
  readonly #byType = new Map<number, string>();

  constructor(btf: Btf) {
    this.#btf = btf;
  }

  /** Returns the name of a type. The second type with a name becomes `name___2`. Forward declarations keep the name. */
  ofType(id: number): string {
    const before = this.#byType.get(id);
    if (before !== undefined) return before;
    const name = identifier(this.#btf.typeName(id));
    const kind = this.#btf.kind(id);
    const isDeclaration = kind === BTF_KIND.FWD || (kind === BTF_KIND.ENUM && this.#btf.vlen(id) === 0);
    const unique =
      name === "" || isDeclaration
        ? name
        : this.#unique(kind === BTF_KIND.TYPEDEF ? this.#identifiers : this.#tags, name);
    this.#byType.set(id, unique);
    return unique;
  }

  /** Returns a unique name for an enumerator. Call it once per written enumerator. */
  enumerator(name: string): string {
    return this.#unique(this.#identifiers, identifier(name));
  }

  #unique(names: Map<string, number>, name: string): string {
    const count = (names.get(name) ?? 0) + 1;
    names.set(name, count);
    return count === 1 ? name : `${name}___${count}`;
  }
}

/** Replaces characters that are not valid in a C identifier (hostile names, names of other languages). */
export function identifier(name: string): string {
  return name.replace(/[^A-Za-z0-9_]/g, "_").replace(/^(?=[0-9])/, "_");
}
