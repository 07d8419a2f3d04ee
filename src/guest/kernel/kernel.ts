/**
 * Opens a frozen kernel: its memory, symbols, types and CPUs.
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
import { checkMachine, kernelNames, X86_DIRECT_MAP } from "./machine.ts";
import { memoryOf } from "./memory-of.ts";
import { type Cpus, readCpus } from "./percpu.ts";
import { requireSymbol, type Symbols } from "./symbols.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";
import type { Vmlinux } from "./vmlinux.ts";

export interface OpenKernelOptions extends DiscoverOptions {
  /** Raw files or dumps, whose formats are detected. */
  readonly memory: readonly MemorySource[];
  /** An ELF file whose symbols and types are used instead of those in the image. */
  readonly vmlinux?: string | undefined;
  /** Whether types share mapped memory. They must then not be used after the kernel is disposed. */
  readonly sharesTypes?: boolean | undefined;
  /** Records the pages that are read and the symbols that are looked up, to make a capture. */
  readonly recorder?: Recorder | undefined;
}

/** A step in finding the kernel, for `--explain`. */
export interface Finding {
  readonly what: string;
  readonly text: string;
}

export interface GuestKernel extends Disposable {
  readonly memory: GuestMemory;
  readonly symbols: Symbols;
  /** The kernel's own types; parsed lazily. Throws `KtstrError` if there are none. */
  readonly btf: Btf;
  /** Read lazily. */
  readonly cpus: Cpus;
  readonly info: KernelInfo;
  /** As `uname -r` prints it: "6.12.117+deb13-amd64". */
  readonly release: string;
  /** NT_PRSTATUS notes of the dump, `struct elf_prstatus`, one per CPU; none for raw memory. */
  readonly prstatus: readonly Uint8Array[];
  /** Sentences about assumptions and missing parts. */
  readonly warnings: readonly string[];
  /** The steps that found the kernel, in order. */
  explain(): readonly Finding[];
  /** Throws `KtstrError` if a memory file shrank. Called before each listing. */
  check(): void;
  /**
   * Removes mapped pages of memory files from this process's resident memory if they are many. Reads map them again. Called by
   * walks that visit structs all over the memory.
   */
  limitPages(): void;
}

/** A kernel with the details that only captures and `--explain` use. */
export interface OpenedKernel extends GuestKernel {
  readonly found: Found;
  /** Virtual address of physical address 0 in the direct map; undefined if the direct map is not used. */
  readonly directBase: bigint | undefined;
  /** The warnings about the memory file, which a capture stores because its user cannot see that file. */
  readonly assumptions: readonly string[];
  /** Ids of the maps whose contents are in a capture; undefined for all. */
  readonly capturedValues: ReadonlySet<number> | undefined;
  /** Drops cached pages and translations of a running machine. */
  refresh(): void;
}

/** Opens a frozen machine. Throws `KtstrError` if the files, the kernel or the vmlinux cannot be read. */
export function openKernel(options: OpenKernelOptions): OpenedKernel {
  const vmlinux = options.vmlinux === undefined ? undefined : requireVmlinux(options.vmlinux);
  const image = new MemoryImage(options.memory, options.onUnpack);
  const { recorder, sharesTypes = false } = options;
  try {
    // A guessed layout is confirmed by a kernel that was opened in it, which is then used.
    let trial: Kernel | undefined;
    const found = discover(image, options, (candidate) => {
      trial = new Kernel(image, candidate, { vmlinux, sharesTypes });
      return readRamRanges(trial.memory, trial.symbols, trial.btf);
    });
    if (recorder !== undefined)
      return new Kernel(image, recorded(image, found, recorder), { vmlinux, sharesTypes, recorder });
    const kernel = trial?.found === found ? trial : new Kernel(image, found, { vmlinux, sharesTypes });
    const isSearched = options.vmcoreinfo === undefined && image.vmcoreinfo === undefined;
    if (isSearched && (options.others === true || hasCrashKernel(kernel)))
      kernel.warnings.push(...twoKernels(found.info, findOthers(image, found)));
    return kernel;
  } catch (error) {
    image[Symbol.dispose]();
    throw error;
  }
}

/** Finds the same kernel again and records the pages that are read, without those of rejected candidates. */
function recorded(image: MemoryImage, found: Found, recorder: Recorder): Found {
  const { ObservedPhysical } = require("../image/observed.ts") as typeof import("../image/observed.ts");
  const physical = new ObservedPhysical(found.physical, fillThenRecord(image, recorder.pages));
  const tables = checkMachine(physical, found.machine, found.info);
  if (typeof tables === "string") throw new KtstrError(`find the kernel a second time: ${tables}`);
  return { ...found, physical, tables };
}

/** Returns an observer that first fills pages that are read on demand, then records them. */
function fillThenRecord({ pages }: MemoryImage, recorded: PageObserver): PageObserver {
  if (pages === undefined) return recorded;
  return { note: (physical, length) => pages.note(physical, length) && recorded.note(physical, length) };
}

function requireVmlinux(path: string): Vmlinux {
  // Code that captures do not need is loaded on first use.
  const { loadVmlinux } = require("./vmlinux.ts") as typeof import("./vmlinux.ts");
  const vmlinux = loadVmlinux(path);
  if (vmlinux !== null) return vmlinux;
  throw new KtstrError(`open vmlinux ${path}: there is no such file`);
}

/** Throws `KtstrError` if a vmlinux does not belong to the kernel in memory. */
function checkBuildId({ info }: Found, { path, buildId }: Vmlinux): void {
  if (info.buildId === "" || buildId === "" || info.buildId === buildId) return;
  throw new KtstrError(
    `open vmlinux ${path}: its build id is ${buildId}, but that of the kernel in memory (${info.release}) is ${info.buildId}`,
    {
      hint: "Give the vmlinux of the same build, or omit --vmlinux: the image has its own symbols and types.",
    },
  );
}

const MAX_BTF_BYTES = 64 * 2 ** 20;
const STATIC_KEY = struct("static_key_false", { enabled: at(u32, "key.enabled.counter") });

/** Returns a warning that names the kernel that was chosen and the option that chooses another one. */
function twoKernels(info: Vmcoreinfo, others: readonly Vmcoreinfo[]): string[] {
  const named = ({ release, physical }: Vmcoreinfo): string =>
    `${release} (VMCOREINFO at 0x${(physical ?? 0).toString(16)})`;
  return others.map(
    (other) =>
      `This memory contains two kernels. ${named(info)} is used; the other one is ${named(other)}. One of them may be a crash kernel, or left by an earlier boot. --vmcoreinfo 0x${other.physical!.toString(16)} uses the other one.`,
  );
}

/**
 * Returns whether memory is reserved for a crash kernel (`struct resource crashk_res`, which starts with start and end), or
 * whether this is a crash kernel (`elfcorehdr_addr`, which is ELFCORE_ADDR_MAX in all others).
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

function describePlace({ physical, isRebuilt }: Vmcoreinfo): string {
  if (isRebuilt) return "not in this memory; derived from the kernel's symbol table";
  return physical === undefined ? "in the dump's note" : `at physical 0x${physical.toString(16)}`;
}

interface KernelParts {
  readonly vmlinux: Vmlinux | undefined;
  readonly recorder?: Recorder;
  readonly sharesTypes: boolean;
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
  readonly #sharesTypes: boolean;
  directBase: bigint | undefined;
  #btf: Btf | undefined;
  #cpus: Cpus | undefined;
  #kallsymsAt: Pointer | undefined;

  constructor(image: MemoryImage, found: Found, { vmlinux, recorder, sharesTypes }: KernelParts) {
    if (vmlinux !== undefined) checkBuildId(found, vmlinux);
    this.#image = image;
    this.found = found;
    this.#vmlinux = vmlinux;
    this.#recorder = recorder;
    this.#sharesTypes = sharesTypes;
    this.assumptions = found.assumption === "" ? image.warnings : [...image.warnings, found.assumption];
    this.warnings = [...this.assumptions];
    this.memory = memoryOf(
      found,
      recorder === undefined ? image.pages : fillThenRecord(image, recorder.pages),
    );
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
        this.warnings.push(
          `${vmlinux.path} could not be compared with the kernel in memory: there is no build id.`,
        );
      const linked = vmlinux.symtab?.address("_stext");
      if (linked !== undefined) {
        const moved = info.symbol("_stext")! - toBigInt(linked.hi, linked.lo);
        return vmlinux.symbolsMovedBy(Number(moved))!;
      }
      this.warnings.push(`${vmlinux.path} has no symbols (it is stripped); those in the image are used.`);
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

  /** A capture contains the results of symbol lookups instead of the tables of kallsyms. */
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

  /** `_text` to `_end` is physically contiguous on both architectures. */
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

  /** Adds the direct map if the page tables confirm its base, because the kernel's variable may be overwritten. */
  #addDirectMap(): void {
    const { machine, info, physical, tables } = this.found;
    const base = machine.directBase ?? this.#x86DirectBase();
    const probe = info.symbol("_stext")! - machine.imageOffset;
    const { hi, lo } = fromBigInt(base + probe);
    if (BigInt(tables.translate(hi, lo)) !== probe) {
      this.warnings.push(
        `The direct map is not at ${hex(fromBigInt(base).hi, fromBigInt(base).lo)}, where the kernel's variable places it; all addresses are translated by the page tables.`,
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
      throw new KtstrError(`read the kernel's BTF: __start_BTF and __stop_BTF are ${length} bytes apart`);
    // Types can outlive a mapped image.
    const { memory } = this;
    const bytes =
      this.#image.isMapped && !this.#sharesTypes
        ? memory.copy(start.hi, start.lo, 0, length, "__start_BTF")
        : memory.share(start.hi, start.lo, 0, length, "__start_BTF");
    return Btf.parse(bytes, { name: "vmlinux" });
  }

  get cpus(): Cpus {
    this.#cpus ??= readCpus(this.memory, this.symbols, this.btf);
    return this.#cpus;
  }

  get release(): string {
    return this.found.info.release;
  }

  get info(): KernelInfo {
    const { info, machine, physical } = this.found;
    return {
      release: this.release,
      version: kernelNames(physical, machine, info)?.version ?? "",
      machine: machine.machine,
      possibleCpus: this.cpus.possible.length,
      onlineCpus: this.cpus.onlineCount,
      pageSize: machine.pageBytes,
      statsEnabled: this.#statsEnabled(),
      ...clocks(this.memory, this.symbols, this.btf),
    };
  }

  /** Returns whether the static key `bpf_stats_enabled_key` (kernel/bpf/core.c) is enabled. */
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
    add("VMCOREINFO", describePlace(info));
    const isOverwritten = kernelNames(this.found.physical, machine, info)?.from === "linux_banner";
    const from = isOverwritten ? ", confirmed by linux_banner: init_uts_ns is overwritten" : "";
    add("kernel", `${info.release}${info.buildId === "" ? "" : `, build id ${info.buildId}`}${from}`);
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

  limitPages(): void {
    this.#image.limitPages();
  }

  refresh(): void {
    this.#image.forget();
    this.memory.forget();
  }

  [Symbol.dispose](): void {
    this.#image[Symbol.dispose]();
  }
}
