/**
 * A complete synthetic kernel as a memory file: page tables, VMCOREINFO, kallsyms in the form of each release, BTF, per-CPU
 * areas and the resource tree. It has everything that is needed to find a kernel, but no maps and no programs.
 */
import type { PagingMode } from "../../src/guest/memory/mmu.ts";
import { arm64Paging, x86Paging } from "../../src/guest/memory/mmu.ts";
import { Synthetic } from "./synthetic.ts";
import { type KernelTypes, ownTypes } from "./types.ts";

export type KallsymsForm = "self-relative" | "base-relative" | "absolute-percpu";

export interface KernelOptions {
  readonly arch?: "x86_64" | "aarch64";
  readonly form?: KallsymsForm;
  readonly sizeBytes?: number;
  /** Ends of RAM ranges in the resource tree, [start, end) pairs. */
  readonly ram?: readonly (readonly [number, number])[];
  readonly physicalBase?: number;
  readonly release?: string;
  /** Whether kallsyms has the sorted list of names, which look-ups bisect. Kernels before 6.2 do not have it. */
  readonly ordered?: boolean;
  /** Whether kallsyms has no variables, as without CONFIG_KALLSYMS_ALL. */
  readonly functionsOnly?: boolean;
  /** `__per_cpu_offset`, by CPU; all of them are possible. */
  readonly perCpuOffsets?: readonly bigint[];
  /** Types of a real kernel instead of the test's few types. */
  readonly types?: KernelTypes;
  /** Additional variables of the image: sizes in bytes by name. */
  readonly variables?: Readonly<Record<string, number>>;
  /** x86-64: bit of page-table entries that marks memory as encrypted (`sme_me_mask`). */
  readonly encryptionMask?: bigint;
  /** x86-64 without CONFIG_RANDOMIZE_BASE: nothing is moved, and no variable has the start of the direct map. */
  readonly isFixed?: boolean;
  /** Bytes in which the memory is built, instead of new ones of `sizeBytes`. */
  readonly bytes?: Uint8Array<ArrayBuffer>;
}

const HUGE_PAGE_BYTES = 0x20_0000;
const X86_IMAGE = 0xffff_ffff_8000_0000n;
/** CONFIG_PHYSICAL_START. */
const LINKED_AT = 0x100_0000;

export class SyntheticKernel {
  readonly machine: Synthetic;
  readonly release: string;
  /** Virtual address of the kernel's first byte, `_text`, after KASLR. */
  readonly text: bigint;
  readonly textPhysical: number;
  /** Physical address of the VMCOREINFO text. */
  infoPhysical = 0;
  /** Physical address of the list of names in order. */
  orderPhysical = 0;
  readonly symbols: Map<string, { readonly type: string; readonly address: bigint }> = new Map();
  readonly #arch: "x86_64" | "aarch64";
  readonly #form: KallsymsForm;
  readonly #ordered: boolean;
  readonly #encryptionMask: bigint;
  readonly #types: KernelTypes;
  /** Size of the space for the kernel's image. */
  readonly #imageBytes: number;
  /** Distance by which KASLR moved the image from its link address. */
  readonly #imageMove: number;
  #cursor = 0x1000;

  constructor(options: KernelOptions = {}) {
    this.#arch = options.arch ?? "x86_64";
    this.#form = options.form ?? "self-relative";
    this.#ordered = options.ordered ?? true;
    this.release = options.release ?? "7.2.0-synthetic";
    this.#types = options.types ?? ownTypes();
    const more = Object.values(options.variables ?? {}).reduce((sum, size) => sum + size + 64, 0);
    const image = this.#types.bytes.length + (1 << 20) + more;
    this.#imageBytes = Math.ceil(image / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES;
    const isX86 = this.#arch === "x86_64";
    const mode: PagingMode = isX86 ? x86Paging(5) : arm64Paging(12, 48);
    const physicalBase = options.physicalBase ?? 0;
    const moved = options.isFixed === true ? 0xff11_0000_0000_0000n : 0xff22_3344_8000_0000n;
    const directBase = isX86 ? moved : 0xffff_0000_0000_0000n;
    const machine = new Synthetic({
      mode,
      physicalBase,
      directBase,
      sizeBytes: options.sizeBytes ?? 8 << 20,
      bytes: options.bytes,
      entryBits: options.encryptionMask,
    });
    this.#encryptionMask = options.encryptionMask ?? 0n;
    this.machine = machine;
    this.textPhysical = machine.allocate(this.#imageBytes, HUGE_PAGE_BYTES);
    this.#imageMove = options.isFixed === true ? 0 : 0x2940_0000;
    this.text = isX86 ? X86_IMAGE + BigInt(LINKED_AT + this.#imageMove) : 0xffff_8000_1000_0000n;
    // The image is mapped with huge pages, and so is the direct map.
    for (let at = 0; at < this.#imageBytes; at += HUGE_PAGE_BYTES)
      machine.map(this.text + BigInt(at), this.textPhysical + at, "PMD");
    for (let at = physicalBase; at < physicalBase + machine.bytes.length; at += HUGE_PAGE_BYTES)
      machine.map(machine.direct(at), at, "PMD");
    this.#writeVariables(options);
    this.#writeSymbolsAndInfo(options.functionsOnly === true);
  }

  /** Reserves `size` bytes in the kernel image, adds their symbol, and returns their physical address. */
  place(name: string, size: number, type = "D"): number {
    const at = this.#cursor;
    this.#cursor += Math.ceil(size / 64) * 64;
    if (this.#cursor > this.#imageBytes) throw new Error("the synthetic kernel is full");
    this.symbols.set(name, { type, address: this.text + BigInt(at) });
    return this.textPhysical + at;
  }

  addressOf(name: string): bigint {
    return this.symbols.get(name)!.address;
  }

  physicalOf(name: string): number {
    return this.textPhysical + Number(this.addressOf(name) - this.text);
  }

  #writeVariables(options: KernelOptions): void {
    const { machine } = this;
    const { bytes: types, cpumaskBytes, idrBytes } = this.#types;
    this.symbols.set("_text", { type: "T", address: this.text });
    this.symbols.set("_stext", { type: "T", address: this.text });
    if (options.isFixed !== true) machine.writeU64(this.place("page_offset_base", 8), machine.direct(0));
    machine.write(
      this.place("linux_banner", 128),
      new TextEncoder().encode(`Linux version ${this.release} (`),
    );
    const uts = this.place("init_uts_ns", 512);
    ["Linux", "synthetic", this.release, "#1 SMP", this.#arch, "(none)"].forEach((field, index) => {
      machine.write(uts + 16 + 65 * index, new TextEncoder().encode(field));
    });
    for (const name of ["map_idr", "prog_idr", "link_idr", "btf_idr"]) this.place(name, idrBytes);
    const offsets = options.perCpuOffsets ?? [0x1000n, 0x2000n];
    const table = this.place("__per_cpu_offset", 8 * cpumaskBytes * 8);
    offsets.forEach((offset, cpu) => {
      machine.writeU64(table + 8 * cpu, offset);
    });
    for (const name of ["__cpu_possible_mask", "__cpu_online_mask"])
      machine.write(this.place(name, cpumaskBytes), lowBits(offsets.length));
    this.#writeResources(
      options.ram ?? [[machine.physicalBase, machine.physicalBase + machine.bytes.length]],
    );
    for (const [name, size] of Object.entries(options.variables ?? {})) this.place(name, size);
    const btf = this.place("__start_BTF", types.length);
    machine.write(btf, types);
    this.symbols.set("__stop_BTF", {
      type: "D",
      address: this.addressOf("__start_BTF") + BigInt(types.length),
    });
  }

  #writeResources(ram: readonly (readonly [number, number])[]): void {
    const { machine } = this;
    const { resource } = this.#types;
    const name = machine.allocate(16);
    machine.write(name, new TextEncoder().encode("System RAM"));
    let link = this.place("iomem_resource", resource.size) + resource.child;
    for (const [start, end] of ram) {
      const node = machine.allocate(resource.size);
      machine.writeU64(link, machine.direct(node));
      machine.writeU64(node + resource.start, BigInt(start));
      machine.writeU64(node + resource.end, BigInt(end - 1));
      machine.writeU64(node + resource.name, machine.direct(name));
      link = node + resource.sibling;
    }
  }

  #writeSymbolsAndInfo(functionsOnly: boolean): void {
    const { machine } = this;
    const perCpu = this.#form === "absolute-percpu" ? [["cpu_number", 0x1c0n] as const] : [];
    for (const [name, address] of perCpu) this.symbols.set(name, { type: "A", address });
    this.place("kallsyms_num_syms", 4);
    // Reserves the space that the tables will need, because their own symbols are in them.
    const count = this.symbols.size + 7;
    const namesBytes = [...this.symbols.keys()].reduce((sum, name) => sum + name.length + 2, 0) + 400;
    const names = this.place("kallsyms_names", namesBytes);
    const tokens = this.place("kallsyms_token_table", 512);
    const index = this.place("kallsyms_token_index", 512);
    const offsets = this.place("kallsyms_offsets", 7 * count);
    const base = this.#form === "self-relative" ? 0 : this.place("kallsyms_relative_base", 8 + 3 * count);
    this.symbols.set("_end", { type: "B", address: this.text + BigInt(this.#imageBytes) });
    const listed = [...this.symbols].filter(([, { type }]) => !functionsOnly || /t/i.test(type));
    const sorted = listed.sort(([, a], [, b]) =>
      a.address < b.address ? -1 : a.address > b.address ? 1 : 0,
    );
    machine.writeU32(this.physicalOf("kallsyms_num_syms"), sorted.length);
    if (base !== 0) machine.writeU64(base, this.text);
    // Token `i` is the character `i`, but "ker" and "bpf_" have their own tokens, so that names are really compressed.
    const special: Readonly<Record<number, string>> = { 1: "ker", 2: "bpf_", 3: "_idr" };
    let tokenAt = 0;
    for (let token = 0; token < 256; token++) {
      const text = special[token] ?? (token >= 32 && token < 127 ? String.fromCharCode(token) : "");
      machine.write(tokens + tokenAt, new TextEncoder().encode(text));
      machine.view.setUint16(index - machine.physicalBase + 2 * token, tokenAt, true);
      tokenAt += text.length + 1;
    }
    let nameAt = 0;
    for (const [position, [name, { type, address }]] of sorted.entries()) {
      const text = `${type}${name}`
        .replace("_idr", "\u0003")
        .replace("bpf_", "\u0002")
        .replace("ker", "\u0001");
      // Every third name has its length in two bytes, as names of 128 and more bytes in the kernel.
      const isLong = position % 3 === 0;
      machine.write(
        names + nameAt,
        isLong ? new Uint8Array([text.length | 0x80, 0]) : new Uint8Array([text.length]),
      );
      nameAt += isLong ? 2 : 1;
      machine.write(names + nameAt, Buffer.from(text, "latin1"));
      nameAt += text.length;
      machine.writeU32(offsets + 4 * position, this.#offsetOf(address, position));
    }
    if (this.#ordered) this.#writeOrder(sorted.map(([name]) => name));
    this.#writeInfo();
  }

  /** `kallsyms_seqs_of_names`, at its position in each form. The single marker, 0, is before the tokens or before this. */
  #writeOrder(names: readonly string[]): void {
    const at =
      this.#form === "self-relative"
        ? this.physicalOf("kallsyms_offsets") + 4 * names.length
        : this.#form === "base-relative"
          ? this.physicalOf("kallsyms_relative_base") + 8
          : this.physicalOf("kallsyms_token_table") - 8 * Math.ceil((3 * names.length) / 8);
    this.orderPhysical = at;
    const order = names.map((name, index) => ({ name, index })).sort((a, b) => (a.name < b.name ? -1 : 1));
    order.forEach(({ index }, place) => {
      this.machine.write(at + 3 * place, new Uint8Array([index >>> 16, index >>> 8, index]));
    });
  }

  #offsetOf(address: bigint, position: number): number {
    const low = (value: bigint): number => Number(BigInt.asUintN(32, value));
    if (this.#form === "self-relative")
      return low(address - this.addressOf("kallsyms_offsets") - BigInt(4 * position));
    if (this.#form === "base-relative") return low(address - this.text);
    return address < 2n ** 31n ? low(address) : low(this.text - address - 1n);
  }

  /** Returns the text of a kernel whose addresses are `moved` higher than this one's. */
  infoText(moved = 0n): string {
    const lines = [`OSRELEASE=${this.release}`, "BUILD-ID=0123abcd", "PAGESIZE=4096"];
    const symbol = (name: string, address: bigint): void => {
      lines.push(`SYMBOL(${name})=${(address + moved).toString(16)}`);
    };
    for (const name of ["init_uts_ns", "_stext"]) symbol(name, this.addressOf(name));
    for (const [name, { address }] of this.symbols) if (name.startsWith("kallsyms_")) symbol(name, address);
    lines.push("OFFSET(uts_namespace.name)=16");
    const offset = this.text - BigInt(this.textPhysical);
    const top = BigInt(this.machine.root) + offset;
    if (this.#arch === "x86_64") {
      symbol("init_top_pgt", top);
      lines.push(`NUMBER(phys_base)=${X86_IMAGE - offset}`, "NUMBER(pgtable_l5_enabled)=1");
      lines.push(`NUMBER(sme_mask)=${this.#encryptionMask}`);
    } else {
      symbol("swapper_pg_dir", top);
      const unsigned = (value: bigint): string => `0x${BigInt.asUintN(64, value).toString(16)}`;
      lines.push(
        "NUMBER(VA_BITS)=48",
        "NUMBER(TCR_EL1_T1SZ)=0x10",
        `NUMBER(kimage_voffset)=${unsigned(offset)}`,
      );
      lines.push(`NUMBER(PHYS_OFFSET)=${unsigned(BigInt(this.machine.physicalBase))}`);
    }
    lines.push(`KERNELOFFSET=${this.#imageMove.toString(16)}`, "");
    return lines.join("\n");
  }

  #writeInfo(): void {
    this.infoPhysical = this.machine.allocate(4096, 4096);
    this.writeText(this.infoPhysical, this.infoText());
  }

  writeText(physical: number, text: string): void {
    this.machine.write(physical, new TextEncoder().encode(text));
  }
}

/** Returns this number of one bits as bytes. */
const lowBits = (count: number): Uint8Array =>
  Uint8Array.from({ length: Math.ceil(count / 8) }, (_, index) => (1 << Math.min(8, count - 8 * index)) - 1);
