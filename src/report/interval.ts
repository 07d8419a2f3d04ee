/** Costs in an interval, for `--stats SECONDS`: the difference of two readings of the counters. */
import type { ProgInfo, ProgStats } from "../state.ts";

export interface StatsInterval {
  readonly seconds: number;
  /** A program's cost in the interval. A program that was loaded in the interval is counted from its load. */
  of(prog: ProgInfo): ProgStats;
}

const ZERO: ProgStats = { count: 0n, runTimeNs: 0n, misses: 0n };

/** `before`: the programs at the start of the interval. */
export function intervalSince(before: readonly ProgInfo[], seconds: number): StatsInterval {
  const known = new Map(before.map((prog) => [prog.id, prog]));
  return {
    seconds,
    of(prog) {
      const earlier = known.get(prog.id);
      // Ids are reused after they wrap around. The load time distinguishes programs.
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
