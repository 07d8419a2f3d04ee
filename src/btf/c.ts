/**
 * A BTF object's types as C that compiles, each before it is needed: `bpftool btf dump ... format c`. Layouts are kept
 * (padding, bit-fields, packed structs); functions, variables and tags have no place in it.
 */
import { FormatError } from "../errors.ts";
import { BTF_KIND } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";
import { CBodies } from "./c-body.ts";
import { isModifier } from "./kinds.ts";

/** Types that need each other before they can be written; more is no C. */
const MAX_DEPTH = 256;
/** Characters of output that are handed out at once. */
const CHUNK = 65_536;

const HEADER = `#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

`;
const FOOTER = `#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
`;

/** gcc for arm64 has these without a declaration, other compilers do not. */
const MISSING_INTS: ReadonlyMap<string, string> = new Map([
  ["__Poly8_t", "unsigned char"],
  ["__Poly16_t", "unsigned short"],
  ["__Poly64_t", "unsigned long long"],
  ["__Poly128_t", "unsigned __int128"],
]);

/**
 * The types as C, in pieces: a split BTF's own, or `ids`, and whatever they need. Throws `FormatError` where types
 * contain each other.
 */
export function* cDump(btf: Btf, ids: Iterable<number> = ownIds(btf)): Generator<string> {
  const dump = new CDump(btf);
  yield HEADER;
  for (const id of ids) {
    dump.add(id);
    if (dump.pending.length >= CHUNK) yield dump.take();
  }
  yield dump.take() + FOOTER;
}

function* ownIds(btf: Btf): Generator<number> {
  for (let id = btf.firstId; id < btf.typeCount; id++) yield id;
}

class CDump {
  readonly #btf: Btf;
  readonly #bodies: CBodies;
  /** Written, or being written further up. */
  readonly #done = new Set<number>();
  readonly #inProgress = new Set<number>();
  /** Pointers and functions that were looked through: what they need is there, or is being written. */
  readonly #seen = new Set<number>();
  /** Tags that are known to the compiler, as "struct name". */
  readonly #declared = new Set<string>();
  pending = "";

  constructor(btf: Btf) {
    this.#btf = btf;
    this.#bodies = new CBodies(btf);
  }

  take(): string {
    const text = this.pending;
    this.pending = "";
    return text;
  }

  /** Writes a type that is one by itself. */
  add(id: number): void {
    switch (this.#btf.kind(id)) {
      case BTF_KIND.STRUCT:
      case BTF_KIND.UNION:
      case BTF_KIND.ENUM:
      case BTF_KIND.ENUM64:
      case BTF_KIND.TYPEDEF:
      case BTF_KIND.FWD:
      case BTF_KIND.INT:
        this.#need(id, this.#btf.typeName(id) !== "", 0);
    }
  }

  /** Writes what must stand before a use of the type; `whole`: its size must be known there. */
  #need(id: number, whole: boolean, depth: number): void {
    if (depth > MAX_DEPTH) throw new FormatError("BTF", 0, `type ${id}: it needs too many types before it`);
    const btf = this.#btf;
    const kind = btf.kind(id);
    switch (kind) {
      case BTF_KIND.PTR:
        if (this.#firstSight(id)) this.#need(btf.referenced(id), false, depth + 1);
        break;
      case BTF_KIND.ARRAY:
        this.#need(btf.array(id).elementTypeId, true, depth + 1);
        break;
      case BTF_KIND.FUNC_PROTO:
        if (!this.#firstSight(id)) break;
        this.#need(btf.referenced(id), false, depth + 1);
        for (const { typeId } of btf.params(id)) this.#need(typeId, false, depth + 1);
        break;
      case BTF_KIND.TYPEDEF:
        this.#typedef(id, depth);
        if (whole) this.#need(btf.referenced(id), true, depth + 1);
        break;
      case BTF_KIND.FWD:
        this.#forward(id);
        break;
      case BTF_KIND.STRUCT:
      case BTF_KIND.UNION:
        if (whole || btf.typeName(id) === "") this.#struct(id, depth);
        else this.#forward(id);
        break;
      case BTF_KIND.ENUM:
      case BTF_KIND.ENUM64:
        this.#once(id, () => this.#bodies.enumeration(id));
        break;
      case BTF_KIND.INT: {
        const alias = MISSING_INTS.get(btf.typeName(id));
        if (alias !== undefined) this.#once(id, () => `typedef ${alias} ${btf.typeName(id)}`);
        break;
      }
      default:
        if (isModifier(kind)) this.#need(btf.referenced(id), whole, depth + 1);
    }
  }

  #firstSight(id: number): boolean {
    if (this.#seen.has(id)) return false;
    this.#seen.add(id);
    return true;
  }

  /** An anonymous struct is written where it is used; what its members need comes before. */
  #struct(id: number, depth: number): void {
    const btf = this.#btf;
    if (this.#done.has(id)) return;
    const anonymous = btf.typeName(id) === "";
    if (this.#inProgress.has(id)) {
      if (anonymous) return;
      throw new FormatError("BTF", 0, `type ${id}: it contains itself`);
    }
    this.#inProgress.add(id);
    for (const { typeId } of btf.members(id)) this.#need(typeId, true, depth + 1);
    this.#inProgress.delete(id);
    this.#done.add(id);
    if (anonymous) return;
    this.#declared.add(this.#bodies.tag(id));
    this.pending += `${this.#bodies.struct(id, "")};\n\n`;
  }

  #typedef(id: number, depth: number): void {
    const btf = this.#btf;
    if (this.#done.has(id)) return;
    this.#done.add(id);
    const name = btf.typeName(id);
    // The compiler's own, and the one that its headers make of it.
    if (name === "__builtin_va_list") return;
    if (name === "__gnuc_va_list") {
      this.pending += "typedef __builtin_va_list __gnuc_va_list;\n\n";
      return;
    }
    this.#need(btf.referenced(id), false, depth + 1);
    this.pending += `${this.#bodies.typedef(id)};\n\n`;
  }

  #forward(id: number): void {
    const tag = this.#bodies.tag(id);
    if (this.#declared.has(tag)) return;
    this.#declared.add(tag);
    this.pending += `${tag};\n\n`;
  }

  #once(id: number, write: () => string): void {
    if (this.#done.has(id)) return;
    this.#done.add(id);
    this.pending += `${write()};\n\n`;
  }
}
