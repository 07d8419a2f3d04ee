/** Metrics of rounds that real machines rarely have: many objects, hostile names, sched_ext's events. */
import { describe, expect, test } from "bun:test";
import { MAX_MAPS, MAX_PROGS, metricsOf } from "../../src/report/metrics.ts";
import { formatFor, metricsText } from "../../src/report/metrics-text.ts";
import type { Round, RoundMap, RoundProg, SeriesFacts } from "../../src/round.ts";
import { parseMetrics, parserSkipReason } from "./metrics-parser.ts";

const FACTS: SeriesFacts = {
  source: "",
  kernel: {
    release: "7.2",
    machine: "x86_64",
    possibleCpus: 8,
    onlineCpus: undefined,
    bootTimeUnixNs: undefined,
  },
  globals: [],
};
const prog = (id: number, name: string, runTimeNs: bigint): RoundProg => ({
  facts: { id, name, type: "struct_ops", tag: "0123456789abcdef", loadTimeNs: 1n, mapIds: [] },
  counters: { count: 3n, runTimeNs, misses: 0n },
});
const map = (id: number, name: string, bytes: number): RoundMap => ({
  facts: { id, name, type: "hash", keySize: 4, valueSize: 8, maxEntries: 10 },
  entries: undefined,
  bytes,
});
const round = (parts: Partial<Round>): Round => ({
  atMs: 0,
  unixMs: 0,
  pauseMs: undefined,
  progs: [],
  maps: [],
  links: [],
  sched: undefined,
  globals: [],
  ...parts,
});
const textOf = (parts: Partial<Round>, format: "prometheus" | "openmetrics"): string =>
  metricsText(metricsOf(FACTS, round(parts), "1", 12, 0), format);

describe.skipIf(parserSkipReason() !== "")(`read by an independent parser${parserSkipReason()}`, () => {
  test.each(["prometheus", "openmetrics"] as const)("names of any characters are labels in %s", (format) => {
    const names = [
      'quote"',
      "back\\slash",
      "two\nlines",
      "}{,=",
      "größe",
      "\u001b[31m",
      'end"} 1\nktstr_fake 1',
    ];
    const shown = [
      'quote"',
      "back\\\\slash",
      "two\\x0alines",
      "}{,=",
      "größe",
      "\\x1b[31m",
      'end"} 1\\x0aktstr_fake 1',
    ];
    const text = textOf(
      { progs: names.map((name, id) => prog(id, name, 1n)), maps: names.map((name, id) => map(id, name, 1)) },
      format,
    );
    const families = parseMetrics(text, format);
    for (const name of ["ktstr_program_runs", "ktstr_program_run_time_seconds", "ktstr_map_memory_bytes"]) {
      const { samples } = families.find((family) => family.name === name)!;
      expect(samples.map(([, labels]) => labels["name"])).toEqual(shown);
    }
    expect(families.map(({ name }) => name)).not.toContain("ktstr_fake");
  });

  test("a program's time is exact to the nanosecond", () => {
    const text = textOf({ progs: [prog(7, "p", 8_739_829_878n)] }, "openmetrics");
    expect(text).toContain(" 8.739829878\n");
    const [family] = parseMetrics(text, "openmetrics").filter(
      ({ name }) => name === "ktstr_program_run_time_seconds",
    );
    expect(family).toEqual({
      name: "ktstr_program_run_time_seconds",
      type: "counter",
      samples: [
        [
          "ktstr_program_run_time_seconds_total",
          { id: "7", name: "p", type: "struct_ops", tag: "0123456789abcdef" },
          8.739829878,
        ],
      ],
    });
  });

  test("sched_ext's events are counters with their names; a negative value of an inconsistent reading is left out", () => {
    const events = [
      { name: "SCX_EV_REFILL_SLICE_DFL", count: 2437n },
      { name: "SCX_EV_TORN", count: -1n },
    ];
    const sched = {
      state: "enabled",
      ops: 'fla"tcg',
      enableSeq: 3n,
      events,
      queues: undefined,
      waits: undefined,
    };
    const families = parseMetrics(textOf({ sched }, "openmetrics"), "openmetrics");
    const samples = (name: string): unknown => families.find((family) => family.name === name)?.samples;
    expect(samples("ktstr_sched_ext_events")).toEqual([
      ["ktstr_sched_ext_events_total", { event: "SCX_EV_REFILL_SLICE_DFL" }, 2437],
    ]);
    expect(samples("ktstr_sched_ext_info")).toEqual([
      ["ktstr_sched_ext_info", { state: "enabled", ops: 'fla"tcg' }, 1],
    ]);
    expect(samples("ktstr_sched_ext_enables")).toEqual([["ktstr_sched_ext_enables_total", {}, 3]]);
  });

  test("with too many objects the costliest have series, and the others are counted", () => {
    const progs = Array.from({ length: MAX_PROGS + 7 }, (_, id) => prog(id + 1, "p", BigInt(id)));
    const maps = Array.from({ length: MAX_MAPS + 3 }, (_, id) => map(id + 1, "m", 10_000 - id));
    const families = parseMetrics(textOf({ progs, maps }, "prometheus"), "prometheus");
    const ids = (name: string): number[] =>
      families.find((family) => family.name === name)!.samples.map(([, labels]) => Number(labels["id"]));
    expect(ids("ktstr_program_runs")).toEqual(Array.from({ length: MAX_PROGS }, (_, index) => index + 8));
    expect(ids("ktstr_map_memory_bytes")).toEqual(Array.from({ length: MAX_MAPS }, (_, index) => index + 1));
    expect(
      families
        .find(({ name }) => name === "ktstr_objects_without_series")
        ?.samples.map(([, , value]) => value),
    ).toEqual([7, 3]);
  });
});

test.each([
  [null, "prometheus"],
  ["*/*", "prometheus"],
  ["text/plain;version=0.0.4", "prometheus"],
  [
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5",
    "openmetrics",
  ],
  ["text/plain, Application/OpenMetrics-Text; q=0.3", "openmetrics"],
  ["application/openmetrics-text;q=0", "prometheus"],
  ["application/openmetrics-textual", "prometheus"],
] as const)("who accepts %j is given %s", (accept, format) => {
  expect(formatFor(accept)).toBe(format);
});
