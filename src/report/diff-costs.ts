/** Costs of programs between two snapshots: totals, and rates per second. */
import { nsPerCall } from "../derive.ts";
import type { Pairs } from "./pair-up.ts";
import type { Counters, SnapshotProg } from "./snapshot.ts";

export interface Cost {
  /** The program in B, or in A if B does not have it. */
  readonly prog: SnapshotProg;
  readonly a: CostShare | undefined;
  readonly b: CostShare | undefined;
  /** Cost from A to B; undefined if the snapshots are of different boots, or one has no statistics. */
  readonly between: Between | undefined;
}

/** Counters, with their share of the run time of all programs. */
export interface CostShare extends Counters {
  readonly nsPerCall: number;
  /** Share from 0 to 1. */
  readonly share: number;
}

export interface Between extends CostShare {
  /** Time in which the program was loaded, at most the time from A to B; undefined if not known. */
  readonly windowNs: bigint | undefined;
  readonly callsPerSecond: number | undefined;
  /** Run time per second: 1e9 is one CPU, fully used. */
  readonly nsPerSecond: number | undefined;
  /** Whether a counter decreased, so that B's values are counted from 0. */
  readonly reset: boolean;
}

const NOTHING: Counters = { calls: 0n, runTimeNs: 0n, misses: 0n };

interface Row {
  readonly prog: SnapshotProg;
  readonly a: Counters | undefined;
  readonly b: Counters | undefined;
  readonly between: Counters | undefined;
  readonly reset: boolean;
}

/** Returns programs that ran, sorted by descending cost between A and B, or by the sum of both if the boots differ. */
export function costsOf(
  { both, onlyA, onlyB }: Pairs<SnapshotProg>,
  sameBoot: boolean,
  elapsedNs: bigint | undefined,
  uptimeNs: bigint | undefined,
): Cost[] {
  const rows: Row[] = both.map(([a, b]) => rowOf(b, a.counters, b.counters, sameBoot));
  // A new program's counters began at 0 after A.
  for (const prog of onlyB) rows.push({ ...rowOf(prog, NOTHING, prog.counters, sameBoot), a: undefined });
  for (const prog of onlyA)
    rows.push({ prog, a: prog.counters, b: undefined, between: undefined, reset: false });
  const total = (side: "a" | "b" | "between"): bigint =>
    rows.reduce((sum, row) => sum + (row[side]?.runTimeNs ?? 0n), 0n);
  const totals = { a: total("a"), b: total("b"), between: total("between") };
  const isFresh = new Set(onlyB);
  const costs = rows
    .filter((row) => (sameBoot ? ran(row.between) : ran(row.a) || ran(row.b)))
    .map((row) => {
      const window = isFresh.has(row.prog) ? sinceLoad(row.prog, elapsedNs, uptimeNs) : elapsedNs;
      return {
        prog: row.prog,
        a: row.a && costShare(row.a, totals.a),
        b: row.b && costShare(row.b, totals.b),
        between: row.between && between(row.between, totals.between, window, row.reset),
      };
    });
  const weight = (cost: Cost): bigint =>
    sameBoot ? (cost.between?.runTimeNs ?? 0n) : (cost.a?.runTimeNs ?? 0n) + (cost.b?.runTimeNs ?? 0n);
  return costs.sort((x, y) => Number(weight(y) - weight(x)) || x.prog.id - y.prog.id);
}

const ran = (counters: Counters | undefined): boolean =>
  counters !== undefined && (counters.calls > 0n || counters.runTimeNs > 0n || counters.misses > 0n);

function rowOf(prog: SnapshotProg, a: Counters | undefined, b: Counters | undefined, sameBoot: boolean): Row {
  if (!sameBoot || a === undefined || b === undefined)
    return { prog, a, b, between: undefined, reset: false };
  const reset = b.calls < a.calls || b.runTimeNs < a.runTimeNs || b.misses < a.misses;
  const from = reset ? NOTHING : a;
  const between = {
    calls: b.calls - from.calls,
    runTimeNs: b.runTimeNs - from.runTimeNs,
    misses: b.misses - from.misses,
  };
  return { prog, a, b, between, reset };
}

/** Returns the part of the time from A to B in which the program was loaded. */
function sinceLoad(
  { loadTimeNs }: SnapshotProg,
  elapsedNs: bigint | undefined,
  uptimeNs: bigint | undefined,
): bigint | undefined {
  if (elapsedNs === undefined || uptimeNs === undefined || loadTimeNs === undefined) return elapsedNs;
  const age = uptimeNs - loadTimeNs;
  return age > 0n && age < elapsedNs ? age : elapsedNs;
}

function costShare(counters: Counters, total: bigint): CostShare {
  const { calls, runTimeNs, misses } = counters;
  return {
    ...counters,
    nsPerCall: nsPerCall({ count: calls, runTimeNs, misses }),
    share: total === 0n ? 0 : Number(runTimeNs) / Number(total),
  };
}

function between(counters: Counters, total: bigint, windowNs: bigint | undefined, reset: boolean): Between {
  const seconds = windowNs === undefined || windowNs <= 0n ? undefined : Number(windowNs) / 1e9;
  return {
    ...costShare(counters, total),
    windowNs,
    callsPerSecond: seconds && Number(counters.calls) / seconds,
    nsPerSecond: seconds && Number(counters.runTimeNs) / seconds,
    reset,
  };
}
