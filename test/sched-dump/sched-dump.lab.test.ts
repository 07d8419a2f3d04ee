/** `ktstr sched dump` of a frozen guest is what its kernel printed just before, line for line. */
import { describe, expect, test } from "bun:test";
import type { KernelName } from "../lab/kernels.ts";
import { whyNoLab } from "../lab/promise.ts";
import type { SchedulerName } from "../lab/schedulers.ts";
import { ktstr } from "../live/bpftool.ts";
import { schedDumpProblems } from "../report/schema.ts";
import { heldGuest } from "./held.ts";

const KERNELS: readonly KernelName[] = ["sid", "7.3", "7.1", "7.0", "6.19", "6.18", "6.17", "6.16"];
const SCHEDULERS: readonly SchedulerName[] = ["scx_simple", "scx_flatcg", "scx_central", "scx_sdt"];
const guests =
  process.env["KTSTR_LAB"] === "all"
    ? KERNELS.flatMap((kernel) => SCHEDULERS.map((scheduler) => [kernel, scheduler] as const))
    : [["sid", "scx_simple"] as const];
const bootMs = 900_000;

/** The kernel's lines: what stands behind the event's name. */
const printed = (trace: string): string[] =>
  trace
    .split("\n")
    .flatMap((line) =>
      line.includes(" sched_ext_dump: ") ? [line.replace(/^.*? sched_ext_dump: /, "")] : [],
    );

/** The end of a task's first line. */
const WAIT = /^( [* ]\w .*\[\d+\].* )([+-]\d+)ms$/;
const KICK = /^ {2}(?:cpus_to_kick|idle_to_kick|cpus_to_preempt|cpus_to_wait|cpus_to_sync) *: /;

/**
 * The lines without what may differ, since no task of sched_ext runs between the dump and the freeze:
 * - `runnable_at` (the wait) is counted up to the one and up to the other: it grows by the same time for every task.
 * - the masks of pending kicks under scx_central, whose timer goes on kicking CPUs.
 */
function standing(lines: readonly string[], scheduler: SchedulerName) {
  const waits: number[] = [];
  const others = lines.flatMap((line) => {
    if (scheduler === "scx_central" && KICK.test(line)) return [];
    const [, head, wait] = WAIT.exec(line) ?? [];
    if (head === undefined) return [line];
    waits.push(Number(wait));
    return [`${head}<wait>`];
  });
  return { lines: others, waits };
}

describe.skipIf((await whyNoLab()) !== "")("sched dump", () => {
  test.each(guests)(
    "%s under %s",
    async (kernel, scheduler) => {
      const { trace, answer } = await heldGuest(kernel, scheduler, ({ memoryPath }) => ({
        text: ktstr(["sched", "dump", "--memory", memoryPath]),
        json: ktstr(["-j", "sched", "dump", "--memory", memoryPath]),
      }));
      const theirs = standing(printed(trace), scheduler);
      const ours = standing(answer.text.out.trimEnd().split("\n"), scheduler);
      expect(answer.text.status).toBe(0);
      expect(ours.lines).toEqual(theirs.lines);
      const moved = ours.waits.map((wait, index) => theirs.waits[index]! - wait);
      expect(new Set(moved).size).toBe(1);
      expect(moved[0]).toBeGreaterThanOrEqual(0);
      // A dump without tasks that wait, or without their stacks, would compare little.
      expect(ours.lines.filter((line) => /^ {4}\S+\+0x/.test(line)).length).toBeGreaterThanOrEqual(20);
      expect(ours.waits.length).toBeGreaterThanOrEqual(5);

      const json = JSON.parse(answer.json.out);
      expect(schedDumpProblems(json)).toEqual([]);
      const { tasks } = json.dumps[0].cpus[0];
      expect(tasks.length).toBeGreaterThan(0);
      for (const { pid, comm, stack } of tasks) {
        expect(answer.text.out).toContain(` ${comm}[${pid}]`);
        for (const frame of stack) expect(answer.text.out).toContain(`    ${frame}\n`);
      }
    },
    bootMs,
  );
});
