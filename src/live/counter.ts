/**
 * What changes all the time of the running kernel's objects, read again and again. Every object is opened by its id in each
 * round and closed at once: a descriptor that stays open would keep a program or a map alive that everybody else let go of.
 */
import type { Btf } from "../btf/btf.ts";
import { SyscallError } from "../errors.ts";
import type { Fd } from "../ffi.ts";
import {
  type Counter,
  type Counts,
  type MapFacts,
  mapFacts,
  type ProgFacts,
  progFacts,
  type RoundMap,
  type RoundProg,
  type RoundSched,
} from "../round.ts";
import type { MapInfo, ProgStats } from "../state.ts";
import { PROG_INFO } from "../uapi/bpf.ts";
import { BPF_F_NO_PREALLOC, isArrayMap, isHashMap, isPerCpuHashMap, MapType } from "../uapi/names.ts";
import { BtfCache } from "./btfs.ts";
import { possibleCpus } from "./cpus.ts";
import { fdInfoNumber } from "./fdinfo.ts";
import { readMapInfo } from "./maps.ts";
import { forEachId, forEachObject, LINKS, MAPS, objectInfo, PROGS, pinned } from "./objects.ts";
import { readProgInfo } from "./progs.ts";
import { readSysfsSched } from "./sched-ext.ts";
import { realSys, type Sys } from "./sys.ts";
import { openWalk, valueShape } from "./walk.ts";

/** Hash tables of at most so many entries and bytes are counted, by a walk: the kernel tells nobody how many it holds. */
const MAX_COUNTED_ENTRIES = 4096;
const MAX_COUNTED_BYTES = 2 ** 20;
/** As many sentences as are kept. */
const MAX_WARNINGS = 100;

interface KnownMap {
  readonly info: MapInfo;
  readonly facts: MapFacts;
  /** Its memory does not depend on what it holds. */
  readonly fixedBytes: number | undefined;
  readonly isFixed: boolean;
  readonly isCounted: boolean;
}

export class LiveCounter implements Counter {
  readonly warnings: string[] = [];
  readonly #sys: Sys;
  readonly #btfs: BtfCache;
  readonly #info = pinned(PROG_INFO.size);
  #progs: Map<number, ProgFacts> = new Map();
  #maps: Map<number, KnownMap> = new Map();
  #cpuCount: number | undefined;

  constructor(sys: Sys = realSys) {
    this.#sys = sys;
    this.#btfs = new BtfCache(sys);
  }

  /** Throws `SyscallError` where ids cannot be walked. */
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
    const next = new Map<number, ProgFacts>();
    const progs: RoundProg[] = [];
    forEachObject(this.#sys, PROGS, this.#warn, (id, fd) => {
      using owned = fd;
      this.#info.fill(0);
      const view = objectInfo(this.#sys, owned, PROG_INFO, `program ${id}`, this.#info);
      const u64 = (at: number): bigint => view.getBigUint64(at, true);
      let facts = known.get(id);
      if (facts === undefined || facts.loadTimeNs !== u64(fields.load_time.offset))
        facts = progFacts(readProgInfo(this.#sys, owned, `program ${id}`, this.#btfOf));
      next.set(id, facts);
      const counters: ProgStats = {
        count: u64(fields.run_cnt.offset),
        runTimeNs: u64(fields.run_time_ns.offset),
        misses: u64(fields.recursion_misses.offset),
      };
      progs.push({ facts, counters });
    });
    this.#progs = next;
    return progs;
  }

  readonly #btfOf = (id: number): Btf => this.#btfs.byId(id);

  #countMaps(): RoundMap[] {
    const known = this.#maps;
    const next = new Map<number, KnownMap>();
    const maps: RoundMap[] = [];
    forEachObject(this.#sys, MAPS, this.#warn, (id, fd) => {
      using owned = fd;
      // An id comes again only when all others were used (`idr_alloc_cyclic`): a map of the same id is the same map.
      const map = known.get(id) ?? knownMap(readMapInfo(this.#sys, owned, `map ${id}`));
      next.set(id, map);
      maps.push({
        facts: map.facts,
        entries: this.#entriesOf(map, owned),
        bytes: map.isFixed ? map.fixedBytes : fdInfoNumber(this.#sys.readFdInfo(owned.number), "memlock"),
      });
    });
    this.#maps = next;
    return maps;
  }

  /** undefined: only a walk would tell, and it is too long. */
  #entriesOf({ info, isCounted }: KnownMap, fd: Fd): number | undefined {
    if (isArrayMap(info.type)) return info.maxEntries;
    if (!isCounted) return undefined;
    const cpuCount = this.#cpus();
    const { total } = valueShape(info, cpuCount);
    if ((total + info.keySize) * info.maxEntries > MAX_COUNTED_BYTES) return undefined;
    using walk = openWalk(this.#sys, fd, info, isPerCpuHashMap(info.type) ? cpuCount : 0);
    let count = 0;
    while (walk.next()) count++;
    return walk.end.complete ? count : undefined;
  }

  #cpus(): number {
    this.#cpuCount ??= possibleCpus(this.#sys).length;
    return this.#cpuCount;
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

/** Types whose memory grows with what they hold (kernel/bpf, `map_mem_usage` of each). */
const GROWING: ReadonlySet<number> = new Set([
  MapType.lpm_trie,
  MapType.hash_of_maps,
  MapType.arena,
  MapType.sk_storage,
  MapType.inode_storage,
  MapType.task_storage,
  MapType.cgrp_storage,
]);

function knownMap(info: MapInfo): KnownMap {
  const isHash = isHashMap(info.type) || isPerCpuHashMap(info.type);
  const grows = GROWING.has(info.type) || (isHash && (info.flags & BPF_F_NO_PREALLOC) !== 0);
  return {
    info,
    facts: mapFacts(info),
    fixedBytes: info.memlockBytes,
    isFixed: !grows,
    isCounted: isHash && info.maxEntries <= MAX_COUNTED_ENTRIES,
  };
}
