/** Reads ORC unwind tables (arch/x86/include/asm/orc_types.h): the layout of the stack at each address of kernel code. */
import type { Btf } from "../../btf/btf.ts";
import { at, i32, optional, ptr, struct, u32 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import { BTF_KIND } from "../../uapi/btf.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { StructAt } from "../kernel/struct-at.ts";
import { add, distance, isNull, type Pointer } from "../memory/pointer.ts";

export type OrcRegister = "undefined" | "sp" | "bp" | "prev-sp" | "sp-indirect" | "bp-indirect" | "other";
export type OrcType = "undefined" | "end" | "call" | "regs" | "regs-partial";

export interface OrcEntry {
  readonly spOffset: number;
  readonly bpOffset: number;
  readonly spReg: OrcRegister;
  readonly bpReg: OrcRegister;
  readonly type: OrcType;
  /** Whether the frame's address is that of an instruction, not a return address. */
  readonly signal: boolean;
}

/** `orc_fp_entry` (arch/x86/kernel/unwind_orc.c): the entry for code that keeps a frame pointer, such as BPF programs. */
export const FRAME_POINTER_ENTRY: OrcEntry = {
  spOffset: 16,
  bpOffset: -16,
  spReg: "bp",
  bpReg: "prev-sp",
  type: "call",
  signal: false,
};

const NEW_REGISTERS: readonly OrcRegister[] = [
  "undefined",
  "other",
  "other",
  "sp",
  "bp",
  "other",
  "other",
  "other",
  "prev-sp",
  "sp-indirect",
  "bp-indirect",
];
const OLD_REGISTERS: readonly OrcRegister[] = [
  "undefined",
  "prev-sp",
  "other",
  "other",
  "bp",
  "sp",
  "other",
  "other",
  "bp-indirect",
  "sp-indirect",
];
const NEW_SP = 3;
const OLD_SP = 5;
/** Types with `orc_entry.end` (until 6.3), and without. */
const OLD_TYPES: readonly OrcType[] = ["call", "regs", "regs-partial", "call"];
const NEW_TYPES: readonly OrcType[] = ["undefined", "end", "call", "regs", "regs-partial"];

const MODULE = struct("module", {
  count: at(optional(u32, "with CONFIG_UNWINDER_ORC"), "arch.num_orcs"),
  ips: at(optional(ptr, "with CONFIG_UNWINDER_ORC"), "arch.orc_unwind_ip"),
  entries: at(optional(ptr, "with CONFIG_UNWINDER_ORC"), "arch.orc_unwind"),
});
const ENTRY = struct("orc_entry", {
  sp_offset: { ...i32, type: "s16", bits: 16 },
  bp_offset: { ...i32, type: "s16", bits: 16 },
});
const MAX_ENTRIES = 2 ** 24;
const IP_BYTES = 4;

interface Bits {
  readonly shift: number;
  readonly mask: number;
}

interface Table {
  readonly ips: Pointer;
  readonly entries: Pointer;
  readonly count: number;
}

export class OrcTables {
  readonly #kernel: GuestKernel;
  readonly #kernelTable: Table;
  readonly #spReg: Bits;
  readonly #bpReg: Bits;
  readonly #type: Bits;
  readonly #signal: Bits | undefined;
  readonly #end: Bits | undefined;
  readonly #registers: readonly OrcRegister[];

  /** Throws `KtstrError` if the kernel has no such tables. */
  constructor(kernel: GuestKernel) {
    const { symbols, btf } = kernel;
    this.#kernel = kernel;
    const ips = symbols.address("__start_orc_unwind_ip");
    const stop = symbols.address("__stop_orc_unwind_ip");
    const entries = symbols.address("__start_orc_unwind");
    if (ips === undefined || stop === undefined || entries === undefined)
      throw new KtstrError("unwind a stack: the kernel has no ORC tables (CONFIG_UNWINDER_ORC is off)");
    this.#kernelTable = { ips, entries, count: distance(ips, stop) / IP_BYTES };
    const [spReg, bpReg, type] = [bitsOf(btf, "sp_reg"), bitsOf(btf, "bp_reg"), bitsOf(btf, "type")];
    if (spReg === undefined || bpReg === undefined || type === undefined)
      throw new KtstrError("unwind a stack: struct orc_entry does not have the expected members");
    this.#spReg = spReg;
    this.#bpReg = bpReg;
    this.#type = type;
    this.#signal = bitsOf(btf, "signal");
    this.#end = bitsOf(btf, "end");
    this.#registers = this.#numbering();
  }

  /** Determines the numbering of registers, which changed without a change of types: a function's first instruction has SP. */
  #numbering(): readonly OrcRegister[] {
    const schedule = this.#kernel.symbols.address("schedule");
    const word = schedule === undefined ? undefined : this.#lookUp(this.#kernelTable, schedule)?.word;
    const register = word === undefined ? -1 : bitsIn(word, this.#spReg);
    if (register === NEW_SP) return NEW_REGISTERS;
    if (register === OLD_SP) return OLD_REGISTERS;
    throw new KtstrError(
      `unwind a stack: the ORC register at schedule() is ${register}, which is not supported`,
    );
  }

  /** Returns the entry for an address in the kernel's image. */
  inKernel(address: Pointer): OrcEntry | undefined {
    return this.#entry(this.#kernelTable, address);
  }

  /** Returns the entry for an address in a `struct module`'s code. Throws `GuestFault`. */
  inModule(module: Pointer, address: Pointer): OrcEntry | undefined {
    const { memory, btf } = this.#kernel;
    const layout = MODULE.resolve(btf);
    if (layout.count === undefined || layout.ips === undefined || layout.entries === undefined)
      return undefined;
    const at = new StructAt(memory, module, "module.");
    const ips = at.pointer(layout.ips, "arch.orc_unwind_ip");
    const entries = at.pointer(layout.entries, "arch.orc_unwind");
    if (isNull(ips) || isNull(entries)) return undefined;
    return this.#entry({ ips, entries, count: at.u32(layout.count, "arch.num_orcs") }, address);
  }

  #entry(table: Table, address: Pointer): OrcEntry | undefined {
    const found = this.#lookUp(table, address);
    if (found === undefined) return undefined;
    const { word, spOffset, bpOffset } = found;
    const isEnd = this.#end !== undefined && bitsIn(word, this.#end) === 1;
    const types = this.#end === undefined ? NEW_TYPES : OLD_TYPES;
    const type = isEnd ? "end" : (types[bitsIn(word, this.#type)] ?? "undefined");
    return {
      spOffset,
      bpOffset,
      spReg: this.#registers[bitsIn(word, this.#spReg)] ?? "other",
      bpReg: this.#registers[bitsIn(word, this.#bpReg)] ?? "other",
      type,
      signal:
        this.#signal === undefined
          ? type === "regs" || type === "regs-partial"
          : bitsIn(word, this.#signal) === 1,
    };
  }

  /** `__orc_find`: the last entry whose address is not above the given one. */
  #lookUp(
    { ips, entries, count }: Table,
    address: Pointer,
  ): { word: number; spOffset: number; bpOffset: number } | undefined {
    if (!(Number.isInteger(count) && count > 0 && count <= MAX_ENTRIES)) return undefined;
    const { memory, btf } = this.#kernel;
    let first = 0;
    let last = count - 1;
    let found = -1;
    while (first <= last) {
      const middle = first + ((last - first) >>> 1);
      const at = add(ips, middle * IP_BYTES);
      const start = add(at, memory.i32(at.hi, at.lo, 0, "orc_unwind_ip"));
      if (distance(start, address) >= 0) {
        found = middle;
        first = middle + 1;
      } else last = middle - 1;
    }
    if (found < 0) return undefined;
    const layout = ENTRY.resolve(btf);
    const bytes = memory.copy(entries.hi, entries.lo, found * layout.sizeof, layout.sizeof, "orc_unwind");
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    return {
      word: view.getUint16(4, true),
      spOffset: view.getInt16(layout.sp_offset, true),
      bpOffset: view.getInt16(layout.bp_offset, true),
    };
  }
}

/** Returns the position of a bit-field in the 16 bits after the two offsets. */
function bitsOf(btf: Btf, member: string): Bits | undefined {
  const id = btf.find("orc_entry", BTF_KIND.STRUCT);
  const found = id === undefined ? undefined : btf.member(id, member);
  if (found === undefined || found.bitSize === 0) return undefined;
  const shift = found.byteOffset * 8 + found.bitOffset - 32;
  return shift < 0 || shift + found.bitSize > 16 ? undefined : { shift, mask: (1 << found.bitSize) - 1 };
}

const bitsIn = (word: number, { shift, mask }: Bits): number => (word >>> shift) & mask;
