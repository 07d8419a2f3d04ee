/** What a record tells of its whole time, as plain data of bounded size: totals, and lines of at most so many points. */
import type { PlainValue } from "../btf/value.ts";
import { KtstrError } from "../errors.ts";
import type { ProgFacts, Round, RoundMap, RoundProg, SeriesFacts } from "../round.ts";
import type { ProgStats } from "../state.ts";
import type { RecordFile } from "./record-read.ts";

export interface OverTime {
  readonly facts: SeriesFacts;
  readonly startUnixMs: number;
  readonly lengthMs: number;
  readonly rounds: number;
  /** Milliseconds since the start at which each step ends; the first step begins at 0. */
  readonly steps: readonly number[];
  /** The costliest first; those that did not run last. */
  readonly progs: readonly ProgOverTime[];
  /** The ones that changed most first. */
  readonly maps: readonly MapOverTime[];
  /** How much each counter grew within the record. */
  readonly events: readonly { readonly name: string; readonly count: bigint }[];
  /** Each state that sched_ext was in, and from when on. */
  readonly states: readonly { readonly atMs: number; readonly state: string; readonly ops: string }[];
  readonly globals: readonly GlobalOverTime[];
  /** What is not in it, as a sentence; "" where nothing is left out. */
  readonly damage: string;
}

export interface ProgOverTime {
  readonly facts: ProgFacts;
  /** Within the record. */
  readonly total: ProgStats;
  /** Of a CPU, by step: 1 is one CPU all the time. */
  readonly shares: readonly number[];
}

export interface MapOverTime {
  readonly first: RoundMap;
  readonly last: RoundMap;
}

export interface GlobalOverTime {
  readonly name: string;
  readonly first: PlainValue | undefined;
  readonly last: PlainValue | undefined;
  /** By step, the value of its last round; null: no number then. */
  readonly values: readonly (number | null)[];
}

/** Points of a line: as many as a wide chart has columns. */
const MAX_STEPS = 600;
/** Objects that a record may have had one after the other; more are left out, and said. */
const MAX_PROGS = 20_000;
const MAX_MAPS = 20_000;
const MAX_STATES = 200;

const ZERO: ProgStats = { count: 0n, runTimeNs: 0n, misses: 0n };

/** Reads the rounds twice: for their time, and for what happened in it. Throws `KtstrError` where there is no round. */
export function overTime(record: RecordFile): OverTime {
  let rounds = 0;
  let lengthMs = 0;
  let startUnixMs = 0;
  for (const { atMs, unixMs } of record.rounds()) {
    if (rounds++ === 0) startUnixMs = unixMs - atMs;
    lengthMs = Math.max(lengthMs, atMs);
  }
  const { damage } = record;
  if (rounds === 0) throw new KtstrError(`${record.path}: it has no round`, { hint: damage });
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
  /** By id and load time, as ids come again. */
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
      // One that was loaded later counted from 0 within the time.
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
    // A scheduler that was enabled anew counts from 0.
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

  progs(): ProgOverTime[] {
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

  maps(): MapOverTime[] {
    const grown = ({ first, last }: MapOverTime): number =>
      Math.abs((last.bytes ?? 0) - (first.bytes ?? 0)) + Math.abs((last.entries ?? 0) - (first.entries ?? 0));
    return [...this.#maps.values()].sort(
      (a, b) => grown(b) - grown(a) || a.first.facts.id - b.first.facts.id,
    );
  }

  events(): OverTime["events"] {
    return [...this.#events].map(([name, count]) => ({ name, count }));
  }

  globals(): GlobalOverTime[] {
    return this.#globals.map(({ first, last, values }, index) => ({
      name: this.#facts.globals[index] ?? "",
      first,
      last,
      values: this.#bySteps((step) => values.get(step) ?? null),
    }));
  }
}
