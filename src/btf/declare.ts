/** Prints types as C declarations. */
import { FormatError } from "../errors.ts";
import { BTF_KIND, BTF_MAX_RESOLVE_DEPTH } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";
import { isModifier } from "./kinds.ts";

/** The parts of C declarations that differ between the C dump and text output. */
export interface Dialect {
  /** The type specifier of a type that is not a pointer, array, function or modifier. */
  readonly base: (id: number) => string;
  /** Converts a parameter name. */
  readonly identifier: (name: string) => string;
  /** The dimension of a flexible array. */
  readonly emptyArray: string;
  /** The text for a TYPE_TAG, or "". */
  readonly typeTag: (id: number) => string;
}

/**
 * Returns a declaration of `name` (or only the type if `name` is ""): `int (*handlers[4])(struct sk_buff *skb)`.
 * Structs, unions and enums are written as keyword and name, or "struct { ... }" without a name. Throws `FormatError`
 * if the type nests too deep.
 */
export function declaration(btf: Btf, typeId: number, name: string, dialect?: Dialect): string {
  const textDialect = {
    base: (id: number) => baseName(btf, id),
    identifier: (text: string) => text,
    emptyArray: "[]",
    typeTag: () => "",
  };
  return declare({ btf, steps: MAX_STEPS, ...(dialect ?? textDialect) }, typeId, name, 0);
}

interface Context extends Dialect {
  readonly btf: Btf;
  /** Remaining steps: nested function parameters can double the output at each level. */
  steps: number;
}

const MAX_STEPS = 10_000;

/** Returns a declaration. A C declarator is built from the name outwards; `inner` is the text so far. */
function declare(context: Context, id: number, inner: string, depth: number): string {
  const { btf } = context;
  if (depth > BTF_MAX_RESOLVE_DEPTH || --context.steps < 0)
    throw new FormatError("BTF", 0, `type ${id}: it nests too deep to write in C`);
  const outwards = (target: number, text: string): string => declare(context, target, text, depth + 1);
  const kind = btf.kind(id);
  switch (kind) {
    case BTF_KIND.PTR: {
      const target = btf.referenced(id);
      return outwards(target, bindsTighter(btf, target) ? `(*${inner})` : `*${inner}`);
    }
    case BTF_KIND.ARRAY: {
      const { elementTypeId, count } = btf.array(id);
      return outwards(elementTypeId, `${inner}${count === 0 ? context.emptyArray : `[${count}]`}`);
    }
    case BTF_KIND.FUNC_PROTO:
      return outwards(btf.referenced(id), `${inner}(${parameters(context, id, depth)})`);
    case BTF_KIND.CONST:
    case BTF_KIND.VOLATILE:
    case BTF_KIND.RESTRICT:
      return qualified(context, id, inner, depth);
    case BTF_KIND.TYPE_TAG: {
      const tag = context.typeTag(id);
      return outwards(btf.referenced(id), [tag, inner].filter((part) => part !== "").join(" "));
    }
    default: {
      const base = context.base(id);
      return inner === "" ? base : `${base} ${inner}`;
    }
  }
}

/**
 * Returns whether the target is an array or a function: `[]` and `()` bind tighter than `*`, so `*name` needs
 * parentheses.
 */
function bindsTighter(btf: Btf, id: number): boolean {
  const kind = btf.kind(unmodified(btf, id));
  return kind === BTF_KIND.ARRAY || kind === BTF_KIND.FUNC_PROTO;
}

/** Skips modifiers but not typedefs. */
function unmodified(btf: Btf, id: number): number {
  let target = id;
  for (let depth = 0; depth < BTF_MAX_RESOLVE_DEPTH && isModifier(btf.kind(target)); depth++)
    target = btf.referenced(target);
  return target;
}

/**
 * Writes a qualifier: after the `*` for a pointer, before the type otherwise. Qualifiers of arrays and functions are
 * omitted. gcc emits the qualifiers of an array's elements again for the array
 * (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=8354), and `volatile` for a function that does not return.
 */
function qualified(context: Context, id: number, inner: string, depth: number): string {
  const { btf } = context;
  const kind = btf.kind(id);
  const word = kind === BTF_KIND.CONST ? "const" : kind === BTF_KIND.VOLATILE ? "volatile" : "restrict";
  const target = btf.referenced(id);
  if (bindsTighter(btf, target)) return declare(context, target, inner, depth + 1);
  if (btf.kind(unmodified(btf, target)) !== BTF_KIND.PTR)
    return `${word} ${declare(context, target, inner, depth + 1)}`;
  return declare(context, target, inner === "" ? word : `${word} ${inner}`, depth + 1);
}

function parameters(context: Context, id: number, depth: number): string {
  const params: string[] = [];
  for (const { name, typeId } of context.btf.params(id))
    params.push(
      typeId === 0 && name === "" ? "..." : declare(context, typeId, context.identifier(name), depth + 1),
    );
  // clang gives a function that is declared without parameters one unnamed parameter of type void.
  const isEmpty = params.length === 0 || (params.length === 1 && params[0] === "...");
  return isEmpty ? "void" : params.join(", ");
}

function baseName(btf: Btf, id: number): string {
  const keyword = keywordOf(btf, id);
  const name = btf.typeName(id);
  if (keyword === "") return name === "" ? "void" : name;
  return name === "" ? `${keyword} { ... }` : `${keyword} ${name}`;
}

function keywordOf(btf: Btf, id: number): string {
  switch (btf.kind(id)) {
    case BTF_KIND.STRUCT:
      return "struct";
    case BTF_KIND.UNION:
      return "union";
    case BTF_KIND.ENUM:
    case BTF_KIND.ENUM64:
      return "enum";
    case BTF_KIND.FWD:
      return btf.kindFlag(id) ? "union" : "struct";
    default:
      return "";
  }
}
