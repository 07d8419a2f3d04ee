/** Prints a function's prototype as bpftool does (tools/bpf/bpftool/btf_dumper.c, `btf_dumper_type_only`). */
import { FormatError } from "../errors.ts";
import { BTF_KIND, BTF_MAX_RESOLVE_DEPTH } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";

/** Size of bpftool's buffer, including the NUL. bpftool prints nothing if the prototype does not fit. */
const MAX_BYTES = 1024;
/** Limit on printed types: nested function parameters can double the output at each level. */
const MAX_TYPES = 1024;

/** `BTF_VAR_STATIC`. */
const VAR_STATIC = 0;

/** Returns `int handler(struct sk_buff * skb)`, or "" if the prototype cannot be printed, for example with a missing type. */
export function signature(btf: Btf, typeId: number): string {
  const writer = new Writer(btf);
  try {
    if (!writer.type(typeId, 0)) return "";
  } catch (error) {
    if (error instanceof FormatError) return "";
    throw error;
  }
  return Buffer.byteLength(writer.text) < MAX_BYTES ? writer.text : "";
}

class Writer {
  readonly #btf: Btf;
  #types = 0;
  text = "";

  constructor(btf: Btf) {
    this.#btf = btf;
  }

  /** Appends a type. Returns false if it cannot be printed. */
  type(id: number, depth: number): boolean {
    if (depth > BTF_MAX_RESOLVE_DEPTH || ++this.#types > MAX_TYPES || this.text.length > MAX_BYTES)
      return false;
    const btf = this.#btf;
    if (id === 0) return this.#add("void ");
    const inner = (): boolean => this.type(btf.referenced(id), depth + 1);
    const kind = btf.kind(id);
    switch (kind) {
      case BTF_KIND.INT:
      case BTF_KIND.TYPEDEF:
      case BTF_KIND.FLOAT:
        return this.#add(`${btf.typeName(id)} `);
      case BTF_KIND.STRUCT:
        return this.#add(`struct ${btf.typeName(id)} `);
      case BTF_KIND.UNION:
        return this.#add(`union ${btf.typeName(id)} `);
      case BTF_KIND.ENUM:
      case BTF_KIND.ENUM64:
        return this.#add(`enum ${btf.typeName(id)} `);
      case BTF_KIND.ARRAY: {
        const { elementTypeId, count } = btf.array(id);
        return this.type(elementTypeId, depth + 1) && this.#add(`[${count}]`);
      }
      case BTF_KIND.PTR:
        return inner() && this.#add("* ");
      case BTF_KIND.FWD:
        return this.#add(`${btf.kindFlag(id) ? "union" : "struct"} ${btf.typeName(id)} `);
      case BTF_KIND.VOLATILE:
        return this.#add("volatile ") && inner();
      case BTF_KIND.CONST:
        return this.#add("const ") && inner();
      case BTF_KIND.RESTRICT:
        return this.#add("restrict ") && inner();
      case BTF_KIND.FUNC_PROTO:
        return this.#function(id, "", depth);
      case BTF_KIND.FUNC:
        return this.#function(btf.referenced(id), btf.typeName(id), depth);
      case BTF_KIND.VAR:
        if (btf.trailer(id) === VAR_STATIC) this.#add("static ");
        return inner() && this.#add(` ${btf.typeName(id)}`);
      case BTF_KIND.DATASEC:
        return this.#add(`section ("${btf.typeName(id)}") `);
      default:
        return false;
    }
  }

  #function(prototype: number, name: string, depth: number): boolean {
    const btf = this.#btf;
    if (!this.type(btf.referenced(prototype), depth + 1)) return false;
    this.#add(`${name}(`);
    let separator = "";
    for (const param of btf.params(prototype)) {
      this.#add(separator);
      separator = ", ";
      if (param.typeId === 0) this.#add("...");
      else if (!this.type(param.typeId, depth + 1)) return false;
      else if (param.name !== "") this.#add(param.name);
      else if (this.text.endsWith(" ")) this.text = this.text.slice(0, -1);
    }
    return this.#add(")");
  }

  #add(text: string): true {
    this.text += text;
    return true;
  }
}
