/**
 * Reads the changing values of a running machine's memory repeatedly. Facts about an object are cached as long as the same id
 * is at the same address, so that a round reads little memory and pauses the machine only briefly.
 */
import { at, i64, ptr, struct, u32, u64 } from "../btf/struct.ts";
import { KtstrError } from "../errors.ts";
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
import { type GuestMap, readMap } from "./bpf/map-info.ts";
import { elementCount } from "./bpf/maps/element-count.ts";
import { memlockBytes } from "./bpf/maps/memlock.ts";
import { type BtfAt, ProgReader, statsOf } from "./bpf/progs.ts";
import { StatsReader } from "./bpf/stats.ts";
import { idrEntries } from "./kernel/idr.ts";
import type { OpenedKernel } from "./kernel/kernel.ts";
import { listObjects } from "./kernel/listing.ts";
import type { AddressNames } from "./kernel/names-at.ts";
import { WalkLog } from "./kernel/walklog.ts";
import type { Pointer } from "./memory/pointer.ts";
import { readSchedRound } from "./sched/round.ts";

const PROG = struct("bpf_prog", { aux: ptr });
const AUX = struct("bpf_prog_aux", { refcnt: at(i64, "refcnt.counter"), id: u32, load_time: u64 });

/** Limit on warnings: a machine that is not paused produces new ones in every round. */
const MAX_WARNINGS = 20;

interface Known<T> {
  readonly at: Pointer;
  readonly value: T;
}

/** @public Loaded by guest.ts. */
export class GuestCounter implements Counter {
  readonly warnings: string[] = [];
  readonly #kernel: OpenedKernel;
  readonly #btfAt: BtfAt;
  readonly #names: AddressNames;
  #progs: Map<number, Known<ProgFacts>> = new Map();
  #maps: Map<number, Known<{ readonly map: GuestMap; readonly facts: MapFacts }>> = new Map();

  constructor(kernel: OpenedKernel, btfAt: BtfAt, names: AddressNames) {
    this.#kernel = kernel;
    this.#btfAt = btfAt;
    this.#names = names;
  }

  /** Reads a round. Throws `KtstrError` if the machine cannot be read. */
  count(): Counts {
    this.#kernel.refresh();
    return {
      progs: this.#countProgs(),
      maps: this.#countMaps(),
      linkIds: this.#linkIds(),
      sched: this.#sched(),
    };
  }

  #countProgs(): RoundProg[] {
    const kernel = this.#kernel;
    const { memory, btf } = kernel;
    const { aux: auxAt } = PROG.resolve(btf);
    const offsets = AUX.resolve(btf);
    const reader = new StatsReader(kernel);
    const known = this.#progs;
    const next = new Map<number, Known<ProgFacts>>();
    let whole: ProgReader | undefined;
    const read = (prog: Pointer, id: number, log: WalkLog): RoundProg | string => {
      const aux = memory.pointer(prog.hi, prog.lo, auxAt, "bpf_prog.aux");
      if (memory.u32(aux.hi, aux.lo, offsets.id, "bpf_prog.aux->id") !== id) return "its id member differs";
      const loadTimeNs = memory.u64(aux.hi, aux.lo, offsets.load_time, "bpf_prog.aux->load_time");
      let facts = factsAt(known.get(id), prog);
      if (facts?.loadTimeNs !== loadTimeNs) {
        whole ??= new ProgReader(kernel, this.#btfAt);
        const info = whole.read(prog, id, log);
        if (typeof info === "string") return info;
        facts = progFacts(info);
      } else if (BigInt.asIntN(64, memory.u64(aux.hi, aux.lo, offsets.refcnt, "bpf_prog.aux->refcnt")) <= 0n)
        return "being freed";
      next.set(id, { at: prog, value: facts });
      const stats = statsOf(kernel, prog);
      const sum = reader.read(stats.hi, stats.lo);
      return { facts, counters: sum.ok ? sum.value : undefined };
    };
    const progs = listObjects(kernel, "prog_idr", "program", read, this.#warn);
    this.#progs = next;
    return progs;
  }

  #countMaps(): RoundMap[] {
    const kernel = this.#kernel;
    const known = this.#maps;
    const next: typeof known = new Map();
    const read = (at: Pointer, id: number): RoundMap | string => {
      let one = factsAt(known.get(id), at);
      if (one === undefined) {
        const map = readMap(kernel, at, `map ${id}`);
        if (map.info.id !== id) return "recycled memory";
        one = { map, facts: mapFacts(map.info) };
      }
      next.set(id, { at, value: one });
      return {
        facts: one.facts,
        entries: elementCount(kernel, one.map),
        bytes: memlockBytes(kernel, one.map),
      };
    };
    const maps = listObjects(kernel, "map_idr", "map", read, this.#warn);
    this.#maps = next;
    return maps;
  }

  /** Empty on kernels before 5.8, which have no link ids. */
  #linkIds(): number[] {
    const { memory, btf, symbols } = this.#kernel;
    const idr = symbols.address("link_idr");
    if (idr === undefined) return [];
    return [...idrEntries(memory, btf, idr, "link_idr", new WalkLog())].map(({ id }) => id);
  }

  #sched(): RoundSched | undefined {
    try {
      return readSchedRound(this.#kernel, this.#names, this.#onFault);
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
      this.#onFault(error);
      return undefined;
    }
  }

  readonly #onFault = (error: unknown): void => {
    if (error instanceof TypeError) throw error;
    this.#warn(error instanceof Error ? error.message : String(error));
  };

  readonly #warn = (sentence: string): void => {
    if (this.warnings.length < MAX_WARNINGS && !this.warnings.includes(sentence))
      this.warnings.push(sentence);
  };
}

/** Returns the cached facts about an object if it is still at the same address. */
function factsAt<T>(known: Known<T> | undefined, at: Pointer): T | undefined {
  return known !== undefined && known.at.hi === at.hi && known.at.lo === at.lo ? known.value : undefined;
}
