/** Figures that are computed from a program's counters. */
import { describe, expect, test } from "bun:test";
import { missRate, nsPerCall, saturatingAdd, statsLine } from "../../src/derive.ts";
import type { ProgStats } from "../../src/state.ts";

const MAX = 2n ** 64n - 1n;
const stats = (count: bigint, runTimeNs: bigint, misses: bigint): ProgStats => ({ count, runTimeNs, misses });

describe("the one-line text of a program's stats", () => {
  for (const [given, line] of [
    [stats(100n, 200n, 3n), "p: cnt=100 nsecs=200 misses=3 ns/call=2.000 miss_rate=0.0291"],
    [stats(0n, 0n, 0n), "p: cnt=0 nsecs=0 misses=0"],
    [stats(3n, 10n, 0n), "p: cnt=3 nsecs=10 misses=0 ns/call=3.333"],
    [stats(0n, 0n, 5n), "p: cnt=0 nsecs=0 misses=5 miss_rate=1.0000"],
    [stats(0n, 7n, 0n), "p: cnt=0 nsecs=7 misses=0"],
    [stats(1n, MAX, 0n), `p: cnt=1 nsecs=${MAX} misses=0 ns/call=18446744073709551616.000`],
  ] as const) {
    test(line, () => expect(statsLine("p", given)).toBe(line));
  }
});

describe("derived figures", () => {
  test("are never NaN or Infinity, for any counters", () => {
    for (const count of [0n, 1n, 2n ** 53n, MAX]) {
      for (const time of [0n, 1n, MAX]) {
        for (const misses of [0n, 1n, MAX]) {
          const given = stats(count, time, misses);
          expect(Number.isFinite(nsPerCall(given))).toBe(true);
          expect(missRate(given)).toBeGreaterThanOrEqual(0);
          expect(missRate(given)).toBeLessThanOrEqual(1);
        }
      }
    }
    expect(nsPerCall(stats(0n, 5n, 0n))).toBe(0);
    expect(missRate(stats(0n, 0n, 0n))).toBe(0);
    expect(missRate(stats(100n, 0n, 3n))).toBeCloseTo(3 / 103, 12);
  });

  test("sums saturate at 2^64-1", () => {
    expect(saturatingAdd(MAX - 1n, 1n)).toBe(MAX);
    expect(saturatingAdd(MAX, 1n)).toBe(MAX);
    expect(saturatingAdd(MAX, MAX)).toBe(MAX);
    expect(saturatingAdd(2n, 3n)).toBe(5n);
  });
});
