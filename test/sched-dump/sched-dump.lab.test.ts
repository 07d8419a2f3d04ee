/** `ktstr sched dump` of a frozen guest equals the lines that its kernel printed just before the freeze. */
import { describe, expect, test } from "bun:test";
import type { ScxDump } from "../../src/sched-text/dump.ts";
import { dumpLines } from "../../src/sched-text/format.ts";
import { parseLog } from "../../src/sched-text/parse.ts";
import { labSkipReason } from "../lab/availability.ts";
import type { KernelName } from "../lab/kernels.ts";
import type { SchedulerName } from "../lab/schedulers.ts";
import { ktstr } from "../live/bpftool.ts";
import { schedDumpProblems } from "../report/schema.ts";
import { guestWithBusyCpus } from "./busy-cpus.ts";

const KERNELS: readonly KernelName[] = ["sid", "7.3", "7.1", "7.0", "6.19", "6.18", "6.17", "6.16"];
const SCHEDULERS: readonly SchedulerName[] = ["scx_simple", "scx_flatcg", "scx_central", "scx_sdt"];
const guests =
  process.env["KTSTR_LAB"] === "all"
    ? KERNELS.flatMap((kernel) => SCHEDULERS.map((scheduler) => [kernel, scheduler] as const))
    : [["sid", "scx_simple"] as const];
const bootMs = 900_000;

/** Returns the kernel's lines, without the prefix up to the event's name. */
const printed = (trace: string): string[] =>
  trace
    .split("\n")
    .flatMap((line) =>
      line.includes(" sched_ext_dump: ") ? [line.replace(/^.*? sched_ext_dump: /, "")] : [],
    );

/** Matches the end of a task's first line. */
const WAIT = /^( [* ]\w .*\[\d+\].* )([+-]\d+)ms$/;
const KICK = /^ {2}(?:cpus_to_kick|idle_to_kick|cpus_to_preempt|cpus_to_wait|cpus_to_sync) *: /;

/**
 * Removes from the lines the parts that can differ although no task of sched_ext runs between the dump and the freeze:
 * - `runnable_at` (the wait), which is measured at two times: it grows by the same time for every task.
 * - the masks of pending kicks under scx_central, whose timer continues to kick CPUs.
 */
function stableLines(lines: Iterable<string>, scheduler: SchedulerName) {
  const waits: number[] = [];
  const others: string[] = [];
  for (const line of lines) {
    if (scheduler === "scx_central" && KICK.test(line)) continue;
    const [, head, wait] = WAIT.exec(line) ?? [];
    if (head !== undefined) waits.push(Number(wait));
    others.push(head === undefined ? line : `${head}<wait>`);
  }
  return { lines: others, waits };
}

interface Woken {
  readonly dump: ScxDump;
  /** Waits of the tasks that were left out. */
  readonly waits: readonly number[];
}

/** Returns a dump without the tasks that the other one does not have, and `nr_run` of their CPUs reduced by them. */
function withoutWoken(dump: ScxDump, before: ScxDump): Woken {
  const known = new Set(before.cpus.flatMap(({ tasks }) => tasks.map(({ pid }) => pid)));
  const waits: number[] = [];
  const cpus = dump.cpus.map((cpu) => {
    const woken = cpu.tasks.filter(({ pid }) => !known.has(pid));
    waits.push(...woken.map(({ waitMs }) => waitMs));
    const tasks = cpu.tasks.filter(({ pid }) => known.has(pid));
    return { ...cpu, tasks, nrRunning: cpu.nrRunning! - woken.length };
  });
  return { dump: { ...dump, cpus }, waits };
}

/** Kernels that refuse a scheduler, which is built for sid's: its verifier does, or a kfunc has other parameters. */
const REFUSED: { readonly [scheduler: string]: readonly string[] } = {
  scx_sdt: ["6.16", "6.17", "6.18", "6.19"],
  scx_central: ["7.1"],
};
const isRefused = ([kernel, scheduler]: (typeof guests)[number]): boolean =>
  REFUSED[scheduler]?.includes(kernel) === true;

describe.skipIf((await labSkipReason()) !== "")("sched dump", () => {
  for (const [kernel, scheduler] of guests.filter(isRefused))
    test.skip(`${kernel} under ${scheduler}: the kernel does not load it`, () => {});

  test.each(guests.filter((guest) => !isRefused(guest)))(
    "is equal to the kernel's dump: %s under %s",
    async (kernel, scheduler) => {
      const { trace, answer } = await guestWithBusyCpus(kernel, scheduler, ({ memoryPath }) => ({
        text: ktstr(["sched", "dump", "--memory", memoryPath]),
        json: ktstr(["-j", "sched", "dump", "--memory", memoryPath]),
      }));
      expect(answer.text.status).toBe(0);
      const [cpuCount] = /(?<=#P:)\d+/.exec(trace)!;
      const theirs = printed(trace);
      const ours = answer.text.out.trimEnd().split("\n");
      const [before] = parseLog(theirs.join("\n")).dumps;
      const [after] = parseLog(ours.join("\n")).dumps;
      expect([...dumpLines(after!, Number(cpuCount))]).toEqual(ours);
      const woken = withoutWoken(after!, before!);
      const then = stableLines(theirs, scheduler);
      const now = stableLines(dumpLines(woken.dump, Number(cpuCount)), scheduler);
      expect(now.lines).toEqual(then.lines);
      // All waits grew by the same time; tasks that woke after the dump have not waited longer than that.
      const moved = now.waits.map((wait, index) => then.waits[index]! - wait);
      expect(new Set(moved).size).toBe(1);
      expect(moved[0]).toBeGreaterThanOrEqual(0);
      for (const wait of woken.waits) expect(wait).toBeLessThanOrEqual(moved[0]!);
      // A dump without waiting tasks, or without their stacks, would test little.
      expect(then.lines.filter((line) => /^ {4}\S+\+0x/.test(line)).length).toBeGreaterThanOrEqual(20);
      expect(then.waits.length).toBeGreaterThanOrEqual(5);

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
