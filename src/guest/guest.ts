/** A frozen machine as a `BpfState`: everything is read from its memory. */

import { asRead } from "../as-read.ts";
import type {
  AttachmentAccessor,
  CgroupProgs,
  CgroupQuery,
  PerfAttachment,
  PinAccessor,
  PinnedKind,
} from "../attachments.ts";
import type { Btf } from "../btf/btf.ts";
import { DisposedError } from "../errors.ts";
import type { FeatureAccessor, Features, TokenMount } from "../features.ts";
import type { KernelLog, LogAccessor } from "../kernel-log.ts";
import type { Network } from "../network.ts";
import type { CallTargets, MachineFunction, ProgCode } from "../prog-code.ts";
import type { Counter } from "../round.ts";
import type { SchedAccessor, SchedReport, SchedulerDumps, TaskInfo } from "../sched-state.ts";
import { findActiveScheduler } from "../scheduler.ts";
import {
  type ActiveScheduler,
  type ArenaPages,
  type BpfState,
  type BtfInfo,
  type CpuStats,
  type CpuValue,
  type EntryCursor,
  found,
  type Holders,
  type KernelInfo,
  type LinkInfo,
  type MapContents,
  type MapInfo,
  type ProgInfo,
  type Read,
  unreadable,
} from "../state.ts";
import type { TaskStack } from "../task-stack.ts";
import { GuestBtfs } from "./bpf/btfs.ts";
import { readHolders } from "./bpf/holders.ts";
import { listLinks } from "./bpf/links.ts";
import { type GuestMap, listMaps } from "./bpf/map-info.ts";
import {
  arenaPages,
  hashEntries,
  lookup,
  percpuArray,
  percpuHashEntries,
  readArray,
  readContents,
  readValue,
} from "./bpf/maps/contents.ts";
import { listProgs } from "./bpf/progs.ts";
import type { MemorySource } from "./image/image.ts";
import { type Finding, type GuestKernel, type OpenedKernel, openKernel } from "./kernel/kernel.ts";
import { AddressNames } from "./kernel/names-at.ts";
import { type OpenFile, openFiles } from "./kernel/open-files.ts";
import { fromBigInt } from "./memory/pointer.ts";
import { readSchedExtState } from "./sched/sched-ext.ts";

export interface GuestOptions {
  /** The machine's memory: raw files or dumps, whose formats are detected. A string is a path. */
  readonly memory: string | MemorySource | readonly (string | MemorySource)[];
  /** An ELF file with the kernel's symbols and types. By default those in memory are used. */
  readonly vmlinux?: string | undefined;
  /** Guest physical address of VMCOREINFO (its text or its note); skips the search. */
  readonly vmcoreinfo?: number | undefined;
  /** Whether raw memory is searched to its end, to warn about a second kernel. */
  readonly others?: boolean | undefined;
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  /** Receives the progress while a compressed file or a pipe is copied. `totalBytes` is 0 for a pipe. */
  readonly onUnpack?: ((doneBytes: number, totalBytes: number) => void) | undefined;
}

/**
 * Opens a frozen machine. Throws `KtstrError` if its files cannot be read or contain no kernel.
 *
 *     using guest = openGuest({ memory: "mem" });
 *     for (const prog of guest.progs()) console.log(prog.id, prog.verifiedInsns);
 */
export function openGuest(options: GuestOptions): GuestState {
  const given = Array.isArray(options.memory) ? options.memory : [options.memory];
  const memory = given.map((source) => (typeof source === "string" ? { path: source } : source));
  const kernel = openKernel({ ...options, memory });
  return new GuestState(kernel, kernel.capturedValues, kernel.found.info.physical);
}

/** Listings are cached: a frozen machine does not change. */
export class GuestState
  implements BpfState, LogAccessor, SchedAccessor, AttachmentAccessor, PinAccessor, FeatureAccessor
{
  /** Guest physical address of VMCOREINFO if it was found in memory. */
  readonly vmcoreinfoAt: number | undefined;
  readonly #kernel: OpenedKernel;
  readonly #captured: ReadonlySet<number> | undefined;
  readonly #warnings: string[];
  readonly #btfs: GuestBtfs;
  readonly #names: AddressNames;
  #maps: ReadonlyMap<number, GuestMap> | undefined;
  #mapInfos: readonly MapInfo[] | undefined;
  #progs: readonly ProgInfo[] | undefined;
  #links: readonly LinkInfo[] | undefined;
  #scheduler: { readonly active: ActiveScheduler | undefined } | undefined;
  #holders: Read<Holders> | undefined;
  #openFiles: readonly OpenFile[] | undefined;
  #disposed = false;
  /** Whether the kernel belongs to another state, which disposes it. */
  #sharesKernel = false;

  /**
   * Takes ownership of the kernel. `captured` has the ids of the maps whose contents are in the image; undefined for all.
   */
  constructor(kernel: OpenedKernel, captured?: ReadonlySet<number>, vmcoreinfoAt?: number) {
    this.vmcoreinfoAt = vmcoreinfoAt;
    this.#kernel = kernel;
    this.#captured = captured;
    this.#warnings = [...kernel.warnings];
    this.#btfs = new GuestBtfs(kernel, this.#warn);
    this.#names = new AddressNames(kernel);
  }

  get warnings(): readonly string[] {
    return this.#warnings;
  }

  /** Returns a state of the same running kernel without cached listings. It is valid until this one is disposed. */
  again(): GuestState {
    const state = new GuestState(this.#alive(), this.#captured, this.vmcoreinfoAt);
    state.#sharesKernel = true;
    return state;
  }

  /** Returns a counter that reads the changing values of a running machine repeatedly. */
  counter(): Counter {
    const { GuestCounter } = require("./counter.ts") as typeof import("./counter.ts");
    return new GuestCounter(this.#alive(), (btf) => this.#btfs.at(btf), this.#names);
  }

  /** The steps that found the kernel, in order. */
  explain(): readonly Finding[] {
    return this.#alive().explain();
  }

  kernel(): KernelInfo {
    return this.#alive().info;
  }

  maps(): readonly MapInfo[] {
    this.#mapsById();
    return this.#mapInfos!;
  }

  mapById(id: number): MapInfo | undefined {
    return this.maps().find((map) => map.id === id);
  }

  progById(id: number): ProgInfo | undefined {
    return this.progs().find((prog) => prog.id === id);
  }

  progs(filter: { readonly type?: number } = {}): readonly ProgInfo[] {
    const kernel = this.#checked();
    this.#progs ??= listProgs(kernel, (btf) => this.#btfs.at(btf), this.#warn);
    return filter.type === undefined ? this.#progs : this.#progs.filter((prog) => prog.type === filter.type);
  }

  /** Returns `unsupported` for captures made by older versions, which did not read this. */
  holders(): Read<Holders> {
    const kernel = this.#checked();
    this.#holders ??= readHolders(kernel, () => this.#files(kernel));
    return this.#holders;
  }

  progCode(prog: ProgInfo): Read<ProgCode> {
    const kernel = this.#checked();
    const maps = prog.mapIds.map((id) => this.mapById(id)).filter((map) => map !== undefined);
    return asRead(() => this.#code().readProgCode(kernel, prog, maps));
  }

  machineCode(prog: ProgInfo): Read<readonly MachineFunction[]> {
    const kernel = this.#checked();
    const { readMachineCode } = require("./bpf/machine-code.ts") as typeof import("./bpf/machine-code.ts");
    return asRead(() => readMachineCode(kernel, prog));
  }

  cpuStats(prog: ProgInfo): Read<readonly CpuStats[]> {
    const kernel = this.#checked();
    const { readCpuStats } = require("./bpf/cpu-stats.ts") as typeof import("./bpf/cpu-stats.ts");
    return asRead(() => readCpuStats(kernel, prog));
  }

  /** Returns `not-present` for captures made by older versions, which did not read this. */
  callTargets(codes: readonly ProgCode[]): Read<CallTargets> {
    const kernel = this.#checked();
    return asRead(() => this.#code().readCallTargets(kernel, this.#names, codes));
  }

  #code(): typeof import("./bpf/prog-code.ts") {
    return require("./bpf/prog-code.ts") as typeof import("./bpf/prog-code.ts");
  }

  /** The path from the root of all mounts, in any mount namespace. */
  pinnedPaths(kind: PinnedKind): ReadonlyMap<number, readonly Uint8Array[]> {
    const pins = require("./bpf/pins.ts") as typeof import("./bpf/pins.ts");
    return pins.listPins(this.#checked(), kind, this.#warn);
  }

  links(): readonly LinkInfo[] {
    const kernel = this.#checked();
    this.#links ??= listLinks(kernel, this.#warn, () => this.#checked());
    return this.#links;
  }

  btfs(): readonly BtfInfo[] {
    this.#checked();
    return this.#btfs.infos();
  }

  btf(id: number): Read<Btf> {
    this.#alive();
    return asRead(() => this.#btfs.byId(id));
  }

  kernelBtf(): Read<Btf> {
    const kernel = this.#alive();
    return asRead(() => kernel.btf);
  }

  programBtf(map: MapInfo): Read<Btf> {
    if (map.btfId === 0) return unreadable("not-present", "the map was created without BTF");
    return this.btf(map.btfId);
  }

  activeScheduler(): ActiveScheduler | undefined {
    const kernel = this.#alive();
    this.#scheduler ??= { active: findActiveScheduler(this, readSchedExtState(kernel)) };
    return this.#scheduler.active;
  }

  /**
   * Reads sched_ext: its state, schedulers, CPUs, dispatch queues and waiting tasks. Throws `KtstrError` if this kernel
   * has no sched_ext.
   */
  scheduler(): SchedReport {
    const { readSchedReport } = require("./sched/report.ts") as typeof import("./sched/report.ts");
    return readSchedReport(this.#checked(), this.#names);
  }

  /**
   * Returns the dump of each scheduler that SysRq-D would print now. Throws `KtstrError` if this kernel has no sched_ext,
   * or if no scheduler is loaded.
   */
  schedulerDumps(): SchedulerDumps {
    const { readSchedulerDumps } = require("./sched/scx-dump.ts") as typeof import("./sched/scx-dump.ts");
    return readSchedulerDumps(this.#checked(), this.#names);
  }

  readValue(map: MapInfo, offset: number, length: number): Read<Uint8Array> {
    return this.#ofMap(map, (kernel, at) => readValue(kernel, at, offset, length));
  }

  readArray(map: MapInfo, key: number): Read<Uint8Array> {
    return this.#ofMap(map, (kernel, at) => readArray(kernel, at, key));
  }

  percpuArray(map: MapInfo, key: number): Read<readonly CpuValue[]> {
    return this.#ofMap(map, (kernel, at) => percpuArray(kernel, at, key));
  }

  hashEntries(map: MapInfo): Read<EntryCursor> {
    return this.#ofMap(map, hashEntries);
  }

  percpuHashEntries(map: MapInfo): Read<EntryCursor> {
    return this.#ofMap(map, percpuHashEntries);
  }

  arenaPages(map: MapInfo): Read<ArenaPages> {
    return this.#ofMap(map, arenaPages);
  }

  lookup(map: MapInfo, key: Uint8Array): Read<Uint8Array | readonly CpuValue[]> {
    return this.#ofMap(map, (kernel, at) => lookup(kernel, at, key));
  }

  contents(map: MapInfo): MapContents {
    this.#checked();
    const contents = this.#ofMap(map, (kernel, at) => found(readContents(kernel, at)));
    return contents.ok ? contents.value : { kind: "unreadable", why: contents.why };
  }

  /** Reads `length` bytes of the kernel's memory at a kernel address. */
  readKernel(address: bigint, length: number): Read<Uint8Array> {
    const { memory } = this.#alive();
    const { hi, lo } = fromBigInt(address);
    const at = memory.locate(hi, lo, 0, length);
    if (at < 0) return unreadable("not-present", memory.faultSentence(""));
    return found(memory.bytes.slice(at, at + length));
  }

  /** "schedule+0x10", "dummy_xmit [dummy]", "bpf_prog_0123456789abcdef_enqueue [bpf]"; undefined if there is no symbol. */
  symbolAt(address: bigint): string | undefined {
    this.#alive();
    const found = this.#names.find(fromBigInt(address));
    if (found === undefined) return undefined;
    const offset = found.offset === 0 ? "" : `+0x${found.offset.toString(16)}`;
    return `${found.name}${offset}${found.module === "" ? "" : ` [${found.module}]`}`;
  }

  log(): KernelLog {
    const kernel = this.#checked();
    // Code that only some commands need is loaded on first use.
    const { readPrintk } = require("./kernel/printk.ts") as typeof import("./kernel/printk.ts");
    return readPrintk(kernel);
  }

  cgroups(query: CgroupQuery): readonly CgroupProgs[] {
    const programs = require("./bpf/cgroup-progs.ts") as typeof import("./bpf/cgroup-progs.ts");
    return programs.listCgroups(this.#checked(), query, this.#warn);
  }

  perfAttachments(): readonly PerfAttachment[] {
    const descriptors = require("./bpf/perf-fds.ts") as typeof import("./bpf/perf-fds.ts");
    const kernel = this.#checked();
    return descriptors.listPerfAttachments(kernel, this.#files(kernel));
  }

  networks(devname?: string): readonly Network[] {
    const { listNetworks } = require("./bpf/networks.ts") as typeof import("./bpf/networks.ts");
    return listNetworks(this.#checked(), this.#btfs, devname, this.#warn);
  }

  features(): Features {
    return (require("./bpf/features.ts") as typeof import("./bpf/features.ts")).readFeatures(this.#checked());
  }

  tokenMounts(): readonly TokenMount[] {
    const tokens = require("./bpf/tokens.ts") as typeof import("./bpf/tokens.ts");
    return tokens.listTokenMounts(this.#checked(), this.#warn);
  }

  /** Lists every task. Throws `KtstrError` if a list of tasks is damaged. */
  tasks(): Generator<TaskInfo> {
    const { listTasks } = require("./sched/task-list.ts") as typeof import("./sched/task-list.ts");
    return listTasks(this.#checked());
  }

  /** Reads a task's kernel stack, by its pid in the initial namespace. Throws `KtstrError` if there is no such task. */
  stack(pid: number): TaskStack {
    return this.#stacks().readTaskStack(this.#checked(), this.#names, pid);
  }

  /** Reads every task's kernel stack. */
  stacks(): Generator<TaskStack> {
    return this.#stacks().readTaskStacks(this.#checked(), this.#names);
  }

  #stacks(): typeof import("./task/stack.ts") {
    return require("./task/stack.ts") as typeof import("./task/stack.ts");
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (!this.#sharesKernel) this.#kernel[Symbol.dispose]();
  }

  readonly #warn = (sentence: string): void => {
    this.#warnings.push(sentence);
  };

  #alive(): OpenedKernel {
    if (this.#disposed) throw new DisposedError("a frozen machine");
    return this.#kernel;
  }

  /** Returns the kernel after checking that its files did not shrink. Called before every listing. Throws `KtstrError`. */
  #checked(): GuestKernel {
    this.#alive().check();
    return this.#kernel;
  }

  #mapsById(): ReadonlyMap<number, GuestMap> {
    const kernel = this.#alive();
    if (this.#maps === undefined) {
      kernel.check();
      const maps = listMaps(kernel, this.#warn);
      this.#mapInfos = maps.map(({ info }) => info);
      this.#maps = new Map(maps.map((map) => [map.info.id, map]));
    }
    return this.#maps;
  }

  /** Read once for holders and for perf attachments. */
  #files(kernel: GuestKernel): readonly OpenFile[] {
    this.#openFiles ??= openFiles(kernel);
    return this.#openFiles;
  }

  /** Calls `read` for a map that was listed by this state. */
  #ofMap<T>(map: MapInfo, read: (kernel: GuestKernel, map: GuestMap) => Read<T>): Read<T> {
    const listed = this.#mapsById().get(map.id);
    if (listed === undefined) return unreadable("not-present", `map_idr has no map ${map.id}`);
    if (this.#captured?.has(map.id) === false)
      return unreadable("not-present", "the capture was made without this map's contents");
    if (listed.isOffloaded)
      return unreadable("unsupported", "it is offloaded: its elements are in the network card");
    return read(this.#kernel, listed);
  }
}
