/** Types as C writes them. */
import { FormatError } from "../errors.ts";
import { BTF_KIND, BTF_MAX_RESOLVE_DEPTH } from "../uapi/btf.ts";
import { type Btf, isModifier } from "./btf.ts";

/**
 * A declaration of `name` ("" for the type alone): `int (*handlers[4])(struct sk_buff *skb)`. Structs, unions and enums
 * are their keyword and name; `anonymous` writes the ones that have none, "struct { ... }" unless told.
 */
export function declaration(
  btf: Btf,
  typeId: number,
  name: string,
  anonymous: (id: number, keyword: string) => string = (_, keyword) => `${keyword} { ... }`,
): string {
  return declare({ btf, anonymous }, typeId, name, 0);
}

interface Context {
  readonly btf: Btf;
  readonly anonymous: (id: number, keyword: string) => string;
}

/** C's declarators grow from the name outwards: `inner` is what is written so far. */
function declare(context: Context, id: number, inner: string, depth: number): string {
  const { btf } = context;
  if (depth > BTF_MAX_RESOLVE_DEPTH)
    throw new FormatError("BTF", 0, `type ${id}: pointers, arrays and modifiers nest too deep to write in C`);
  const outwards = (target: number, text: string): string => declare(context, target, text, depth + 1);
  const kind = btf.kind(id);
  switch (kind) {
    case BTF_KIND.PTR: {
      const target = btf.referenced(id);
      return outwards(target, bindsTighter(btf, target) ? `(*${inner})` : `*${inner}`);
    }
    case BTF_KIND.ARRAY: {
      const { elementTypeId, count } = btf.array(id);
      return outwards(elementTypeId, `${inner}[${count === 0 ? "" : count}]`);
    }
    case BTF_KIND.FUNC_PROTO:
      return outwards(btf.referenced(id), `${inner}(${parameters(context, id, depth)})`);
    case BTF_KIND.CONST:
    case BTF_KIND.VOLATILE:
    case BTF_KIND.RESTRICT:
      return qualified(context, id, inner, depth);
    case BTF_KIND.TYPE_TAG:
      return outwards(btf.referenced(id), inner);
    default: {
      const base = baseName(context, id, kind);
      return inner === "" ? base : `${base} ${inner}`;
    }
  }
}

/** Whether `[]` or `()` follows, which would take the name before the `*` does. */
function bindsTighter(btf: Btf, id: number): boolean {
  const kind = btf.kind(unmodified(btf, id));
  return kind === BTF_KIND.ARRAY || kind === BTF_KIND.FUNC_PROTO;
}

/** Through modifiers, but not through typedefs. */
function unmodified(btf: Btf, id: number): number {
  let target = id;
  for (let depth = 0; depth < BTF_MAX_RESOLVE_DEPTH && isModifier(btf.kind(target)); depth++)
    target = btf.referenced(target);
  return target;
}

/** A pointer's qualifier follows its `*`, any other stands in front. */
function qualified(context: Context, id: number, inner: string, depth: number): string {
  const { btf } = context;
  const kind = btf.kind(id);
  const word = kind === BTF_KIND.CONST ? "const" : kind === BTF_KIND.VOLATILE ? "volatile" : "restrict";
  const target = btf.referenced(id);
  if (btf.kind(unmodified(btf, target)) !== BTF_KIND.PTR)
    return `${word} ${declare(context, target, inner, depth + 1)}`;
  return declare(context, target, inner === "" ? word : `${word} ${inner}`, depth + 1);
}

function parameters(context: Context, id: number, depth: number): string {
  const params: string[] = [];
  for (const { name, typeId } of context.btf.params(id))
    params.push(typeId === 0 && name === "" ? "..." : declare(context, typeId, name, depth + 1));
  return params.length === 0 ? "void" : params.join(", ");
}

function baseName({ btf, anonymous }: Context, id: number, kind: number): string {
  const keyword = keywordOf(btf, id, kind);
  const name = btf.typeName(id);
  if (keyword === "") return name === "" ? "void" : name;
  return name === "" ? anonymous(id, keyword) : `${keyword} ${name}`;
}

function keywordOf(btf: Btf, id: number, kind: number): string {
  switch (kind) {
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
