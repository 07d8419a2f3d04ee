/** Costs of an interval: the difference of two readings of the counters, for `--stats SECONDS`. */
import type { ProgInfo, ProgStats } from "../state.ts";

export interface StatsInterval {
  readonly seconds: number;
  /** What a program cost within it. A program that was loaded within it counts from its start. */
  of(prog: ProgInfo): ProgStats;
}

const ZERO: ProgStats = { count: 0n, runTimeNs: 0n, misses: 0n };

/** `before`: the programs as they were when the interval began. */
export function intervalSince(before: readonly ProgInfo[], seconds: number): StatsInterval {
  const known = new Map(before.map((prog) => [prog.id, prog]));
  return {
    seconds,
    of(prog) {
      const earlier = known.get(prog.id);
      // Ids come again once they have all been used: the load time tells two programs apart.
      const isSame = earlier?.loadTimeNs === prog.loadTimeNs;
      const start = isSame && earlier?.stats.ok ? earlier.stats.value : ZERO;
      return prog.stats.ok ? minus(prog.stats.value, start) : ZERO;
    },
  };
}

function minus(end: ProgStats, start: ProgStats): ProgStats {
  const rest = (a: bigint, b: bigint): bigint => (a > b ? a - b : 0n);
  return {
    count: rest(end.count, start.count),
    runTimeNs: rest(end.runTimeNs, start.runTimeNs),
    misses: rest(end.misses, start.misses),
  };
}
