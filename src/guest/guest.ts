/** A frozen machine as a `BpfState`: everything is read from its memory. */

import { asRead } from "../as-read.ts";
import type { AttachmentAccessor, CgroupProgs, CgroupQuery, PerfAttachment } from "../attachments.ts";
import type { Btf } from "../btf/btf.ts";
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
import { listLinks } from "./bpf/links.ts";
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
import type { GuestMap } from "./bpf/maps/walk.ts";
import { listProgs } from "./bpf/progs.ts";
import { GuestMaps, type GuestOptions, openGuestKernel } from "./guest-maps.ts";
import type { GuestKernel, OpenedKernel } from "./kernel/kernel.ts";
import { AddressNames } from "./kernel/names-at.ts";
import { fromBigInt } from "./memory/pointer.ts";
import { readSchedExtState } from "./sched/sched-ext.ts";

/**
 * Opens a frozen machine. Throws `KtstrError` if its files cannot be read or contain no kernel.
 *
 *     using guest = openGuest({ memory: "mem" });
 *     for (const prog of guest.progs()) console.log(prog.id, prog.verifiedInsns);
 */
export function openGuest(options: GuestOptions): GuestState {
  const kernel = openGuestKernel(options);
  return new GuestState(kernel, kernel.capturedValues, kernel.found.info.physical);
}

/** Listings are cached: a frozen machine does not change. */
export class GuestState
  extends GuestMaps
  implements BpfState, LogAccessor, SchedAccessor, AttachmentAccessor, FeatureAccessor
{
  /** Guest physical address of VMCOREINFO if it was found in memory. */
  readonly vmcoreinfoAt: number | undefined;
  readonly #captured: ReadonlySet<number> | undefined;
  readonly #btfs: GuestBtfs;
  readonly #names: AddressNames;
  #progs: readonly ProgInfo[] | undefined;
  #links: readonly LinkInfo[] | undefined;
  #scheduler: { readonly active: ActiveScheduler | undefined } | undefined;

  /**
   * Takes ownership of the kernel. `captured` has the ids of the maps whose contents are in the image; undefined for all.
   */
  constructor(kernel: OpenedKernel, captured?: ReadonlySet<number>, vmcoreinfoAt?: number) {
    super(kernel);
    this.vmcoreinfoAt = vmcoreinfoAt;
    this.#captured = captured;
    this.#btfs = new GuestBtfs(kernel, this.warn);
    this.#names = new AddressNames(kernel);
  }

  /** Returns a state of the same running kernel without cached listings. It is valid until this one is disposed. */
  again(): GuestState {
    const state = new GuestState(this.alive(), this.#captured, this.vmcoreinfoAt);
    state.sharesKernel = true;
    return state;
  }

  /** Returns a counter that reads the changing values of a running machine repeatedly. */
  counter(): Counter {
    const { GuestCounter } = require("./counter.ts") as typeof import("./counter.ts");
    return new GuestCounter(this.alive(), (btf) => this.#btfs.at(btf), this.#names);
  }

  kernel(): KernelInfo {
    return this.alive().info;
  }

  mapById(id: number): MapInfo | undefined {
    return this.mapsById().get(id)?.info;
  }

  progById(id: number): ProgInfo | undefined {
    return this.progs().find((prog) => prog.id === id);
  }

  progs(filter: { readonly type?: number } = {}): readonly ProgInfo[] {
    const kernel = this.checked();
    this.#progs ??= listProgs(kernel, (btf) => this.#btfs.at(btf), this.warn);
    return filter.type === undefined ? this.#progs : this.#progs.filter((prog) => prog.type === filter.type);
  }

  progCode(prog: ProgInfo): Read<ProgCode> {
    const kernel = this.checked();
    const maps = prog.mapIds.map((id) => this.mapById(id)).filter((map) => map !== undefined);
    return asRead(() => this.#code().readProgCode(kernel, prog, maps));
  }

  machineCode(prog: ProgInfo): Read<readonly MachineFunction[]> {
    const kernel = this.checked();
    const { readMachineCode } = require("./bpf/machine-code.ts") as typeof import("./bpf/machine-code.ts");
    return asRead(() => readMachineCode(kernel, prog));
  }

  cpuStats(prog: ProgInfo): Read<readonly CpuStats[]> {
    const kernel = this.checked();
    const { readCpuStats } = require("./bpf/cpu-stats.ts") as typeof import("./bpf/cpu-stats.ts");
    return asRead(() => readCpuStats(kernel, prog));
  }

  /** Returns `not-present` for captures made by older versions, which did not read this. */
  callTargets(codes: readonly ProgCode[]): Read<CallTargets> {
    const kernel = this.checked();
    return asRead(() => this.#code().readCallTargets(kernel, this.#names, codes));
  }

  #code(): typeof import("./bpf/prog-code.ts") {
    return require("./bpf/prog-code.ts") as typeof import("./bpf/prog-code.ts");
  }

  links(): readonly LinkInfo[] {
    const kernel = this.checked();
    this.#links ??= listLinks(kernel, this.warn, () => this.checked());
    return this.#links;
  }

  btfs(): readonly BtfInfo[] {
    this.checked();
    return this.#btfs.infos();
  }

  btf(id: number): Read<Btf> {
    this.alive();
    return asRead(() => this.#btfs.byId(id));
  }

  kernelBtf(): Read<Btf> {
    const kernel = this.alive();
    return asRead(() => kernel.btf);
  }

  programBtf(map: MapInfo): Read<Btf> {
    if (map.btfId === 0) return unreadable("not-present", "the map was created without BTF");
    return this.btf(map.btfId);
  }

  activeScheduler(): ActiveScheduler | undefined {
    const kernel = this.alive();
    this.#scheduler ??= { active: findActiveScheduler(this, readSchedExtState(kernel)) };
    return this.#scheduler.active;
  }

  /**
   * Reads sched_ext: its state, schedulers, CPUs, dispatch queues and waiting tasks. Throws `KtstrError` if this kernel
   * has no sched_ext.
   */
  scheduler(): SchedReport {
    const { readSchedReport } = require("./sched/report.ts") as typeof import("./sched/report.ts");
    return readSchedReport(this.checked(), this.#names);
  }

  /**
   * Returns the dump of each scheduler that SysRq-D would print now. Throws `KtstrError` if this kernel has no sched_ext,
   * or if no scheduler is loaded.
   */
  schedulerDumps(): SchedulerDumps {
    const { readSchedulerDumps } = require("./sched/scx-dump.ts") as typeof import("./sched/scx-dump.ts");
    return readSchedulerDumps(this.checked(), this.#names);
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
    this.checked();
    const contents = this.#ofMap(map, (kernel, at) => found(readContents(kernel, at)));
    return contents.ok ? contents.value : { kind: "unreadable", why: contents.why };
  }

  /** Reads `length` bytes of the kernel's memory at a kernel address. */
  readKernel(address: bigint, length: number): Read<Uint8Array> {
    const { memory } = this.alive();
    const { hi, lo } = fromBigInt(address);
    const at = memory.locate(hi, lo, 0, length);
    if (at < 0) return unreadable("not-present", memory.faultSentence(""));
    return found(memory.bytes.slice(at, at + length));
  }

  /**
   * Returns "schedule+0x10", "dummy_xmit [dummy]" or "bpf_prog_0123456789abcdef_enqueue [bpf]"; undefined if there is no symbol.
   */
  symbolAt(address: bigint): string | undefined {
    this.alive();
    const found = this.#names.find(fromBigInt(address));
    if (found === undefined) return undefined;
    const offset = found.offset === 0 ? "" : `+0x${found.offset.toString(16)}`;
    return `${found.name}${offset}${found.module === "" ? "" : ` [${found.module}]`}`;
  }

  log(): KernelLog {
    const kernel = this.checked();
    // Code that only some commands need is loaded on first use.
    const { readPrintk } = require("./kernel/printk.ts") as typeof import("./kernel/printk.ts");
    return readPrintk(kernel);
  }

  cgroups(query: CgroupQuery): readonly CgroupProgs[] {
    const programs = require("./bpf/cgroup-progs.ts") as typeof import("./bpf/cgroup-progs.ts");
    return programs.listCgroups(this.checked(), query, this.warn);
  }

  perfAttachments(): readonly PerfAttachment[] {
    const descriptors = require("./bpf/perf-fds.ts") as typeof import("./bpf/perf-fds.ts");
    const kernel = this.checked();
    return descriptors.listPerfAttachments(kernel, this.files(kernel));
  }

  networks(devname?: string): readonly Network[] {
    const { listNetworks } = require("./bpf/networks.ts") as typeof import("./bpf/networks.ts");
    return listNetworks(this.checked(), this.#btfs, devname, this.warn);
  }

  features(): Features {
    return (require("./bpf/features.ts") as typeof import("./bpf/features.ts")).readFeatures(this.checked());
  }

  tokenMounts(): readonly TokenMount[] {
    const tokens = require("./bpf/tokens.ts") as typeof import("./bpf/tokens.ts");
    return tokens.listTokenMounts(this.checked(), this.warn);
  }

  /** Lists every task. Throws `KtstrError` if a list of tasks is damaged. */
  tasks(): Generator<TaskInfo> {
    const { listTasks } = require("./sched/task-list.ts") as typeof import("./sched/task-list.ts");
    return listTasks(this.checked());
  }

  /** Reads a task's kernel stack, by its pid in the initial namespace. Throws `KtstrError` if there is no such task. */
  stack(pid: number): TaskStack {
    return this.#stacks().readTaskStack(this.checked(), this.#names, pid);
  }

  /** Reads every task's kernel stack. */
  stacks(): Generator<TaskStack> {
    return this.#stacks().readTaskStacks(this.checked(), this.#names);
  }

  #stacks(): typeof import("./task/stack.ts") {
    return require("./task/stack.ts") as typeof import("./task/stack.ts");
  }

  /** Calls `read` for a map that was listed by this state. */
  #ofMap<T>(map: MapInfo, read: (kernel: GuestKernel, map: GuestMap) => Read<T>): Read<T> {
    const listed = this.mapsById().get(map.id);
    if (listed === undefined) return unreadable("not-present", `map_idr has no map ${map.id}`);
    if (this.#captured?.has(map.id) === false)
      return unreadable("not-present", "the capture was made without this map's contents");
    if (listed.isOffloaded)
      return unreadable("unsupported", "it is offloaded: its elements are in the network card");
    return read(this.alive(), listed);
  }
}
