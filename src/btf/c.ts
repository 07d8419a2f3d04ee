/**
 * Prints the types of a BTF object as compilable C, as `bpftool btf dump ... format c` does: each type before its first
 * use, then the prototypes of kfuncs. The two passes follow libbpf's btf_dump.c (btf_dump_order_type,
 * btf_dump_emit_type).
 */
import { FormatError } from "../errors.ts";
import { BTF_KIND } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";
import { CDefinitions } from "./c-definitions.ts";
import { kfuncs } from "./c-kfuncs.ts";
import { sortedIds } from "./c-order.ts";
import { isModifier, isStruct } from "./kinds.ts";
import { referencedIds } from "./references.ts";

/** Limit on the depth of dependencies between types. Valid C stays below it. */
const MAX_DEPTH = 256;
/** Limit on visits to types, per type. Anonymous structs and functions are visited at each use. */
const STEPS_PER_TYPE = 256;
const STEPS_BASE = 1_000_000;
/** Characters of output per yielded piece. */
const CHUNK = 65_536;

const HEADER = `#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

#ifndef __ksym
#define __ksym __attribute__((section(".ksyms")))
#endif

#ifndef __weak
#define __weak __attribute__((weak))
#endif

#ifndef __bpf_fastcall
#if __has_attribute(bpf_fastcall)
#define __bpf_fastcall __attribute__((bpf_fastcall))
#else
#define __bpf_fastcall
#endif
#endif

`;
const FOOTER = `#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
`;

/** Types that gcc for arm64 predefines and other compilers do not. */
const MISSING_INTS: ReadonlyMap<string, string> = new Map([
  ["__Poly8_t", "unsigned char"],
  ["__Poly16_t", "unsigned short"],
  ["__Poly64_t", "unsigned long long"],
  ["__Poly128_t", "unsigned __int128"],
]);

export interface CDumpOptions {
  /** Print only these types and their dependencies, without kfuncs. Default: all types of the BTF, without its base. */
  readonly ids?: readonly number[] | undefined;
  /** Sort by id (`format c unsorted`) instead of by name. */
  readonly unsorted?: boolean;
}

/** Yields the dump in pieces of text. Throws `FormatError` if types contain each other. */
export function* cDump(btf: Btf, { ids, unsorted = false }: CDumpOptions = {}): Generator<string> {
  const dump = new CDump(btf);
  yield HEADER;
  for (const id of ids ?? (unsorted ? ownIds(btf) : sortedIds(btf))) {
    dump.add(id);
    if (dump.pending.length >= CHUNK) yield dump.take();
  }
  if (ids === undefined) dump.addKfuncs();
  yield dump.take() + FOOTER;
}

function* ownIds(btf: Btf): Generator<number> {
  for (let id = btf.firstId; id < btf.typeCount; id++) yield id;
}

const PENDING = 0;
const DOING = 1;
const DONE = 2;
/** The type is used outside of all structs and is not defined here, such as the parameters of kfuncs. */
const NO_CONTAINER = -1;
/** The type is defined at the top level. */
const TOP = 0;

class CDump {
  readonly #btf: Btf;
  readonly #definitions: CDefinitions;
  readonly #order: Uint8Array;
  readonly #emitted: Uint8Array;
  /** 1 if a forward declaration or a typedef's line has been written. */
  readonly #declared: Uint8Array;
  #referenced: Uint8Array | undefined;
  #queue: number[] = [];
  #steps: number;
  pending = "";

  constructor(btf: Btf) {
    this.#btf = btf;
    this.#definitions = new CDefinitions(btf);
    this.#order = new Uint8Array(btf.typeCount);
    this.#emitted = new Uint8Array(btf.typeCount);
    this.#declared = new Uint8Array(btf.typeCount);
    this.#steps = STEPS_BASE + STEPS_PER_TYPE * btf.typeCount;
  }

  take(): string {
    const text = this.pending;
    this.pending = "";
    return text;
  }

  /** Writes the definition of a type after those of its dependencies, unless they are written already. */
  add(id: number): void {
    this.#queue = [];
    this.#queueDefinitions(id, false, 0);
    for (const each of this.#queue) this.#emit(each, TOP, 0);
  }

  addKfuncs(): void {
    const found = kfuncs(this.#btf);
    // The prototypes of a split BTF can refer to types of the base that none of its own types needs.
    for (const { protoId } of found) this.#emit(protoId, NO_CONTAINER, 0);
    this.pending += "\n/* BPF kfuncs */\n#ifndef BPF_NO_KFUNC_PROTOTYPES\n";
    for (const { name, protoId, isFastcall } of found)
      this.pending += `extern ${isFastcall ? "__bpf_fastcall " : ""}${this.#definitions.declare(protoId, name, "")} __weak __ksym;\n`;
    this.pending += "#endif\n\n";
  }

  #step(id: number, depth: number): void {
    if (depth > MAX_DEPTH || --this.#steps < 0)
      throw new FormatError("BTF", 0, `type ${id}: it depends on too many types`);
  }

  /**
   * Queues the definitions that a use of the type needs, and its own definition. Returns true if the use needs the
   * complete type, false if a forward declaration suffices.
   */
  #queueDefinitions(id: number, throughPointer: boolean, depth: number): boolean {
    this.#step(id, depth);
    if (id === 0) return true;
    const btf = this.#btf;
    const state = this.#order;
    if (state[id] === DONE) return true;
    const isNamed = btf.typeName(id) !== "";
    const kind = btf.kind(id);
    if (state[id] === DOING) {
      if (isStruct(kind) && throughPointer && isNamed) return false;
      throw new FormatError("BTF", 0, `type ${id}: it contains itself`);
    }
    switch (kind) {
      case BTF_KIND.PTR: {
        const isStrong = this.#queueDefinitions(btf.referenced(id), true, depth + 1);
        state[id] = DONE;
        return isStrong;
      }
      case BTF_KIND.ARRAY:
        return this.#queueDefinitions(btf.array(id).elementTypeId, false, depth + 1);
      case BTF_KIND.STRUCT:
      case BTF_KIND.UNION:
        if (throughPointer && isNamed) return false;
        state[id] = DOING;
        for (const { typeId } of btf.members(id)) this.#queueDefinitions(typeId, false, depth + 1);
        if (isNamed) this.#queue.push(id);
        state[id] = DONE;
        return true;
      case BTF_KIND.ENUM:
      case BTF_KIND.ENUM64:
      case BTF_KIND.FWD:
        if (isNamed || !this.#isReferenced(id)) this.#queue.push(id);
        state[id] = DONE;
        return true;
      case BTF_KIND.TYPEDEF: {
        const isStrong = this.#queueDefinitions(btf.referenced(id), throughPointer, depth + 1);
        if (throughPointer && !isStrong) return false;
        this.#queue.push(id);
        state[id] = DONE;
        return true;
      }
      case BTF_KIND.FUNC_PROTO: {
        let isStrong = this.#queueDefinitions(btf.referenced(id), throughPointer, depth + 1);
        for (const { typeId } of btf.params(id))
          isStrong = this.#queueDefinitions(typeId, throughPointer, depth + 1) || isStrong;
        return isStrong;
      }
      default:
        if (isModifier(kind)) return this.#queueDefinitions(btf.referenced(id), throughPointer, depth + 1);
    }
    state[id] = DONE;
    return false;
  }

  #isReferenced(id: number): boolean {
    this.#referenced ??= referencedIds(this.#btf);
    return this.#referenced[id] === 1;
  }

  /** Writes a definition. If `container` is not `TOP`, writes only the declarations that a use inside that struct needs. */
  #emit(id: number, container: number, depth: number): void {
    this.#step(id, depth);
    if (id === 0 || this.#emitted[id] === DONE) return;
    const btf = this.#btf;
    const kind = btf.kind(id);
    if (this.#emitted[id] === DOING) {
      if (this.#declared[id] === 1) return;
      if (isStruct(kind)) {
        if (id !== container && btf.typeName(id) !== "") this.#declare(id);
      } else if (kind === BTF_KIND.TYPEDEF) this.#typedef(id);
      return;
    }
    switch (kind) {
      case BTF_KIND.INT: {
        const name = btf.typeName(id);
        const alias = MISSING_INTS.get(name);
        if (alias !== undefined) this.pending += `typedef ${alias} ${name};\n\n`;
        this.#emitted[id] = DONE;
        break;
      }
      case BTF_KIND.ENUM:
      case BTF_KIND.ENUM64:
        if (container === TOP) this.pending += `${this.#definitions.enumeration(id, "")};\n\n`;
        this.#emitted[id] = DONE;
        break;
      case BTF_KIND.FWD:
        this.#declare(id);
        this.#emitted[id] = DONE;
        break;
      case BTF_KIND.ARRAY:
        this.#emit(btf.array(id).elementTypeId, container, depth + 1);
        break;
      case BTF_KIND.TYPEDEF:
        this.#emitted[id] = DOING;
        this.#emit(btf.referenced(id), id, depth + 1);
        if (this.#declared[id] === 0) this.#typedef(id);
        this.#emitted[id] = DONE;
        break;
      case BTF_KIND.STRUCT:
      case BTF_KIND.UNION:
        this.#struct(id, container, depth);
        break;
      case BTF_KIND.FUNC_PROTO:
        this.#emit(btf.referenced(id), container, depth + 1);
        for (const { typeId } of btf.params(id)) this.#emit(typeId, container, depth + 1);
        break;
      default:
        if (kind === BTF_KIND.PTR || isModifier(kind)) this.#emit(btf.referenced(id), container, depth + 1);
    }
  }

  /**
   * Writes a struct. If its members are written here, as for every anonymous struct, their dependencies are written
   * first.
   */
  #struct(id: number, container: number, depth: number): void {
    const btf = this.#btf;
    const isAnonymous = btf.typeName(id) === "";
    this.#emitted[id] = DOING;
    if (container === TOP || isAnonymous) {
      for (const { typeId } of btf.members(id)) this.#emit(typeId, isAnonymous ? container : id, depth + 1);
    } else if (this.#declared[id] === 0 && id !== container) this.#declare(id);
    if (container === TOP) this.pending += `${this.#definitions.struct(id, "")};\n\n`;
    this.#emitted[id] = container === TOP ? DONE : PENDING;
  }

  #declare(id: number): void {
    this.pending += `${this.#definitions.tag(id)};\n\n`;
    this.#declared[id] = 1;
  }

  #typedef(id: number): void {
    const btf = this.#btf;
    this.#declared[id] = 1;
    const name = btf.typeName(id);
    // `__builtin_va_list` is built into compilers. Old gcc emits `__gnuc_va_list` as a typedef to void.
    if (name === "__builtin_va_list") return;
    if (name === "__gnuc_va_list" && btf.referenced(id) === 0)
      this.pending += "typedef __builtin_va_list __gnuc_va_list;\n\n";
    else this.pending += `${this.#definitions.typedef(id)};\n\n`;
  }
}
