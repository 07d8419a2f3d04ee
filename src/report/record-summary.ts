/** Summary of a whole record as plain data of bounded size: totals, and series with a limited number of points. */
import type { PlainValue } from "../btf/value.ts";
import { KtstrError } from "../errors.ts";
import type { ProgFacts, Round, RoundMap, RoundProg, SeriesFacts } from "../round.ts";
import type { ProgStats } from "../state.ts";
import type { RecordFile } from "./record-read.ts";

export interface RecordSummary {
  readonly facts: SeriesFacts;
  readonly startUnixMs: number;
  readonly lengthMs: number;
  readonly rounds: number;
  /** End of each step in milliseconds since the start; the first step begins at 0. */
  readonly steps: readonly number[];
  /** Sorted by descending cost; programs that did not run come last. */
  readonly progs: readonly ProgSummary[];
  /** Sorted by descending change. */
  readonly maps: readonly MapSummary[];
  /** Growth of each counter in the record. */
  readonly events: readonly { readonly name: string; readonly count: bigint }[];
  /** States of sched_ext, each with its start. */
  readonly states: readonly { readonly atMs: number; readonly state: string; readonly ops: string }[];
  readonly globals: readonly GlobalSummary[];
  /** Sentences about damage of the file and about omitted objects; "" if there are none. */
  readonly damage: string;
}

export interface ProgSummary {
  readonly facts: ProgFacts;
  /** Increase of the counters over the record. */
  readonly total: ProgStats;
  /** Share of a CPU, by step: 1 is one CPU, fully used. */
  readonly shares: readonly number[];
}

export interface MapSummary {
  readonly first: RoundMap;
  readonly last: RoundMap;
}

export interface GlobalSummary {
  readonly name: string;
  readonly first: PlainValue | undefined;
  readonly last: PlainValue | undefined;
  /** Value in the last round of each step; null: not a number. */
  readonly values: readonly (number | null)[];
}

/** Limit on points per series: the columns of a wide chart. */
const MAX_STEPS = 600;
/** Limits on programs, maps and states in a record. The page says if more are left out. */
const MAX_PROGS = 20_000;
const MAX_MAPS = 20_000;
const MAX_STATES = 200;

const ZERO: ProgStats = { count: 0n, runTimeNs: 0n, misses: 0n };

/** Reads the rounds twice: first their times, then their data. Throws `KtstrError` if there is no round. */
export function summarizeRecord(record: RecordFile): RecordSummary {
  let rounds = 0;
  let lengthMs = 0;
  let startUnixMs = 0;
  for (const { atMs, unixMs } of record.rounds()) {
    if (rounds++ === 0) startUnixMs = unixMs - atMs;
    lengthMs = Math.max(lengthMs, atMs);
  }
  const { damage } = record;
  if (rounds === 0) throw new KtstrError(`${record.path}: the record has no rounds`, { hint: damage });
  const stepCount = Math.max(1, Math.min(MAX_STEPS, rounds - 1));
  const stepMs = Math.max(lengthMs, 1) / stepCount;
  const sum = new Sum(record.facts, stepCount, stepMs);
  for (const round of record.rounds()) sum.add(round);
  return {
    facts: record.facts,
    startUnixMs,
    lengthMs,
    rounds,
    steps: Array.from({ length: stepCount }, (_, step) => (step + 1) * stepMs),
    progs: sum.progs(),
    maps: sum.maps(),
    events: sum.events(),
    states: sum.states,
    globals: sum.globals(),
    damage: [damage, ...sum.left].filter((sentence) => sentence !== "").join("; "),
  };
}

interface Running {
  readonly facts: ProgFacts;
  readonly base: ProgStats;
  last: ProgStats;
  readonly nsByStep: Map<number, number>;
}

interface Valued {
  first: PlainValue | undefined;
  last: PlainValue | undefined;
  readonly values: Map<number, number>;
}

class Sum {
  readonly left: string[] = [];
  readonly states: { atMs: number; state: string; ops: string }[] = [];
  readonly #facts: SeriesFacts;
  readonly #stepCount: number;
  readonly #stepMs: number;
  /** By id and load time, because ids are reused. */
  readonly #progs: Map<string, Running> = new Map();
  readonly #maps: Map<string, { first: RoundMap; last: RoundMap }> = new Map();
  readonly #events: Map<string, bigint> = new Map();
  readonly #globals: readonly Valued[];
  #before: Round | undefined;

  constructor(facts: SeriesFacts, stepCount: number, stepMs: number) {
    this.#facts = facts;
    this.#stepCount = stepCount;
    this.#stepMs = stepMs;
    this.#globals = facts.globals.map(() => ({ first: undefined, last: undefined, values: new Map() }));
  }

  add(round: Round): void {
    const step = Math.max(0, Math.min(this.#stepCount - 1, Math.ceil(round.atMs / this.#stepMs) - 1));
    for (const prog of round.progs) this.#addProg(prog, step);
    for (const map of round.maps) this.#addMap(map);
    this.#addSched(round);
    round.globals.forEach((value, index) => {
      const own = this.#globals[index];
      if (own === undefined || value === undefined) return;
      own.first ??= value;
      own.last = value;
      const number = typeof value === "bigint" ? Number(value) : value;
      if (typeof number === "number" && Number.isFinite(number)) own.values.set(step, number);
    });
    this.#before = round;
  }

  #addProg({ facts, counters }: RoundProg, step: number): void {
    if (counters === undefined) return;
    const key = `${facts.id} ${facts.loadTimeNs}`;
    let own = this.#progs.get(key);
    if (own === undefined) {
      if (this.#progs.size >= MAX_PROGS) {
        this.#leave(`only the first ${MAX_PROGS} programs are in the page`);
        return;
      }
      // A program that was loaded during the record is counted from 0.
      const base = this.#before === undefined ? counters : ZERO;
      own = { facts, base, last: base, nsByStep: new Map() };
      this.#progs.set(key, own);
    }
    const ns = Number(counters.runTimeNs - own.last.runTimeNs);
    if (ns > 0) own.nsByStep.set(step, (own.nsByStep.get(step) ?? 0) + ns);
    own.last = counters;
  }

  #addMap(map: RoundMap): void {
    const key = `${map.facts.id} ${map.facts.name}`;
    const own = this.#maps.get(key);
    if (own !== undefined) own.last = map;
    else if (this.#maps.size < MAX_MAPS) this.#maps.set(key, { first: map, last: map });
    else this.#leave(`only the first ${MAX_MAPS} maps are in the page`);
  }

  #addSched({ atMs, sched }: Round): void {
    const [state, ops] = [sched?.state ?? "", sched?.ops ?? ""];
    const last = this.states.at(-1);
    if (last?.state !== state || last.ops !== ops) {
      if (this.states.length < MAX_STATES) this.states.push({ atMs, state, ops });
      else this.#leave(`only the first ${MAX_STATES} states of sched_ext are in the page`);
    }
    if (sched === undefined || this.#before === undefined) return;
    const before = this.#before.sched;
    // A scheduler that was enabled during the record counts from 0.
    const isSame = before?.ops === sched.ops && before.enableSeq === sched.enableSeq;
    const counts = new Map((isSame ? before.events : []).map(({ name, count }) => [name, count]));
    for (const { name, count } of sched.events)
      this.#events.set(name, (this.#events.get(name) ?? 0n) + count - (counts.get(name) ?? 0n));
  }

  #leave(sentence: string): void {
    if (!this.left.includes(sentence)) this.left.push(sentence);
  }

  #bySteps<T>(value: (step: number) => T): T[] {
    return Array.from({ length: this.#stepCount }, (_, step) => value(step));
  }

  progs(): ProgSummary[] {
    const progs = [...this.#progs.values()].map(({ facts, base, last, nsByStep }) => ({
      facts,
      total: {
        count: last.count - base.count,
        runTimeNs: last.runTimeNs - base.runTimeNs,
        misses: last.misses - base.misses,
      },
      shares: this.#bySteps((step) => (nsByStep.get(step) ?? 0) / (this.#stepMs * 1e6)),
    }));
    return progs.sort((a, b) => Number(b.total.runTimeNs - a.total.runTimeNs) || a.facts.id - b.facts.id);
  }

  maps(): MapSummary[] {
    const grown = ({ first, last }: MapSummary): number =>
      Math.abs((last.bytes ?? 0) - (first.bytes ?? 0)) + Math.abs((last.entries ?? 0) - (first.entries ?? 0));
    return [...this.#maps.values()].sort(
      (a, b) => grown(b) - grown(a) || a.first.facts.id - b.first.facts.id,
    );
  }

  events(): RecordSummary["events"] {
    return [...this.#events].map(([name, count]) => ({ name, count }));
  }

  globals(): GlobalSummary[] {
    return this.#globals.map(({ first, last, values }, index) => ({
      name: this.#facts.globals[index] ?? "",
      first,
      last,
      values: this.#bySteps((step) => values.get(step) ?? null),
    }));
  }
}
