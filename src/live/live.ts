/** The running kernel as a `BpfState`. Disposing it closes all descriptors that it keeps. */
import { release as osRelease, version as osVersion } from "node:os";
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
import { CLOCK_BOOTTIME, CLOCK_REALTIME, type Fd } from "../ffi.ts";
import type { KernelLog, LogAccessor } from "../kernel-log.ts";
import type { Network } from "../network.ts";
import type { CallTargets, MachineFunction, ProgCode } from "../prog-code.ts";
import { findActiveScheduler } from "../scheduler.ts";
import {
  type ActiveScheduler,
  type ArenaPages,
  type BpfState,
  type BtfInfo,
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
import { isHashMap, isPerCpuHashMap, isPerCpuMap, MapType } from "../uapi/names.ts";
import { readArena } from "./arena.ts";
import { BtfCache, collectBtfs, readBtfInfo } from "./btfs.ts";
import { CgroupPaths } from "./cgroups.ts";
import { readContents } from "./contents.ts";
import { cpuCounts, NoCpusError, possibleCpus } from "./cpus.ts";
import { collectLinks, readLinkInfo } from "./links.ts";
import { lookupElement, nextKey, sliceCpus } from "./lookup.ts";
import { LiveMaps, type LiveMapsOptions } from "./maps.ts";
import { BTFS, LINKS, openId, openIdOrThrow, PROGS } from "./objects.ts";
import { collectProgs, readProgInfo } from "./progs.ts";
import { statsSwitchedOn } from "./stats.ts";
import { SymbolTable } from "./symbol-table.ts";
import { realSys, type Sys } from "./sys.ts";
import { openWalk } from "./walk.ts";

// Re-exported because libc is already open here.
export { write } from "../ffi.ts";

export type LiveOptions = LiveMapsOptions;

/**
 * Opens the running kernel. The first system call happens at the first query.
 *
 *     using live = openLive();
 *     for (const map of live.maps()) console.log(map.id, map.maxEntries);
 */
export function openLive(options: LiveOptions = {}): LiveState {
  return new LiveState(options);
}

type ProgReaders = typeof import("./prog-code.ts");

const u32Key = (key: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, key, true);
  return bytes;
};

export class LiveState implements BpfState, LogAccessor, AttachmentAccessor, PinAccessor, FeatureAccessor {
  readonly #sys: Sys;
  readonly #maps: LiveMaps;
  readonly #btfs: BtfCache;
  #progs: ProgInfo[] | undefined;
  /** Programs that were read by id. */
  readonly #found = new Map<number, ProgInfo | undefined>();
  #links: LinkInfo[] | undefined;
  #btfInfos: BtfInfo[] | undefined;
  #cpus: readonly number[] | undefined;
  #symbols: SymbolTable | undefined;
  #disposed = false;

  constructor(options: LiveOptions) {
    this.#sys = options.sys ?? realSys;
    this.#maps = new LiveMaps(options);
    this.#btfs = new BtfCache(this.#sys);
  }

  get warnings(): readonly string[] {
    return this.#maps.warnings;
  }

  /** Throws `SyscallError` if the ids cannot be walked. Read once and cached. */
  maps(): readonly MapInfo[] {
    return this.#maps.maps();
  }

  /** Returns one map by id and holds it open, without walking the others. Throws `SyscallError`. */
  map(id: number): MapInfo {
    return this.#maps.map(id);
  }

  /** Takes over the descriptor of a map (for example of a pinned path). Throws `SyscallError`. */
  adopt(fd: Fd, object: string): MapInfo {
    return this.#maps.adopt(fd, object);
  }

  mapById(id: number): MapInfo | undefined {
    return this.#maps.find(id);
  }

  progs(filter: { readonly type?: number } = {}): readonly ProgInfo[] {
    this.#alive();
    this.#progs ??= collectProgs(this.#sys, (id) => this.#btfs.byId(id), this.#warn);
    return filter.type === undefined ? this.#progs : this.#progs.filter((prog) => prog.type === filter.type);
  }

  progById(id: number): ProgInfo | undefined {
    this.#alive();
    if (this.#progs !== undefined) return this.#progs.find((prog) => prog.id === id);
    if (!this.#found.has(id)) {
      const fd = openId(this.#sys, PROGS, id);
      this.#found.set(id, typeof fd === "number" ? undefined : this.#readProg(fd, `program ${id}`));
    }
    return this.#found.get(id);
  }

  /** Returns one program by id or by descriptor, which is closed. Throws `SyscallError`. */
  prog(which: number | Fd, object: string = `program ${which}`): ProgInfo {
    this.#alive();
    return this.#readProg(typeof which === "number" ? openIdOrThrow(this.#sys, PROGS, which) : which, object);
  }

  #readProg(owned: Fd, object: string): ProgInfo {
    using fd = owned;
    return readProgInfo(this.#sys, fd, object, (id) => this.#btfs.byId(id));
  }

  links(): readonly LinkInfo[] {
    this.#alive();
    this.#links ??= collectLinks(this.#sys, this.#warn);
    return this.#links;
  }

  holders(): Read<Holders> {
    return this.#maps.holders();
  }

  pinnedPaths(kind: PinnedKind): ReadonlyMap<number, readonly Uint8Array[]> {
    return this.#maps.pinnedPaths(kind);
  }

  /** Returns one link by id or by descriptor, which is closed. Throws `SyscallError`. */
  link(which: number | Fd, object: string = `link ${which}`): LinkInfo {
    this.#alive();
    using fd = typeof which === "number" ? openIdOrThrow(this.#sys, LINKS, which) : which;
    return readLinkInfo(this.#sys, fd, object, new CgroupPaths(this.#sys));
  }

  /** Returns the attributes of a BTF object by id. Throws `SyscallError`. */
  btfInfo(id: number): BtfInfo {
    this.#alive();
    using fd = openIdOrThrow(this.#sys, BTFS, id);
    return readBtfInfo(this.#sys, fd, `BTF object ${id}`);
  }

  btfs(): readonly BtfInfo[] {
    this.#alive();
    this.#btfInfos ??= collectBtfs(this.#sys, this.#warn);
    return this.#btfInfos;
  }

  readValue(map: MapInfo, offset: number, length: number): Read<Uint8Array> {
    this.#alive();
    if (map.type !== MapType.array && map.type !== MapType.struct_ops) {
      return unreadable("wrong-type", "only arrays and struct_ops maps have one value");
    }
    const whole = Number.isInteger(offset) && Number.isInteger(length);
    if (!whole || offset < 0 || length < 0 || offset + length > map.valueSize) {
      return unreadable(
        "out-of-range",
        `bytes ${offset} to ${offset + length} are outside a value of ${map.valueSize} bytes`,
      );
    }
    const value = this.#lookupBytes(map, u32Key(0));
    return value.ok ? found(value.value.subarray(offset, offset + length)) : value;
  }

  readArray(map: MapInfo, key: number): Read<Uint8Array> {
    this.#alive();
    if (map.type !== MapType.array) return unreadable("wrong-type", "not an array");
    const range = checkIndex(map, key);
    return range ?? this.#lookupBytes(map, u32Key(key));
  }

  hashEntries(map: MapInfo): Read<EntryCursor> {
    this.#alive();
    if (!isHashMap(map.type)) return unreadable("wrong-type", "not a hash");
    return this.#walk(map);
  }

  percpuArray(map: MapInfo, key: number): Read<readonly CpuValue[]> {
    this.#alive();
    if (map.type !== MapType.percpu_array) return unreadable("wrong-type", "not a per-CPU array");
    const range = checkIndex(map, key);
    if (range !== undefined) return range;
    const all = this.#lookupBytes(map, u32Key(key));
    return all.ok ? found(sliceCpus(all.value, map, this.#possible())) : all;
  }

  percpuHashEntries(map: MapInfo): Read<EntryCursor> {
    this.#alive();
    if (!isPerCpuHashMap(map.type)) return unreadable("wrong-type", "not a per-CPU hash");
    return this.#walk(map);
  }

  arenaPages(map: MapInfo): Read<ArenaPages> {
    this.#alive();
    if (map.type !== MapType.arena) return unreadable("wrong-type", "not an arena");
    const held = this.#held(map);
    return held.ok ? readArena(this.#sys, held.value, map, () => this.#btfs.vmlinux()) : held;
  }

  nextKey(map: MapInfo, key: Uint8Array | undefined): Read<Uint8Array> {
    this.#alive();
    const held = this.#held(map);
    return held.ok ? nextKey(this.#sys, held.value, map, key) : held;
  }

  contents(map: MapInfo): MapContents {
    this.#alive();
    if (map.type === MapType.arena) {
      const pages = this.arenaPages(map);
      return pages.ok ? { kind: "arena", arena: pages.value } : { kind: "unreadable", why: pages.why };
    }
    const held = this.#held(map);
    if (!held.ok) return { kind: "unreadable", why: held.why };
    try {
      return readContents(this.#sys, held.value, map, () => this.#possible().length);
    } catch (error) {
      // Without /sys the size of a per-CPU value is not known. This is not an error, so that a report still shows the other maps.
      if (!(error instanceof NoCpusError)) throw error;
      return { kind: "unreadable", why: unreadable("unsupported", `${error.message}; ${error.hint}`).why };
    }
  }

  lookup(map: MapInfo, key: Uint8Array): Read<Uint8Array | readonly CpuValue[]> {
    this.#alive();
    if (key.length !== map.keySize) {
      return unreadable(
        "out-of-range",
        `the key has ${key.length} bytes; keys of this map have ${map.keySize}`,
      );
    }
    const bytes = this.#lookupBytes(map, key);
    if (!bytes.ok || !isPerCpuMap(map.type)) return bytes;
    return found(sliceCpus(bytes.value, map, this.#possible()));
  }

  programBtf(map: MapInfo): Read<Btf> {
    this.#alive();
    if (map.btfId === 0) return unreadable("not-present", "the map was created without BTF");
    return this.btf(map.btfId);
  }

  btf(id: number): Read<Btf> {
    this.#alive();
    return asRead(() => this.#btfs.byId(id));
  }

  kernelBtf(): Read<Btf> {
    this.#alive();
    return asRead(() => this.#btfs.vmlinux());
  }

  activeScheduler(): ActiveScheduler | undefined {
    this.#alive();
    const read = (name: string): string => {
      const bytes = this.#sys.readFile(`/sys/kernel/sched_ext/${name}`);
      return bytes === undefined ? "" : new TextDecoder().decode(bytes).trim();
    };
    return findActiveScheduler(this, { state: read("state"), opsName: read("root/ops") });
  }

  /** Returns "schedule+0x10", or undefined if no symbol is near. Needs CAP_SYSLOG. */
  symbolAt(address: bigint): string | undefined {
    this.#alive();
    if (this.#symbols === undefined) {
      this.#symbols = SymbolTable.read(this.#sys);
      if (this.#symbols.isEmpty)
        this.#warn(
          "symbols are not known: /proc/kallsyms does not exist, or shows no addresses to this user (CAP_SYSLOG)",
        );
    }
    return this.#symbols.at(address);
  }

  progCode(prog: ProgInfo): Read<ProgCode> {
    return this.#readCode(prog, ({ readProgCode }) => readProgCode);
  }

  /** Returns no functions without CAP_SYSLOG. */
  machineCode(prog: ProgInfo): Read<readonly MachineFunction[]> {
    return this.#readCode(prog, ({ readMachineCode }) => readMachineCode);
  }

  #readCode<T>(
    prog: ProgInfo,
    readerIn: (readers: ProgReaders) => (sys: Sys, fd: Fd, object: string) => T,
  ): Read<T> {
    this.#alive();
    return asRead(() => {
      using fd = openIdOrThrow(this.#sys, PROGS, prog.id);
      return readerIn(require("./prog-code.ts") as ProgReaders)(this.#sys, fd, `program ${prog.id}`);
    });
  }

  /** Needs CAP_SYSLOG. */
  callTargets(codes: readonly ProgCode[]): Read<CallTargets> {
    this.#alive();
    const { readCallTargets } = require("./call-targets.ts") as typeof import("./call-targets.ts");
    return found(readCallTargets(this.#sys, codes));
  }

  kernel(): KernelInfo {
    this.#alive();
    const uptimeNs = this.#sys.clockNs(CLOCK_BOOTTIME);
    return {
      release: osRelease(),
      version: osVersion(),
      machine: process.arch === "arm64" ? "aarch64" : "x86_64",
      ...cpuCounts(this.#sys),
      pageSize: this.#sys.pageSize(),
      statsEnabled: statsSwitchedOn(this.#sys),
      bootTimeUnixNs: this.#sys.clockNs(CLOCK_REALTIME) - uptimeNs,
      uptimeNs,
    };
  }

  /** Throws `SyscallError` if /dev/kmsg may not be read. */
  log(): KernelLog {
    this.#alive();
    const { readKmsg } = require("./kmsg.ts") as typeof import("./kmsg.ts");
    return readKmsg(this.#sys);
  }

  cgroups(query: CgroupQuery): readonly CgroupProgs[] {
    this.#alive();
    const programs = require("./cgroup-progs.ts") as typeof import("./cgroup-progs.ts");
    return programs.queryCgroups(this.#sys, query);
  }

  perfAttachments(): readonly PerfAttachment[] {
    this.#alive();
    const descriptors = require("./perf-fds.ts") as typeof import("./perf-fds.ts");
    return descriptors.queryDescriptors(this.#sys);
  }

  networks(devname?: string): readonly Network[] {
    this.#alive();
    const queries = require("./networks.ts") as typeof import("./networks.ts");
    return queries.queryNetworks(this.#sys, devname, this.#warn);
  }

  features(full: boolean): Features {
    this.#alive();
    const probes = require("./features.ts") as typeof import("./features.ts");
    return probes.probeFeatures(this.#sys, osRelease(), full);
  }

  tokenMounts(): readonly TokenMount[] {
    return (require("./tokens.ts") as typeof import("./tokens.ts")).readTokenMounts(this.#sys);
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#maps[Symbol.dispose]();
  }

  readonly #warn = (sentence: string): void => {
    this.#maps.warnings.push(sentence);
  };

  #alive(): void {
    if (this.#disposed) throw new DisposedError("live BPF state");
  }

  #possible(): readonly number[] {
    this.#cpus ??= possibleCpus(this.#sys);
    return this.#cpus;
  }

  #held(map: MapInfo): Read<Fd> {
    const fd = this.#maps.heldFd(map.id);
    return fd === undefined
      ? unreadable("unsupported", `map ${map.id} is not held open (see the option \`keep\`)`)
      : found(fd);
  }

  #lookupBytes(map: MapInfo, key: Uint8Array): Read<Uint8Array> {
    const held = this.#held(map);
    if (!held.ok) return held;
    return lookupElement(this.#sys, held.value, map, key, () => this.#possible().length);
  }

  #walk(map: MapInfo): Read<EntryCursor> {
    const held = this.#held(map);
    if (!held.ok) return held;
    const cpuCount = isPerCpuHashMap(map.type) ? this.#possible().length : 0;
    return found(openWalk(this.#sys, held.value, map, cpuCount));
  }
}

function checkIndex(map: MapInfo, key: number): Read<never> | undefined {
  if (Number.isInteger(key) && key >= 0 && key < map.maxEntries) return undefined;
  return unreadable("out-of-range", `key ${key} is out of range: the array has ${map.maxEntries} entries`);
}
