/** Rates per second, computed from two rounds. */
import type { PlainValue } from "../btf/value.ts";
import type {
  LinkFacts,
  MapFacts,
  ProgFacts,
  QueueLength,
  Round,
  RoundMap,
  RoundProg,
  RoundSched,
  TaskWait,
} from "../round.ts";
import type { ProgStats } from "../state.ts";

export interface ProgRate {
  readonly facts: ProgFacts;
  /** Counters of the later round; undefined if they could not be read. */
  readonly counters: ProgStats | undefined;
  /** Share of one CPU: 1 is one CPU, fully used. */
  readonly cpuShare: number;
  readonly callsPerSecond: number;
  /** Mean time of the calls between the rounds; undefined if there were none. */
  readonly nsPerCall: number | undefined;
  readonly missesPerSecond: number;
}

export interface MapRate {
  readonly facts: MapFacts;
  readonly entries: number | undefined;
  readonly bytes: number | undefined;
  /** Share from 0 to 1; undefined for arrays, which are always full, and if entries are not known. */
  readonly fill: number | undefined;
  /** Net growth of entries per second; undefined if not known. */
  readonly growthPerSecond: number | undefined;
}

export interface EventRate {
  readonly name: string;
  readonly count: bigint;
  readonly perSecond: number;
}

export interface SchedRate {
  readonly state: string;
  readonly ops: string;
  readonly events: readonly EventRate[];
  readonly queues: readonly QueueLength[] | undefined;
  readonly waits: readonly TaskWait[] | undefined;
}

export interface Rates {
  readonly unixMs: number;
  /** Time between the rounds; 0 for the first round, in which all rates are 0. */
  readonly seconds: number;
  readonly pauseMs: number | undefined;
  readonly progs: readonly ProgRate[];
  readonly maps: readonly MapRate[];
  readonly links: readonly LinkFacts[];
  readonly sched: SchedRate | undefined;
  readonly globals: readonly (PlainValue | undefined)[];
}

const ZERO: ProgStats = { count: 0n, runTimeNs: 0n, misses: 0n };

/** `before`: undefined for the first round of a series. */
export function ratesBetween(before: Round | undefined, now: Round): Rates {
  const seconds = before === undefined ? 0 : Math.max(0, (now.atMs - before.atMs) / 1000);
  const rate = (amount: number): number => (seconds === 0 ? 0 : amount / seconds);
  const progs = new Map(before?.progs.map((prog) => [prog.facts.id, prog]));
  const maps = new Map(before?.maps.map((map) => [map.facts.id, map]));
  return {
    unixMs: now.unixMs,
    seconds,
    pauseMs: now.pauseMs,
    progs: now.progs.map((prog) => progRate(progs.get(prog.facts.id), prog, rate)),
    maps: now.maps.map((map) => mapRate(maps.get(map.facts.id), map, rate)),
    links: now.links,
    sched: schedRate(before?.sched, now.sched, rate),
    globals: now.globals,
  };
}

type PerSecond = (amount: number) => number;

const idle: WeakMap<RoundProg, ProgRate> = new WeakMap();

/** Returns one shared object for each idle program, so that `top` allocates little per round. */
function idleRate(prog: RoundProg): ProgRate {
  let rate = idle.get(prog);
  if (rate === undefined) {
    const { facts, counters } = prog;
    rate = { facts, counters, cpuShare: 0, callsPerSecond: 0, nsPerCall: undefined, missesPerSecond: 0 };
    idle.set(prog, rate);
  }
  return rate;
}

/** A program that was loaded between the rounds is counted from 0. */
function progRate(before: RoundProg | undefined, prog: RoundProg, rate: PerSecond): ProgRate {
  if (before === prog) return idleRate(prog);
  const { facts, counters } = prog;
  const isSame = before?.facts.loadTimeNs === facts.loadTimeNs;
  const start = isSame ? (before.counters ?? counters ?? ZERO) : ZERO;
  const end = counters ?? start;
  const added = (from: bigint, to: bigint): number => (to > from ? Number(to - from) : 0);
  const calls = added(start.count, end.count);
  const runTimeNs = added(start.runTimeNs, end.runTimeNs);
  return {
    facts,
    counters,
    cpuShare: rate(runTimeNs / 1e9),
    callsPerSecond: rate(calls),
    nsPerCall: calls === 0 || rate(1) === 0 ? undefined : runTimeNs / calls,
    missesPerSecond: rate(added(start.misses, end.misses)),
  };
}

function mapRate(
  before: RoundMap | undefined,
  { facts, entries, bytes }: RoundMap,
  rate: PerSecond,
): MapRate {
  const isArray = facts.type.endsWith("array");
  const old = before?.facts === facts ? before.entries : entries;
  return {
    facts,
    entries,
    bytes,
    fill: entries === undefined || facts.maxEntries === 0 || isArray ? undefined : entries / facts.maxEntries,
    growthPerSecond: entries === undefined || old === undefined ? undefined : rate(entries - old),
  };
}

function schedRate(
  before: RoundSched | undefined,
  now: RoundSched | undefined,
  rate: PerSecond,
): SchedRate | undefined {
  if (now === undefined) return undefined;
  const isSame = before?.ops === now.ops && before.enableSeq === now.enableSeq;
  const counts = new Map((isSame ? before.events : []).map(({ name, count }) => [name, count]));
  return {
    state: now.state,
    ops: now.ops,
    events: now.events.map(({ name, count }) => ({
      name,
      count,
      perSecond: rate(Math.max(0, Number(count - (counts.get(name) ?? 0n)))),
    })),
    queues: now.queues,
    waits: now.waits,
  };
}

/** Number of rounds kept for histories. */
export const HISTORY_ROUNDS = 120;

/** History of one program, the newest round last. */
export interface Past {
  readonly cpuShare: number[];
  readonly callsPerSecond: number[];
  /** NaN: there was no call. */
  readonly nsPerCall: number[];
  readonly missesPerSecond: number[];
}

/** Recent rates of every program that ran, and recent entries of every map that changed. */
export class History {
  #progs: Map<ProgFacts, Past> = new Map();
  #maps: Map<MapFacts, number[]> = new Map();

  add({ progs, maps, seconds }: Rates): void {
    if (seconds === 0) return;
    const pasts = new Map<ProgFacts, Past>();
    for (const prog of progs) {
      const past = this.#progs.get(prog.facts) ?? (isQuiet(prog) ? undefined : NO_PAST());
      if (past === undefined) continue;
      push(past.cpuShare, prog.cpuShare);
      push(past.callsPerSecond, prog.callsPerSecond);
      push(past.nsPerCall, prog.nsPerCall ?? Number.NaN);
      push(past.missesPerSecond, prog.missesPerSecond);
      pasts.set(prog.facts, past);
    }
    this.#progs = pasts;
    const entriesOf = new Map<MapFacts, number[]>();
    for (const { facts, entries, growthPerSecond = 0 } of maps) {
      const past = this.#maps.get(facts) ?? (growthPerSecond === 0 ? undefined : []);
      if (past === undefined) continue;
      push(past, entries ?? Number.NaN);
      entriesOf.set(facts, past);
    }
    this.#maps = entriesOf;
  }

  ofProg(facts: ProgFacts): Past {
    return this.#progs.get(facts) ?? NO_PAST();
  }

  ofMap(facts: MapFacts): readonly number[] {
    return this.#maps.get(facts) ?? [];
  }
}

const isQuiet = ({ callsPerSecond, missesPerSecond }: ProgRate): boolean =>
  callsPerSecond === 0 && missesPerSecond === 0;

const NO_PAST = (): Past => ({ cpuShare: [], callsPerSecond: [], nsPerCall: [], missesPerSecond: [] });

function push(list: number[], value: number): void {
  list.push(value);
  if (list.length > HISTORY_ROUNDS) list.shift();
}

const BLOCKS = "▁▂▃▄▅▆▇█";

/** Draws the last `columns` values in block characters, scaled to the highest; a blank for a missing value. */
export function sparkline(values: readonly number[], columns: number): string {
  const shown = values.slice(-columns);
  const most = Math.max(0, ...shown.filter((value) => !Number.isNaN(value)));
  const text = shown
    .map((value) =>
      Number.isNaN(value)
        ? " "
        : (BLOCKS[most === 0 ? 0 : Math.round((value / most) * (BLOCKS.length - 1))] ?? " "),
    )
    .join("");
  return text.padStart(columns);
}
