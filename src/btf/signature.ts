/** Types and functions as bpftool writes them where there is no value: `int (struct task_struct * p, u64 flags)`. */
import { FormatError } from "../errors.ts";
import { BTF_KIND, BTF_MAX_RESOLVE_DEPTH } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";

const PREFIXES: Readonly<Record<number, string>> = {
  [BTF_KIND.STRUCT]: "struct ",
  [BTF_KIND.UNION]: "union ",
  [BTF_KIND.ENUM]: "enum ",
  [BTF_KIND.ENUM64]: "enum ",
  [BTF_KIND.INT]: "",
  [BTF_KIND.TYPEDEF]: "",
  [BTF_KIND.FLOAT]: "",
};

const MODIFIERS: Readonly<Record<number, string>> = {
  [BTF_KIND.VOLATILE]: "volatile ",
  [BTF_KIND.CONST]: "const ",
  [BTF_KIND.RESTRICT]: "restrict ",
};

/** A longer signature is none: bpftool's buffers hold as much. */
const MAX_CHARACTERS = 1023;
const BTF_VAR_STATIC = 0;

/**
 * `btf_dumper_type_only` of tools/bpf/bpftool/btf_dumper.c: a function with its name, a prototype without one. undefined:
 * it has a type that bpftool cannot write, or more than 1,023 characters. Throws `FormatError` where the type is hostile.
 */
export function signatureOf(btf: Btf, typeId: number): string | undefined {
  const text = append(btf, typeId, "", 0);
  return text !== undefined && text.length <= MAX_CHARACTERS ? text : undefined;
}

function append(btf: Btf, id: number, before: string, depth: number): string | undefined {
  if (before.length > MAX_CHARACTERS) return undefined;
  if (depth > BTF_MAX_RESOLVE_DEPTH)
    throw new FormatError(
      btf.name || "BTF",
      0,
      `type ${id} does not end within ${BTF_MAX_RESOLVE_DEPTH} steps`,
    );
  if (id === 0) return `${before}void `;
  const kind = btf.kind(id);
  const prefix = PREFIXES[kind];
  if (prefix !== undefined) return `${before}${prefix}${btf.typeName(id)} `;
  const modifier = MODIFIERS[kind];
  if (modifier !== undefined) return append(btf, btf.referenced(id), before + modifier, depth + 1);
  switch (kind) {
    case BTF_KIND.ARRAY: {
      const { elementTypeId, count } = btf.array(id);
      const element = append(btf, elementTypeId, before, depth + 1);
      return element && `${element}[${count}]`;
    }
    case BTF_KIND.PTR: {
      const target = append(btf, btf.referenced(id), before, depth + 1);
      return target && `${target}* `;
    }
    case BTF_KIND.FWD:
      return `${before}${btf.kindFlag(id) ? "union" : "struct"} ${btf.typeName(id)} `;
    case BTF_KIND.FUNC_PROTO:
      return appendFunction(btf, id, "", before, depth);
    case BTF_KIND.FUNC:
      return appendFunction(btf, btf.referenced(id), btf.typeName(id), before, depth);
    case BTF_KIND.VAR: {
      const linkage = btf.trailer(id) === BTF_VAR_STATIC ? "static " : "";
      const type = append(btf, btf.referenced(id), before + linkage, depth + 1);
      return type && `${type} ${btf.typeName(id)}`;
    }
    case BTF_KIND.DATASEC:
      return `${before}section ("${btf.typeName(id)}") `;
    default:
      return undefined;
  }
}

function appendFunction(
  btf: Btf,
  protoId: number,
  name: string,
  before: string,
  depth: number,
): string | undefined {
  let text = append(btf, btf.referenced(protoId), before, depth + 1);
  if (text === undefined) return undefined;
  text += `${name}(`;
  let isFirst = true;
  for (const { name: paramName, typeId } of btf.params(protoId)) {
    if (!isFirst) text += ", ";
    isFirst = false;
    if (typeId === 0) {
      text += "...";
      continue;
    }
    const param = append(btf, typeId, text, depth + 1);
    if (param === undefined) return undefined;
    text = paramName === "" ? param.replace(/ $/, "") : param + paramName;
  }
  return `${text})`;
}
