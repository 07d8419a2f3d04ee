/** Names that C accepts: BTF may hold several types, and several enumerators, of one name. */
import { BTF_KIND } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";

/** Tags (struct, union, enum) and identifiers (typedefs, enumerators) are two name spaces in C. */
export class CNames {
  readonly #btf: Btf;
  readonly #tags = new Map<string, number>();
  readonly #identifiers = new Map<string, number>();
  readonly #byType = new Map<number, string>();

  constructor(btf: Btf) {
    this.#btf = btf;
  }

  /** The name of a type: the second of a name is `name___2`. Forward declarations share what they declare. */
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

  /** Each enumerator's name, each time that it is written. */
  enumerator(name: string): string {
    return this.#unique(this.#identifiers, identifier(name));
  }

  #unique(names: Map<string, number>, name: string): string {
    const count = (names.get(name) ?? 0) + 1;
    names.set(name, count);
    return count === 1 ? name : `${name}___${count}`;
  }
}

/** What is no identifier (a hostile or another language's name) becomes one. */
export function identifier(name: string): string {
  return name.replace(/[^A-Za-z0-9_]/g, "_").replace(/^(?=[0-9])/, "_");
}
