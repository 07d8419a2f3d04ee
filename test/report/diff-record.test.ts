/** Differences between rounds of a record, and between a record and a report. */
import { describe, expect, test } from "bun:test";
import { buildDiff } from "../../src/report/diff.ts";
import { roundSnapshot } from "../../src/report/record-snapshot.ts";
import type { Snapshot } from "../../src/report/snapshot.ts";
import { report, scheduler, snapshot } from "./reports.ts";

describe("rounds of a record", () => {
  const round = (count: bigint, enableSeq: bigint): Snapshot =>
    roundSnapshot(
      {
        source: "",
        kernel: {
          release: "7.2.3",
          machine: "x86_64",
          possibleCpus: undefined,
          onlineCpus: undefined,
          bootTimeUnixNs: 1_000_000_000n,
        },
        globals: [],
      },
      {
        atMs: 0,
        unixMs: 5000,
        pauseMs: undefined,
        progs: [],
        maps: [],
        links: [],
        sched: {
          state: "enabled",
          ops: "simple",
          enableSeq,
          events: [{ name: "SCX_EV_A", count }],
          queues: undefined,
          waits: undefined,
        },
        globals: [],
      },
    );

  test("of one scheduler have changes of its events; a scheduler with another enable_seq is reloaded", () => {
    const same = buildDiff(round(5n, 1n), round(9n, 1n));
    expect(same.scheduler.kind).toBe("same");
    expect(same.sched.events).toEqual([{ place: "root", name: "SCX_EV_A", a: 5n, b: 9n }]);
    expect(buildDiff(round(5n, 1n), round(9n, 2n)).scheduler.kind).toBe("reloaded");
  });

  test("and a report of the same boot are of one boot, although a record has no version", () => {
    const { kernel } = round(5n, 1n);
    const saved = report(10, { scheduler: scheduler("simple", [1]) });
    const other = snapshot(saved);
    const built = buildDiff(
      {
        ...round(5n, 1n),
        kernel: {
          ...kernel,
          release: other.kernel.release,
          machine: other.kernel.machine,
          bootTimeUnixNs: undefined,
        },
      },
      other,
    );
    expect([built.sameBoot, built.scheduler.kind]).toEqual([true, "same"]);
  });
});
