/**
 * A frozen kernel, opened: its memory, symbols, types and CPUs. What the walkers start from.
 *
 *     using kernel = openKernel({ memory: [{ path: "mem" }] });
 *     const at = requireSymbol(kernel.symbols, "map_idr");
 *     for (const { id, address } of idrEntries(kernel.memory, kernel.btf, at, "map_idr", log)) ...
 */
import { Btf } from "../../btf/btf.ts";
import { at, struct, u32 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { KernelInfo } from "../../state.ts";
import type { Recorder } from "../capture/record.ts";
import { CapturedSymbols } from "../capture/symbols.ts";
import { MemoryImage, type MemorySource } from "../image/image.ts";
import type { PageObserver } from "../image/observed.ts";
import type { GuestMemory } from "../memory/memory.ts";
import { PageTables } from "../memory/mmu.ts";
import { fromBigInt, hex, type Pointer, toBigInt } from "../memory/pointer.ts";
import { clocks } from "./clock.ts";
import { type DiscoverOptions, discover, type Found, findOthers } from "./discover.ts";
import type { Kallsyms } from "./kallsyms.ts";
import { describeLayout, readRamRanges } from "./layout.ts";
import { checkMachine, readUtsName } from "./machine.ts";
import { memoryOf } from "./memory-of.ts";
import { type Cpus, readCpus } from "./percpu.ts";
import { requireSymbol, type Symbols } from "./symbols.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";
import type { Vmlinux } from "./vmlinux.ts";

export interface OpenKernelOptions extends DiscoverOptions {
  /** Raw files or ELF cores, told by content. */
  readonly memory: readonly MemorySource[];
  /** Symbols and types come from this ELF file instead of the image. */
  readonly vmlinux?: string | undefined;
  /** Notes everything that is read of the machine from now on: what a capture is made of. */
  readonly recorder?: Recorder | undefined;
}

/** One thing that was found on the way to the kernel, for `--explain`. */
export interface Finding {
  readonly what: string;
  readonly text: string;
}

export interface GuestKernel extends Disposable {
  readonly memory: GuestMemory;
  readonly symbols: Symbols;
  /** The kernel's own types; parsed when first asked for. Throws `KtstrError` if there are none. */
  readonly btf: Btf;
  /** Read when first asked for. */
  readonly cpus: Cpus;
  readonly info: KernelInfo;
  /** NT_PRSTATUS notes of the dump, `struct elf_prstatus`, one a CPU; none of raw memory. */
  readonly prstatus: readonly Uint8Array[];
  /** What was assumed and what was left out, as sentences. */
  readonly warnings: readonly string[];
  /** How the kernel was found, in the order of finding. */
  explain(): readonly Finding[];
  /** Throws `KtstrError` if a memory file shrank; to be asked before each listing. */
  check(): void;
}

/** What is known of a kernel besides what walkers need. */
export interface OpenedKernel extends GuestKernel {
  readonly found: Found;
  /** Where the direct map has the physical address 0; undefined: it is not used. */
  readonly directBase: bigint | undefined;
  /** Of the warnings those about the memory file, which whoever opens the capture cannot find out. */
  readonly assumptions: readonly string[];
  /** The ids of the maps whose contents are in a capture; undefined: all. */
  readonly capturedValues: ReadonlySet<number> | undefined;
  /** Of a machine that goes on running: what was read of its memory, and where addresses lead, is asked anew. */
  refresh(): void;
}

/** Opens a frozen machine. Throws `KtstrError` if the files, the kernel or the vmlinux cannot be read. */
export function openKernel(options: OpenKernelOptions): OpenedKernel {
  const vmlinux = options.vmlinux === undefined ? undefined : requireVmlinux(options.vmlinux);
  const image = new MemoryImage(options.memory, options.onUnpack);
  try {
    // A layout that has to be guessed is confirmed by a kernel that was opened under it: the same one, then.
    let trial: Kernel | undefined;
    const found = discover(image, options, (candidate) => {
      trial = new Kernel(image, candidate, vmlinux);
      return readRamRanges(trial.memory, trial.symbols, trial.btf);
    });
    const { recorder } = options;
    if (recorder !== undefined) return new Kernel(image, recorded(image, found, recorder), vmlinux, recorder);
    const kernel = trial?.found === found ? trial : new Kernel(image, found, vmlinux);
    const isSearched = options.vmcoreinfo === undefined && image.vmcoreinfo === undefined;
    if (isSearched && (options.others === true || hasCrashKernel(kernel)))
      kernel.warnings.push(...twoKernels(found.info, findOthers(image, found)));
    return kernel;
  } catch (error) {
    image[Symbol.dispose]();
    throw error;
  }
}

/** The same kernel, found anew with what that takes on record; trials and their mistakes are not. */
function recorded(image: MemoryImage, found: Found, recorder: Recorder): Found {
  const { ObservedPhysical } = require("../image/observed.ts") as typeof import("../image/observed.ts");
  const physical = new ObservedPhysical(found.physical, alsoFilled(image, recorder.pages));
  const tables = checkMachine(physical, found.machine, found.info);
  if (typeof tables === "string") throw new KtstrError(`find the kernel a second time: ${tables}`);
  return { ...found, physical, tables };
}

/** Pages that are read on demand are filled before they are recorded. */
function alsoFilled({ pages }: MemoryImage, recorded: PageObserver): PageObserver {
  if (pages === undefined) return recorded;
  return { note: (physical, length) => pages.note(physical, length) && recorded.note(physical, length) };
}

function requireVmlinux(path: string): Vmlinux {
  // Here and below: code that a capture has no use for is loaded where it is used.
  const { loadVmlinux } = require("./vmlinux.ts") as typeof import("./vmlinux.ts");
  const vmlinux = loadVmlinux(path);
  if (vmlinux !== null) return vmlinux;
  throw new KtstrError(`open vmlinux ${path}: there is no such file`);
}

/** Throws `KtstrError` if a vmlinux is not that of the kernel in memory. */
function checkBuildId({ info }: Found, { path, buildId }: Vmlinux): void {
  if (info.buildId === "" || buildId === "" || info.buildId === buildId) return;
  throw new KtstrError(
    `open vmlinux ${path}: its build id is ${buildId}, the kernel in memory (${info.release}) has ${info.buildId}`,
    { hint: "Give the vmlinux of that very build, or none: the image has symbols and types of its own." },
  );
}

/** arch/x86/include/asm/page_64_types.h: `__PAGE_OFFSET_BASE_L4` and `_L5`, where CONFIG_RANDOMIZE_MEMORY is off. */
const X86_DIRECT_MAP = { 4: 0xffff_8880_0000_0000n, 5: 0xff11_0000_0000_0000n } as const;
const MAX_BTF_BYTES = 64 * 2 ** 20;
const STATIC_KEY = struct("static_key_false", { enabled: at(u32, "key.enabled.counter") });

/** Which of several kernels was taken, and how to take another. */
function twoKernels(info: Vmcoreinfo, others: readonly Vmcoreinfo[]): string[] {
  const named = ({ release, physical }: Vmcoreinfo): string =>
    `${release} by VMCOREINFO at 0x${(physical ?? 0).toString(16)}`;
  return others.map(
    (other) =>
      `Two kernels are in this memory. Taken is ${named(info)}; the other is ${named(other)}: a crash kernel and the one that crashed, or what an earlier boot left. --vmcoreinfo 0x${other.physical!.toString(16)} takes that one.`,
  );
}

/**
 * Whether memory is reserved for a crash kernel (`struct resource crashk_res`, which begins with start and end), or this is
 * one (`elfcorehdr_addr`, which is ELFCORE_ADDR_MAX in all others).
 */
function hasCrashKernel({ memory, symbols }: GuestKernel): boolean {
  const wordOf = (name: string, offset: number, otherwise: bigint): bigint => {
    const at = symbols.address(name);
    const place = at === undefined ? -1 : memory.locate(at.hi, at.lo, offset, 8);
    return place < 0 ? otherwise : memory.view.getBigUint64(place, true);
  };
  return wordOf("crashk_res", 8, 0n) !== 0n || wordOf("elfcorehdr_addr", 0, NO_CORE) !== NO_CORE;
}

const NO_CORE = 2n ** 64n - 1n;

function whereIs({ physical, isRebuilt }: Vmcoreinfo): string {
  if (isRebuilt) return "not in this memory; made from the kernel's symbol table";
  return physical === undefined ? "in the dump's note" : `at physical 0x${physical.toString(16)}`;
}

class Kernel implements OpenedKernel {
  readonly memory: GuestMemory;
  readonly symbols: Symbols;
  readonly warnings: string[];
  readonly assumptions: readonly string[];
  readonly #image: MemoryImage;
  readonly found: Found;
  readonly #vmlinux: Vmlinux | undefined;
  readonly #recorder: Recorder | undefined;
  directBase: bigint | undefined;
  #btf: Btf | undefined;
  #cpus: Cpus | undefined;
  #kallsymsAt: Pointer | undefined;

  constructor(image: MemoryImage, found: Found, vmlinux: Vmlinux | undefined, recorder?: Recorder) {
    if (vmlinux !== undefined) checkBuildId(found, vmlinux);
    this.#image = image;
    this.found = found;
    this.#vmlinux = vmlinux;
    this.#recorder = recorder;
    this.assumptions = found.assumption === "" ? image.warnings : [...image.warnings, found.assumption];
    this.warnings = [...this.assumptions];
    this.memory = memoryOf(found, recorder === undefined ? image.pages : alsoFilled(image, recorder.pages));
    const symbols = this.#openSymbols();
    this.symbols = recorder?.symbols(symbols) ?? symbols;
    this.#addImage();
    this.#addDirectMap();
  }

  #openSymbols(): Symbols {
    const { info } = this.found;
    const vmlinux = this.#vmlinux;
    if (vmlinux !== undefined) {
      if (info.buildId === "" || vmlinux.buildId === "")
        this.warnings.push(`${vmlinux.path} could not be compared with the kernel in memory: no build id.`);
      const linked = vmlinux.symtab?.address("_stext");
      if (linked !== undefined) {
        const moved = info.symbol("_stext")! - toBigInt(linked.hi, linked.lo);
        return vmlinux.symbolsMovedBy(Number(moved))!;
      }
      this.warnings.push(`${vmlinux.path} has no symbols (it is stripped): those of the image are used.`);
    }
    const { captureNote } = this.#image;
    if (captureNote !== undefined) return new CapturedSymbols(captureNote);
    const memory = this.#recorder === undefined ? this.memory : this.#unrecorded();
    const symbols = this.#openKallsyms(memory);
    this.#kallsymsAt = symbols.at;
    return symbols;
  }

  #openKallsyms(memory: GuestMemory): Kallsyms {
    const { info, machine } = this.found;
    if (info.symbol("kallsyms_names") !== undefined) {
      const { Kallsyms } = require("./kallsyms.ts") as typeof import("./kallsyms.ts");
      return new Kallsyms(memory, info);
    }
    const { searchKallsyms } = require("./kallsyms-search.ts") as typeof import("./kallsyms-search.ts");
    return searchKallsyms(memory, this.#image.physicalMemory(), info.symbol("_stext")!, machine.imageOffset);
  }

  /** What a capture needs of kallsyms are its answers, not its tables. */
  #unrecorded(): GuestMemory {
    const { mode, root } = this.found.machine;
    const physical = this.#image.physicalMemory();
    return memoryOf({ physical, tables: new PageTables(physical, mode, root) }, this.#image.pages);
  }

  get prstatus(): readonly Uint8Array[] {
    return this.#image.prstatus;
  }

  get capturedValues(): ReadonlySet<number> | undefined {
    return this.#image.captureNote?.values;
  }

  /** `_text` to `_end` lie in one piece of physical memory, on both architectures. */
  #addImage(): void {
    const from = this.symbols.address("_text");
    const to = this.symbols.address("_end");
    if (from === undefined || to === undefined) return;
    const start = toBigInt(from.hi, from.lo);
    const length = Number(toBigInt(to.hi, to.lo) - start);
    const physical = Number(start - this.found.machine.imageOffset);
    if (length > 0 && length <= 2 ** 30 && this.memory.physicalOf(from.hi, from.lo, "_text") === physical)
      this.memory.addLinear(from, physical, length);
  }

  /** Used only where the page tables agree with it: a kernel's own variable may be what was overwritten. */
  #addDirectMap(): void {
    const { machine, info, physical, tables } = this.found;
    const base = machine.directBase ?? this.#x86DirectBase();
    const probe = info.symbol("_stext")! - machine.imageOffset;
    const { hi, lo } = fromBigInt(base + probe);
    if (BigInt(tables.translate(hi, lo)) !== probe) {
      this.warnings.push(
        `The direct map does not lie at ${hex(fromBigInt(base).hi, fromBigInt(base).lo)} where the kernel says; all addresses are translated by its page tables.`,
      );
      return;
    }
    this.directBase = base;
    const first = physical.windows[0]!.physical;
    this.memory.addLinear(fromBigInt(base + BigInt(first)), first, physical.end - first);
  }

  #x86DirectBase(): bigint {
    const { levels } = this.found.machine.mode;
    const variable = this.symbols.address("page_offset_base");
    if (variable === undefined) return X86_DIRECT_MAP[levels.length === 5 ? 5 : 4];
    return this.memory.u64(variable.hi, variable.lo, 0, "page_offset_base");
  }

  get btf(): Btf {
    this.#btf ??= this.#vmlinux?.btf() ?? this.#btfOfImage();
    return this.#btf;
  }

  #btfOfImage(): Btf {
    const start = requireSymbol(this.symbols, "__start_BTF");
    const stop = requireSymbol(this.symbols, "__stop_BTF");
    const length = Number(toBigInt(stop.hi, stop.lo) - toBigInt(start.hi, start.lo));
    if (!(length > 0 && length <= MAX_BTF_BYTES))
      throw new KtstrError(`read the kernel's BTF: ${length} bytes lie between __start_BTF and __stop_BTF`);
    // Types outlive the image, so a mapped one's are copied: five megabytes, which takes as long as reading them.
    const { memory } = this;
    const bytes = this.#image.isMapped
      ? memory.copy(start.hi, start.lo, 0, length, "__start_BTF")
      : memory.share(start.hi, start.lo, 0, length, "__start_BTF");
    return Btf.parse(bytes, { name: "vmlinux" });
  }

  get cpus(): Cpus {
    this.#cpus ??= readCpus(this.memory, this.symbols, this.btf);
    return this.#cpus;
  }

  get info(): KernelInfo {
    const { info, machine, physical } = this.found;
    const uts = readUtsName(physical, Number(info.symbol("init_uts_ns")! - machine.imageOffset), info);
    return {
      release: info.release,
      version: uts?.version ?? "",
      machine: machine.machine,
      possibleCpus: this.cpus.possible.length,
      onlineCpus: this.cpus.onlineCount,
      pageSize: machine.pageBytes,
      statsEnabled: this.#statsEnabled(),
      ...clocks(this.memory, this.symbols, this.btf),
    };
  }

  /** `bpf_stats_enabled_key` (kernel/bpf/core.c), a static key: its count of users. */
  #statsEnabled(): boolean | undefined {
    const key = this.symbols.address("bpf_stats_enabled_key");
    const offsets = STATIC_KEY.resolveIfPresent(this.btf);
    if (key === undefined || offsets === undefined) return undefined;
    const at = this.memory.locate(key.hi, key.lo, offsets.enabled, 4);
    return at < 0 ? undefined : this.memory.view.getInt32(at, true) !== 0;
  }

  explain(): readonly Finding[] {
    const { info, machine } = this.found;
    const findings: Finding[] = [];
    const add = (what: string, text: string): void => {
      findings.push({ what, text });
    };
    add("memory", `${this.#image.format}, ${describeLayout(this.#image.pieces)}`);
    for (const doubt of this.#image.doubts) add("format", doubt);
    add("VMCOREINFO", whereIs(info));
    add("kernel", `${info.release}${info.buildId === "" ? "" : `, build id ${info.buildId}`}`);
    const moved = info.isRebuilt ? undefined : (info.number("KERNELOFFSET") ?? 0n);
    add("KASLR offset", moved === undefined ? "not known" : `0x${moved.toString(16)}`);
    add("page tables", `${machine.mode.name}, top table at physical 0x${machine.root.toString(16)}`);
    add("kernel image", this.#mapping(info.symbol("_stext")!, machine.imageOffset));
    add(
      "direct map",
      this.directBase === undefined ? "not used" : this.#mapping(this.directBase, this.directBase),
    );
    const names = this.#kallsymsAt;
    const namesAt = names === undefined ? "" : ` at ${hex(names.hi, names.lo)}`;
    add("symbols", `${this.symbols.count} from ${this.symbols.source}${namesAt}`);
    const start = this.symbols.address("__start_BTF");
    const where = start === undefined ? "" : ` at ${hex(start.hi, start.lo)}`;
    add(
      "BTF",
      `${this.btf.typeCount} types ${this.#vmlinux?.btf() === undefined ? where.trim() : `from ${this.#vmlinux.path}`}`,
    );
    const { possible, onlineCount } = this.cpus;
    add("CPUs", `${possible.length} possible, ${onlineCount} online`);
    return findings;
  }

  #mapping(virtual: bigint, offset: bigint): string {
    const { hi, lo } = fromBigInt(virtual);
    return `${hex(hi, lo)} is physical 0x${(BigInt.asUintN(64, virtual) - BigInt.asUintN(64, offset)).toString(16)}`;
  }

  check(): void {
    this.#image.check();
  }

  refresh(): void {
    this.#image.forget();
    this.memory.forget();
  }

  [Symbol.dispose](): void {
    this.#image[Symbol.dispose]();
  }
}
