/** Data of a record's page, from rounds made by hand. */
import { expect, test } from "bun:test";
import type { RecordFile } from "../../src/report/record-read.ts";
import { summarizeRecord } from "../../src/report/record-summary.ts";
import type { Round, RoundProg, RoundSched } from "../../src/round.ts";

const prog = (id: number, loadTimeNs: bigint, count: bigint, runTimeNs: bigint): RoundProg => ({
  facts: { id, name: `p${id}`, type: "xdp", tag: "", loadTimeNs, mapIds: [] },
  counters: { count, runTimeNs, misses: 0n },
});
const sched = (ops: string, enableSeq: bigint, count: bigint): RoundSched => ({
  state: ops === "" ? "disabled" : "enabled",
  ops,
  enableSeq,
  events: ops === "" ? [] : [{ name: "SCX_EV_A", count }],
  queues: undefined,
  waits: undefined,
});
const round = (atMs: number, parts: Partial<Round>): Round => ({
  atMs,
  unixMs: 1_000_000 + atMs,
  pauseMs: undefined,
  progs: [],
  maps: [],
  links: [],
  sched: undefined,
  globals: [],
  ...parts,
});
const record = (rounds: readonly Round[], globals: readonly string[] = []): RecordFile => ({
  path: "run",
  facts: {
    source: "",
    kernel: { release: "", machine: "", possibleCpus: 1, onlineCpus: 1, bootTimeUnixNs: undefined },
    globals,
  },
  intervalMs: 1000,
  *rounds() {
    yield* rounds;
  },
  damage: "",
});
const MS = 1_000_000n;

test("a program that existed before counts from the first round, a later one from its load", () => {
  const { progs, steps, lengthMs, startUnixMs } = summarizeRecord(
    record([
      round(0, { progs: [prog(1, 1n, 100n, 5000n * MS)] }),
      round(1000, { progs: [prog(1, 1n, 110n, 5250n * MS), prog(2, 9n, 3n, 100n * MS)] }),
      round(2000, { progs: [prog(1, 1n, 130n, 6250n * MS), prog(2, 9n, 3n, 100n * MS)] }),
    ]),
  );
  expect([lengthMs, startUnixMs, steps]).toEqual([2000, 1_000_000, [1000, 2000]]);
  expect(progs.map(({ facts, total, shares }) => [facts.id, total.count, total.runTimeNs, shares])).toEqual([
    [1, 30n, 1250n * MS, [0.25, 1]],
    [2, 3n, 100n * MS, [0.1, 0]],
  ]);
});

test("a reused id is another program", () => {
  const { progs } = summarizeRecord(
    record([
      round(0, { progs: [prog(1, 1n, 100n, 100n * MS)] }),
      round(1000, { progs: [prog(1, 2n, 4n, 40n * MS)] }),
    ]),
  );
  expect(progs.map(({ facts, total }) => [facts.loadTimeNs, total.count])).toEqual([
    [2n, 4n],
    [1n, 0n],
  ]);
});

test("events of a scheduler that was enabled again count from 0", () => {
  const { events, states } = summarizeRecord(
    record([
      round(0, { sched: sched("flatcg", 1n, 50n) }),
      round(1000, { sched: sched("flatcg", 1n, 60n) }),
      round(2000, { sched: sched("", 1n, 0n) }),
      round(3000, { sched: sched("flatcg", 2n, 7n) }),
    ]),
  );
  expect(events).toEqual([{ name: "SCX_EV_A", count: 17n }]);
  expect(states).toEqual([
    { atMs: 0, state: "enabled", ops: "flatcg" },
    { atMs: 2000, state: "disabled", ops: "" },
    { atMs: 3000, state: "enabled", ops: "flatcg" },
  ]);
});

test("the graph of many rounds has at most 600 points, and covers all the time", () => {
  const rounds = Array.from({ length: 10_001 }, (_, at) =>
    round(at * 100, { progs: [prog(1, 1n, BigInt(at), BigInt(at) * 50n * MS)], globals: [at] }),
  );
  const { progs, steps, globals } = summarizeRecord(record(rounds, ["x"]));
  expect([steps.length, steps.at(-1)]).toEqual([600, 1_000_000]);
  const [only] = progs;
  const sum = only!.shares.reduce((all, share) => all + share, 0);
  expect(sum / 600).toBeCloseTo(0.5, 6);
  expect([globals[0]?.first, globals[0]?.last, globals[0]?.values.at(-1)]).toEqual([0, 10_000, 10_000]);
});

test("a record with one round is valid, one without rounds is an error", () => {
  expect(summarizeRecord(record([round(0, { progs: [prog(1, 1n, 5n, 5n)] })])).progs[0]?.total.count).toBe(
    0n,
  );
  expect(() => summarizeRecord(record([]))).toThrow("the record has no rounds");
});
