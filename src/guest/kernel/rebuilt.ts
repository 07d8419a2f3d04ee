/**
 * Builds VMCOREINFO from the kernel's symbol table, for memory that does not contain the text. It has the same names and
 * format as the kernel's own (kernel/vmcore_info.c, arch/x86 and arch/arm64), so that its readers work unchanged.
 */
import { FormatError } from "../../errors.ts";
import type { PageObserver } from "../image/observed.ts";
import type { PhysicalMemory } from "../image/physical.ts";
import { GuestFault } from "../memory/fault.ts";
import { arm64Paging, PageTables, type PagingMode, x86Paging } from "../memory/mmu.ts";
import { fromBigInt, toBigInt } from "../memory/pointer.ts";
import { Kallsyms, type KallsymsPlaces } from "./kallsyms.ts";
import { placesOf } from "./kallsyms-search.ts";
import type { KallsymsTables } from "./kallsyms-shape.ts";
import {
  checkMachine,
  machineOf,
  type Refusal,
  utsNameOffset,
  X86_DIRECT_MAP,
  X86_IMAGE_BASE,
} from "./machine.ts";
import { memoryOf } from "./memory-of.ts";
import { type EachPage, type FoundTables, searchDirectMap, searchPageTables } from "./page-tables-search.ts";
import { parseVmcoreinfo, type Vmcoreinfo } from "./vmcoreinfo.ts";

/** Base of a linear mapping of physical memory, through which kallsyms is read. It is above all of the kernel's own symbols. */
const LINEAR_BASE = 0xffff_0000_0000_0000n;
const BANNER = Buffer.from("Linux version ", "latin1");
const BANNER_BYTES = 128;
/** The image is contiguous. KASLR moves it by multiples of 64 KiB (2 MiB on most kernels), virtually and physically. */
const MOVE_BYTES = 0x1_0000;
const MAX_IMAGE_BYTES = 256 * 2 ** 20;
const MAX_NOTES_BYTES = 4096;
/** A note of 20 bytes, type NT_GNU_BUILD_ID. */
const BUILD_ID_NOTE = Buffer.from([4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, 0x47, 0x4e, 0x55, 0]);

/** arm64: page shift, translated address bits, and address bits of the build. */
const ARM64_MODES: readonly (readonly [12 | 14 | 16, number, number])[] = [
  ...([
    [12, 48, 48],
    [12, 52, 52],
    [12, 48, 52],
    [12, 39, 39],
  ] as const),
  ...([
    [14, 47, 47],
    [14, 48, 48],
    [14, 52, 52],
    [14, 47, 52],
    [14, 36, 36],
  ] as const),
  ...([
    [16, 48, 48],
    [16, 52, 52],
    [16, 48, 52],
    [16, 42, 42],
  ] as const),
];

function arm64Modes(): PagingMode[] {
  const modes = ARM64_MODES.map(([pageShift, bits]) => arm64Paging(pageShift, bits));
  return modes.filter(({ name }, index) => modes.findIndex((mode) => mode.name === name) === index);
}

/**
 * Returns a text that matches this memory, or a clause that says why there is none. `eachPage` visits the pages that are
 * candidates for the top page table if the one that the symbol table names cannot be used.
 */
export function rebuildVmcoreinfo(
  memory: PhysicalMemory,
  pages: PageObserver | undefined,
  tables: KallsymsTables,
  eachPage: EachPage,
): Vmcoreinfo | Refusal {
  try {
    const kernel = new UnknownKernel(memory, pages, tables);
    let why = kernel.problem;
    if (why !== "") return why;
    for (const lines of kernel.texts(eachPage)) {
      const info = parseVmcoreinfo(Buffer.from(`${lines.join("\n")}\n`, "latin1"), undefined, true)!;
      const machine = machineOf(info);
      const checked = typeof machine === "string" ? machine : checkMachine(memory, machine, info);
      if (typeof checked !== "string") return info;
      if (why === "") why = checked;
    }
    return why;
  } catch (error) {
    if (error instanceof FormatError || error instanceof GuestFault) return error.message;
    throw error;
  }
}

class UnknownKernel {
  /** Why no text can be built; "" if one can. */
  readonly problem: string;
  readonly #memory: PhysicalMemory;
  readonly #tables: KallsymsTables;
  readonly #symbols: Kallsyms;
  /** Difference between the virtual addresses in kallsyms and the physical addresses of the image. */
  #offset = LINEAR_BASE;

  /** Throws `FormatError` or `GuestFault` if the tables are inconsistent. */
  constructor(memory: PhysicalMemory, pages: PageObserver | undefined, tables: KallsymsTables) {
    this.#memory = memory;
    this.#tables = tables;
    const seen = memoryOf({ physical: memory, tables: new PageTables(memory, x86Paging(4), 0) }, pages);
    seen.addLinear(fromBigInt(LINEAR_BASE), 0, memory.end);
    this.#symbols = new Kallsyms(seen, this.#places(LINEAR_BASE));
    this.problem = this.#problem();
  }

  #places(offset: bigint): KallsymsPlaces {
    return placesOf(this.#tables, (physical) => offset + BigInt(physical), undefined);
  }

  #problem(): string {
    const banner = this.#address("linux_banner");
    if (banner === undefined)
      return "its symbol table has no variables: the kernel was built without CONFIG_KALLSYMS_ALL";
    // Self-relative offsets give addresses relative to the base used here; other rules give the kernel's addresses.
    if (this.#tables.base !== undefined) {
      const physical = this.#bannerNear(banner);
      if (physical === undefined) return "the text of linux_banner is not where its symbol places it";
      this.#offset = banner - BigInt(physical);
    }
    return this.#release() === "" ? "linux_banner does not hold a release" : "";
  }

  #address(name: string): bigint | undefined {
    const at = this.#symbols.address(name);
    return at && toBigInt(at.hi, at.lo);
  }

  #physical(name: string): number | undefined {
    const address = this.#address(name);
    return address === undefined ? undefined : Number(address - this.#offset);
  }

  #bytes(physical: number, length: number): Buffer {
    const bytes = new Uint8Array(length);
    const held = physical >= 0 ? this.#memory.copyOut(physical, bytes) : 0;
    return Buffer.from(bytes.buffer, 0, held);
  }

  /** Returns the value of a 64-bit variable. */
  #u64(name: string): bigint | undefined {
    const physical = this.#physical(name);
    const bytes = physical === undefined ? undefined : this.#bytes(physical, 8);
    return bytes?.length === 8 ? bytes.readBigUInt64LE() : undefined;
  }

  #bannerNear(address: bigint): number | undefined {
    const near = this.#tables.tokens;
    const inMove = Number(address & BigInt(MOVE_BYTES - 1));
    const start = near - (near % MOVE_BYTES) - MAX_IMAGE_BYTES + inMove;
    for (let move = 0; move < 2 * MAX_IMAGE_BYTES; move += MOVE_BYTES)
      if (this.#bytes(start + move, BANNER.length).equals(BANNER)) return start + move;
    return undefined;
  }

  #release(): string {
    const banner = this.#bytes(this.#physical("linux_banner")!, BANNER_BYTES).toString("latin1");
    return /^Linux version ([\x21-\x7e]{1,64}) /.exec(banner)?.[1] ?? "";
  }

  /** Yields texts from the kernel's variables, then texts from page tables that are found by checking candidates. */
  *texts(eachPage: EachPage): Generator<string[]> {
    const offset = this.#offsetWithoutTables();
    if (offset !== undefined) yield* this.#textsWith(offset, undefined);
    const found = this.#search(offset, eachPage);
    if (found !== undefined) yield* this.#textsWith(found.imageOffset, found);
  }

  get #isX86(): boolean {
    return this.#address("phys_base") !== undefined || this.#address("init_top_pgt") !== undefined;
  }

  /** Returns the image's offset, from the addresses of its symbols, or else from the kernel's own variables. */
  #offsetWithoutTables(): bigint | undefined {
    if (this.#offset !== LINEAR_BASE) return this.#offset;
    const physBase = this.#u64("phys_base");
    return physBase === undefined
      ? this.#u64("kimage_voffset")
      : X86_IMAGE_BASE - BigInt.asIntN(64, physBase);
  }

  #search(withoutTables: bigint | undefined, eachPage: EachPage): FoundTables | undefined {
    const physical = ["_stext", "linux_banner", "init_uts_ns"].map((name) => this.#physical(name));
    if (!physical.every((at) => at !== undefined)) return undefined;
    const roots = ["init_top_pgt", "swapper_pg_dir"].flatMap((name) => this.#physical(name) ?? []);
    const isX86 = this.#isX86;
    const modes = isX86 ? [x86Paging(5), x86Paging(4)] : arm64Modes();
    // arm64's image is above the direct map, which is the lower half (arch/arm64/include/asm/memory.h, PAGE_END).
    const lowest = ({ addressBits }: PagingMode): bigint =>
      isX86 ? X86_IMAGE_BASE : (1n << 64n) - (1n << BigInt(addressBits - 1));
    const directBase = ({ levels }: PagingMode): bigint | undefined =>
      isX86 ? this.#u64("page_offset_base") || X86_DIRECT_MAP[levels.length === 5 ? 5 : 4] : undefined;
    const isKnown = this.#offset !== LINEAR_BASE;
    const imageOffset = isKnown ? withoutTables : undefined;
    return searchPageTables(
      this.#memory,
      modes,
      { physical, lowest, imageOffset, directBase },
      roots,
      // On x86-64 each process has a top table with the kernel's half; arm64 has one for the kernel.
      isX86 ? eachPage : () => {},
    );
  }

  /** Returns arm64's PHYS_OFFSET: the kernel's variable if the page tables confirm it, else the value from the tables. */
  #memoryStart(mode: PagingMode, linkedBits: number, found: FoundTables | undefined): bigint {
    const variable = this.#u64("memstart_addr") ?? 0n;
    const stext = this.#physical("_stext");
    const root = found?.root ?? this.#physical("swapper_pg_dir");
    if (stext === undefined || root === undefined) return variable;
    const pageOffset = -(1n << BigInt(linkedBits));
    const { hi, lo } = fromBigInt(BigInt.asUintN(64, pageOffset - variable + BigInt(stext)));
    if (new PageTables(this.#memory, mode, root).translate(hi, lo) === stext) return variable;
    const base = searchDirectMap(this.#memory, { mode, root }, stext);
    return base === undefined ? variable : BigInt.asUintN(64, pageOffset - base);
  }

  /** Yields texts with this offset of the image: for the table and mode of `found`, or for each mode if it is undefined. */
  *#textsWith(imageOffset: bigint, found: FoundTables | undefined): Generator<string[]> {
    const uts = this.#physical("init_uts_ns");
    if (uts === undefined) return;
    const isX86 = this.#isX86;
    const line = (name: string, address: bigint): string =>
      `SYMBOL(${name})=${BigInt.asUintN(64, address).toString(16)}`;
    const places = this.#places(imageOffset);
    const common = [
      `OSRELEASE=${this.#release()}`,
      ...this.#buildId(),
      ...["_stext", "init_uts_ns", "init_top_pgt", "swapper_pg_dir"].flatMap((name) => {
        const isRoot = name === (isX86 ? "init_top_pgt" : "swapper_pg_dir");
        const physical = isRoot && found !== undefined ? found.root : this.#physical(name);
        return physical === undefined ? [] : [line(name, imageOffset + BigInt(physical))];
      }),
      `OFFSET(uts_namespace.name)=${utsNameOffset(this.#memory, uts, undefined)}`,
      ...["num_syms", "names", "token_table", "token_index", "offsets", "relative_base"].flatMap((name) => {
        const address = places.symbol(`kallsyms_${name}`);
        return address === undefined ? [] : [line(`kallsyms_${name}`, address)];
      }),
    ];
    if (isX86) {
      const own = [
        "PAGESIZE=4096",
        `NUMBER(phys_base)=${BigInt.asIntN(64, X86_IMAGE_BASE - imageOffset)}`,
        `NUMBER(sme_mask)=${this.#u64("sme_me_mask") ?? 0n}`,
      ];
      for (const isFive of [1, 0])
        if (found === undefined || found.mode.levels.length === 4 + isFive)
          yield [...common, ...own, `NUMBER(pgtable_l5_enabled)=${isFive}`];
      return;
    }
    for (const [pageShift, bits, linkedBits] of ARM64_MODES)
      if (found === undefined || found.mode.name === arm64Paging(pageShift, bits).name)
        yield [
          ...common,
          `PAGESIZE=${2 ** pageShift}`,
          `NUMBER(VA_BITS)=${linkedBits}`,
          `NUMBER(TCR_EL1_T1SZ)=${64 - bits}`,
          `NUMBER(kimage_voffset)=0x${BigInt.asUintN(64, imageOffset).toString(16)}`,
          `NUMBER(PHYS_OFFSET)=0x${this.#memoryStart(arm64Paging(pageShift, bits), linkedBits, found).toString(16)}`,
        ];
  }

  #buildId(): string[] {
    const start = this.#physical("__start_notes");
    if (start === undefined) return [];
    const notes = this.#bytes(start, MAX_NOTES_BYTES);
    const at = notes.indexOf(BUILD_ID_NOTE);
    const id =
      at < 0 ? Buffer.alloc(0) : notes.subarray(at + BUILD_ID_NOTE.length, at + BUILD_ID_NOTE.length + 20);
    return id.length === 20 ? [`BUILD-ID=${id.toString("hex")}`] : [];
  }
}
