/** Finds the symbol at an address of the kernel: of its image, of a module, of a BPF program's function or of a trampoline. */
import { at, bytes, optional, place, ptr, struct, u8, u32, u64 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import { SYM } from "../../uapi/elf.ts";
import { cutAtNul, viewOf } from "../../uapi/layout.ts";
import { add, distance, hex, isBelow, isNull, type Pointer, pointer } from "../memory/pointer.ts";
import type { GuestKernel } from "./kernel.ts";
import { listOf } from "./list.ts";
import { listObjects } from "./listing.ts";
import { StructAt } from "./struct-at.ts";
import type { NearSymbol } from "./symbols.ts";

export interface NamedAddress extends NearSymbol {
  /** The module's name; "bpf" for a program's function or a trampoline, as in /proc/kallsyms; "" for the kernel's image. */
  readonly module: string;
}

/** A part of a module, a program's function or a trampoline. */
interface Range {
  readonly start: Pointer;
  readonly bytes: number;
}

interface Code extends Range {
  /** Decodes the name. */
  readonly name: () => string;
}

/** Offsets of the members of a `struct bpf_ksym`. */
interface KsymPlaces {
  readonly start: number;
  readonly end: number;
  readonly name: number;
  readonly nameEnd: number;
}

interface Module {
  readonly name: string;
  readonly at: StructAt;
  readonly ranges: readonly Range[];
}

const MODULE_NAME_BYTES = 56;
/** Before 6.4 a module's memory is one range; since then it has seven, `enum mod_mem_type`. */
const MEMORY_TYPES = 7;
const MODULE = struct("module", {
  list: place,
  name: bytes(MODULE_NAME_BYTES),
  kallsyms: ptr,
  mem: optional(place, "since 6.4"),
  coreBase: at(optional(ptr, "until 6.3"), "core_layout.base"),
  coreSize: at(optional(u32, "until 6.3"), "core_layout.size"),
});
const MODULE_MEMORY = struct("module_memory", { base: ptr, size: u32 });
const MOD_KALLSYMS = struct("mod_kallsyms", { symtab: ptr, num_symtab: u32, strtab: ptr });
const LIST_HEAD = struct("list_head", { next: ptr });

const PROG = struct("bpf_prog", { aux: ptr });
/** KSYM_NAME_LEN: 128 before 6.1. */
const KSYM_NAME_BYTES = { least: 128, most: 512 } as const;
const PROG_AUX = struct("bpf_prog_aux", {
  start: at(u64, "ksym.start"),
  end: at(u64, "ksym.end"),
  name: at(bytes(KSYM_NAME_BYTES.least), "ksym.name"),
  nameEnd: at(place, "ksym.lnode"),
  func: ptr,
  func_cnt: u32,
});

/** An entry of `bpf_kallsyms`, which is the only list of trampolines. */
const KSYM = struct("bpf_ksym", {
  start: u64,
  end: u64,
  name: bytes(KSYM_NAME_BYTES.least),
  lnode: place,
  prog: u8,
});

const MAX_MODULES = 4096;
const MAX_MODULE_SYMBOLS = 2 ** 20;
const MAX_KSYMS = 2 ** 16;

/** include/linux/bpf_verifier.h: `BPF_MAX_SUBPROGS`. */
const MAX_SUBPROGS = 256;
const MAX_SYMBOL_BYTES = 512;

/** Modules and programs are listed on the first lookup of an address outside the kernel's image. */
export class AddressNames {
  readonly #kernel: GuestKernel;
  #modules: readonly Module[] | undefined;
  #code: readonly Code[] | undefined;

  constructor(kernel: GuestKernel) {
    this.#kernel = kernel;
  }

  /** Returns undefined if there is no symbol. Modules and programs that cannot be read have no names. */
  find(address: Pointer): NamedAddress | undefined {
    const { symbols } = this.#kernel;
    const [text, end] = [symbols.address("_text"), symbols.address("_end")];
    if (text === undefined || end === undefined) return undefined;
    if (!isBelow(address, text) && isBelow(address, end)) {
      const near = symbols.nearest(address);
      return near && { ...near, module: "" };
    }
    this.#modules ??= orNone(() => this.#listModules());
    for (const module of this.#modules)
      if (module.ranges.some((range) => holds(range, address)))
        return orNone(() => this.#findInModule(module, address))[0];
    this.#code ??= [...orNone(() => this.#listPrograms()), ...orNone(() => this.#listTrampolines())];
    const code = this.#code.find((one) => holds(one, address));
    return (
      code && {
        name: code.name(),
        offset: distance(code.start, address),
        sizeBytes: code.bytes,
        module: "bpf",
      }
    );
  }

  /** Formats like `%pS`: "schedule+0x10/0x90", "dummy_xmit+0x4/0x60 [dummy]"; the address if there is no symbol. */
  text(address: Pointer): string {
    const found = this.find(address);
    if (found === undefined) return hex(address.hi, address.lo);
    const { name, offset, sizeBytes, module } = found;
    const size = sizeBytes === undefined ? "" : `/0x${sizeBytes.toString(16)}`;
    return `${name}+0x${offset.toString(16)}${size}${module === "" ? "" : ` [${module}]`}`;
  }

  /** Returns the `struct module` that contains an address; undefined if there is none. */
  moduleAt(address: Pointer): Pointer | undefined {
    this.#modules ??= orNone(() => this.#listModules());
    return this.#modules.find(({ ranges }) => ranges.some((range) => holds(range, address)))?.at.at;
  }

  /** Lists every `struct module` in `struct list_head modules`. */
  #listModules(): Module[] {
    const { memory, btf, symbols } = this.#kernel;
    const head = symbols.address("modules");
    const layout = MODULE.resolveIfPresent(btf);
    if (head === undefined || layout === undefined) return [];
    const { next } = LIST_HEAD.resolve(btf);
    const modules: Module[] = [];
    let list = memory.pointer(head.hi, head.lo, next, "modules.next");
    while (!isNull(list) && distance(head, list) !== 0 && modules.length < MAX_MODULES) {
      const module = new StructAt(memory, add(list, -layout.list), "module.");
      modules.push({
        name: module.inlineString(layout.name, "name", MODULE_NAME_BYTES),
        at: module,
        ranges: this.#rangesOf(module),
      });
      list = memory.pointer(list.hi, list.lo, next, "module.list.next");
    }
    return modules;
  }

  #rangesOf(module: StructAt): Range[] {
    const { btf } = this.#kernel;
    const { mem, coreBase, coreSize } = MODULE.resolve(btf);
    if (mem === undefined) {
      if (coreBase === undefined || coreSize === undefined) return [];
      return [
        {
          start: module.pointer(coreBase, "core_layout.base"),
          bytes: module.u32(coreSize, "core_layout.size"),
        },
      ];
    }
    const { base, size, sizeof } = MODULE_MEMORY.resolve(btf);
    return Array.from({ length: MEMORY_TYPES }, (_, type) => ({
      start: module.pointer(mem + type * sizeof + base, `mem[${type}].base`),
      bytes: module.u32(mem + type * sizeof + size, `mem[${type}].size`),
    }));
  }

  /** kernel/module/kallsyms.c, `find_kallsyms_symbol`: the last symbol at or before the address. */
  #findInModule(module: Module, address: Pointer): NamedAddress[] {
    const { memory, btf } = this.#kernel;
    const layout = MOD_KALLSYMS.resolve(btf);
    const table = module.at.follow(MODULE.resolve(btf).kallsyms, "kallsyms");
    const count = Math.min(table.u32(layout.num_symtab, "num_symtab"), MAX_MODULE_SYMBOLS);
    const symtab = table.pointer(layout.symtab, "symtab");
    const view = viewOf(memory.copy(symtab.hi, symtab.lo, 0, count * SYM.size, "module.kallsyms->symtab"));
    let best = -1;
    let bestAt: Pointer | undefined;
    let nextAt: Pointer | undefined;
    for (let at = 0; at < view.byteLength; at += SYM.size) {
      if (view.getUint16(at + SYM.fields.shndx.offset, true) === 0) continue;
      const value = at + SYM.fields.value.offset;
      const start = pointer(view.getInt32(value + 4, true), view.getInt32(value, true));
      if (isBelow(address, start)) {
        if (nextAt === undefined || isBelow(start, nextAt)) nextAt = start;
        continue;
      }
      if (bestAt !== undefined && !isBelow(bestAt, start)) continue;
      best = at;
      bestAt = start;
    }
    if (bestAt === undefined) return [];
    const strings = table.pointer(layout.strtab, "strtab");
    const name = view.getUint32(best, true);
    const text = memory.cstring(strings.hi, strings.lo, name, MAX_SYMBOL_BYTES, "module.kallsyms->strtab");
    const offset = distance(bestAt, address);
    const sizeBytes = nextAt === undefined ? undefined : distance(bestAt, nextAt);
    return [{ name: Buffer.from(text).toString("latin1"), offset, sizeBytes, module: module.name }];
  }

  /** Lists `bpf_prog.aux->ksym` of every program, which is its main function, and the other functions in `func`. */
  #listPrograms(): Code[] {
    const { memory, btf } = this.#kernel;
    const layout = PROG_AUX.resolve(btf);
    const { aux } = PROG.resolve(btf);
    const codeOf = (prog: StructAt): Code => this.#codeAt(prog.follow(aux, "aux"), layout);
    const read = (address: Pointer): Code[] => {
      const prog = new StructAt(memory, address, "bpf_prog.");
      const owner = prog.follow(aux, "aux");
      const count = Math.min(owner.u32(layout.func_cnt, "func_cnt"), MAX_SUBPROGS);
      const list = owner.follow(layout.func, "func");
      const others = Array.from({ length: count }, (_, index) =>
        codeOf(list.follow(index * 8, `[${index}]`)),
      );
      return [codeOf(prog), ...others];
    };
    return listObjects(this.#kernel, "prog_idr", "program", read, () => {}).flat();
  }

  /** Lists `bpf_kallsyms` without the programs: trampolines ("bpf_trampoline_7"), since 6.13 of struct_ops, too. */
  #listTrampolines(): Code[] {
    const { memory, btf, symbols } = this.#kernel;
    const head = symbols.address("bpf_kallsyms");
    const layout = KSYM.resolveIfPresent(btf);
    if (head === undefined || layout === undefined) return [];
    const names = { ...layout, nameEnd: layout.lnode };
    const found: Code[] = [];
    let count = 0;
    for (const at of listOf(this.#kernel, head, layout.lnode, "bpf_kallsyms", () => {})) {
      if (count++ === MAX_KSYMS) break;
      const ksym = new StructAt(memory, at, "bpf_ksym.");
      found.push(...orNone(() => (ksym.u8(layout.prog, "prog") === 0 ? [this.#codeAt(ksym, names)] : [])));
    }
    return found;
  }

  /** Reads a `struct bpf_ksym` by the offsets of its members in `owner`. */
  #codeAt(owner: StructAt, { start, end, name, nameEnd }: KsymPlaces): Code {
    const nameBytes = Math.min(Math.max(0, nameEnd - name), KSYM_NAME_BYTES.most);
    const { memory } = this.#kernel;
    const { hi, lo } = owner.at;
    memory.expect(hi, lo, name, nameBytes, "ksym.name");
    const from = owner.pointer(start, "ksym.start");
    const to = owner.pointer(end, "ksym.end");
    // Most names are not needed.
    const decode = (): string =>
      Buffer.from(cutAtNul(memory.copy(hi, lo, name, nameBytes, "ksym.name"))).toString("latin1");
    return { start: from, bytes: distance(from, to), name: decode };
  }
}

function holds({ start, bytes: length }: Range, address: Pointer): boolean {
  const offset = distance(start, address);
  return offset >= 0 && offset < length;
}

function orNone<T>(read: () => T[]): T[] {
  try {
    return read();
  } catch (error) {
    if (error instanceof KtstrError) return [];
    throw error;
  }
}
