/** Computes rates and averages from a program's counters, when they are printed. */
import type { ProgStats } from "./state.ts";

const U64_MAX = 2n ** 64n - 1n;

/** Returns a + b, limited to 2^64-1, so that hostile counters do not wrap. */
export function saturatingAdd(a: bigint, b: bigint): bigint {
  const sum = a + b;
  return sum > U64_MAX ? U64_MAX : sum;
}

/** Returns nanoseconds per call; 0 if there were no calls. */
export function nsPerCall(stats: ProgStats): number {
  return stats.count === 0n ? 0 : Number(stats.runTimeNs) / Number(stats.count);
}

/** Returns misses / (count + misses); 0 if both are 0. */
export function missRate(stats: ProgStats): number {
  const all = Number(stats.count) + Number(stats.misses);
  return all === 0 ? 0 : Number(stats.misses) / all;
}

/**
 * Returns `NAME: cnt=100 nsecs=200 misses=3 ns/call=2.000 miss_rate=0.0291`. ns/call is omitted if there were no calls,
 * miss_rate if there were no misses.
 */
export function statsLine(name: string, stats: ProgStats): string {
  let line = `${name}: cnt=${stats.count} nsecs=${stats.runTimeNs} misses=${stats.misses}`;
  if (stats.count > 0n) line += ` ns/call=${nsPerCall(stats).toFixed(3)}`;
  if (stats.misses > 0n) line += ` miss_rate=${missRate(stats).toFixed(4)}`;
  return line;
}
