/**
 * Reads the counters of the running kernel's objects, round by round (`top`, `record`, `metrics`). Each round opens an object
 * by id and closes it at once: a descriptor that stays open would keep the object alive.
 */
import type { Btf } from "../btf/btf.ts";
import { SyscallError } from "../errors.ts";
import {
  type Counter,
  type Counts,
  mapFacts,
  progFacts,
  type RoundMap,
  type RoundProg,
  type RoundSched,
} from "../round.ts";
import type { MapInfo } from "../state.ts";
import { PROG_INFO } from "../uapi/bpf.ts";
import { ENOENT } from "../uapi/errno.ts";
import { BPF_F_NO_PREALLOC, isArrayMap, isHashMap, isPerCpuHashMap, MapType } from "../uapi/names.ts";
import { BtfCache } from "./btfs.ts";
import { cpuCounts } from "./cpus.ts";
import { EntryCounter } from "./entry-counter.ts";
import { fdInfoNumber } from "./fdinfo.ts";
import { readMapInfo } from "./maps.ts";
import { forEachId, forEachObject, LINKS, MAPS, objectInfo, openId, PROGS, pinned } from "./objects.ts";
import { readProgInfo } from "./progs.ts";
import { readSysfsSched } from "./sched-ext.ts";
import { bpfError, realSys, type Sys } from "./sys.ts";

/** Limit on warnings that are kept. */
const MAX_WARNINGS = 100;

interface KnownProg {
  readonly round: RoundProg;
  /** The `struct bpf_prog_info` that `round` was made from. */
  readonly words: Int32Array;
}

/** Offsets of the fields that change, and of load_time, which distinguishes programs that had the same id. */
const CHANGING = (["load_time", "run_time_ns", "run_cnt", "recursion_misses"] as const).flatMap((name) => {
  const { offset } = PROG_INFO.fields[name];
  return [offset, offset + 4];
});

function isSame({ words }: KnownProg, info: DataView): boolean {
  for (const at of CHANGING) if (info.getInt32(at, true) !== words[at / 4]) return false;
  return true;
}

interface KnownMap {
  readonly info: MapInfo;
  /** Last round. The object is reused while no field changes. */
  round: RoundMap;
  /** True if its memory does not depend on its number of elements. */
  readonly isFixed: boolean;
  readonly isCounted: boolean;
}

export class LiveCounter implements Counter {
  readonly warnings: string[] = [];
  readonly #sys: Sys;
  readonly #btfs: BtfCache;
  readonly #info = pinned(PROG_INFO.size);
  #progs: Map<number, KnownProg> = new Map();
  #maps: Map<number, KnownMap> = new Map();
  readonly #entries: EntryCounter;

  constructor(sys: Sys = realSys) {
    this.#sys = sys;
    this.#btfs = new BtfCache(sys);
    let cpuCount: number | undefined;
    this.#entries = new EntryCounter(sys, () => {
      cpuCount ??= cpuCounts(sys).possibleCpus;
      if (cpuCount === undefined)
        this.#warn(
          "the entries of per-CPU maps are not counted: /sys/devices/system/cpu/possible cannot be read",
        );
      return cpuCount;
    });
  }

  /** Throws `SyscallError` if the ids cannot be walked. */
  count(): Counts {
    return {
      progs: this.#countProgs(),
      maps: this.#countMaps(),
      linkIds: this.#linkIds(),
      sched: this.#sched(),
    };
  }

  #countProgs(): RoundProg[] {
    const { fields } = PROG_INFO;
    const known = this.#progs;
    const next = new Map<number, KnownProg>();
    const progs: RoundProg[] = [];
    forEachObject(this.#sys, PROGS, this.#warn, (id, fd) => {
      using owned = fd;
      this.#info.fill(0);
      const view = objectInfo(this.#sys, owned, PROG_INFO, `program ${id}`, this.#info);
      let prog = known.get(id);
      // Most programs did not run since the last round: their objects are reused.
      if (prog === undefined || !isSame(prog, view)) {
        const u64 = (at: number): bigint => view.getBigUint64(at, true);
        const counters = {
          count: u64(fields.run_cnt.offset),
          runTimeNs: u64(fields.run_time_ns.offset),
          misses: u64(fields.recursion_misses.offset),
        };
        const bytes = this.#info.slice();
        let facts = prog?.round.facts;
        if (facts?.loadTimeNs !== u64(fields.load_time.offset))
          facts = progFacts(readProgInfo(this.#sys, owned, `program ${id}`, this.#btfOf));
        prog = { round: { facts, counters }, words: new Int32Array(bytes.buffer) };
      }
      next.set(id, prog);
      progs.push(prog.round);
    });
    this.#progs = next;
    return progs;
  }

  readonly #btfOf = (id: number): Btf => this.#btfs.byId(id);

  /** Maps whose element count and memory never change are not opened. */
  #countMaps(): RoundMap[] {
    const known = this.#maps;
    const next = new Map<number, KnownMap>();
    const maps: RoundMap[] = [];
    forEachId(this.#sys, MAPS, (id) => {
      // Ids are reused only after the id space wraps around (`idr_alloc_cyclic`): the same id is taken as the same map.
      const old = known.get(id);
      if (old?.isFixed && !old.isCounted) {
        next.set(id, old);
        maps.push(old.round);
        return;
      }
      const opened = openId(this.#sys, MAPS, id);
      if (typeof opened === "number") {
        if (opened !== -ENOENT) this.#warn(bpfError(MAPS.fdById, `map ${id}`, opened).message);
        return;
      }
      using fd = opened;
      const map = old ?? this.#knownMap(readMapInfo(this.#sys, fd, `map ${id}`));
      next.set(id, map);
      const { facts } = map.round;
      const entries = map.isCounted ? this.#entries.count(map.info, fd) : map.round.entries;
      const bytes = map.isFixed ? map.round.bytes : fdInfoNumber(this.#sys.readFdInfo(fd.number), "memlock");
      if (entries !== map.round.entries || bytes !== map.round.bytes) map.round = { facts, entries, bytes };
      maps.push(map.round);
    });
    this.#maps = next;
    return maps;
  }

  #knownMap(info: MapInfo): KnownMap {
    const isHash = isHashMap(info.type) || isPerCpuHashMap(info.type);
    const grows = GROWING.has(info.type) || (isHash && (info.flags & BPF_F_NO_PREALLOC) !== 0);
    const entries = isArrayMap(info.type) ? info.maxEntries : undefined;
    return {
      info,
      round: { facts: mapFacts(info), entries, bytes: info.memlockBytes },
      isFixed: !grows,
      isCounted: isHash && this.#entries.canCount(info),
    };
  }

  /** Kernels before 5.8 have no link ids. */
  #linkIds(): number[] {
    const ids: number[] = [];
    try {
      forEachId(this.#sys, LINKS, (id) => void ids.push(id));
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#warn(error.message);
    }
    return ids;
  }

  #sched(): RoundSched | undefined {
    const sched = readSysfsSched(this.#sys);
    if (sched === undefined) return undefined;
    const [root] = sched.schedulers;
    return {
      state: sched.state,
      ops: root?.opsName ?? "",
      enableSeq: sched.counts.enableSeq,
      events: root?.events ?? [],
      queues: undefined,
      waits: undefined,
    };
  }

  readonly #warn = (sentence: string): void => {
    if (this.warnings.length < MAX_WARNINGS && !this.warnings.includes(sentence))
      this.warnings.push(sentence);
  };
}

/** Types whose memory grows with the number of elements (kernel/bpf, `map_mem_usage` of each). */
const GROWING: ReadonlySet<number> = new Set([
  MapType.lpm_trie,
  MapType.hash_of_maps,
  MapType.arena,
  MapType.sk_storage,
  MapType.inode_storage,
  MapType.task_storage,
  MapType.cgrp_storage,
]);
