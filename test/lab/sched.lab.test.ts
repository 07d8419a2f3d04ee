/** sched_ext of frozen machines, compared with the kernel's output just before the freeze and the stalling program's statement. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { openGuest } from "../../src/guest/guest.ts";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { AddressNames } from "../../src/guest/kernel/names-at.ts";
import { readSchedReport } from "../../src/guest/sched/report.ts";
import { readSchedulerDumps } from "../../src/guest/sched/scx-dump.ts";
import { listTasks } from "../../src/guest/sched/task-list.ts";
import { dsqNames } from "../../src/report/dsq-names.ts";
import { type Finding, findingsOf } from "../../src/report/sched-findings.ts";
import { viewOfDump, viewsOfReport } from "../../src/report/sched-view.ts";
import { view } from "../../src/report/view.ts";
import type { SchedReport, TaskState } from "../../src/sched-state.ts";
import type { DumpTask } from "../../src/sched-text/dump.ts";
import { enumsOfDump } from "../../src/sched-text/enums.ts";
import { parseLog } from "../../src/sched-text/parse.ts";
import { flagNames, nameIn, type ScxEnums } from "../../src/scx-enums.ts";
import { labSkipReason } from "./availability.ts";
import { buildBpftool } from "./bpftool.ts";
import type { FrozenImage } from "./frozen.ts";
import { kernelBtf } from "./kernels.ts";
import { frozenRow, rows, stallRows } from "./matrix.ts";
import { isSilent } from "./stall/run.ts";

const bootMs = 900_000;

interface Statement {
  readonly kind: string;
  readonly shared_dsq: string;
  readonly unconsumed_dsq: string;
  readonly victims: readonly { readonly pid: number; readonly comm: string; readonly enqueued_ns: number }[];
}

/** Returns stacks by pid of the tasks in `ktstr sched dump`. */
function dumpedStacks({ memoryPath }: FrozenImage): Map<number, readonly string[]> {
  using kernel = openKernel({ memory: [{ path: memoryPath }] });
  const { dumps } = readSchedulerDumps(kernel, new AddressNames(kernel));
  return new Map(
    dumps.flatMap(({ cpus }) => cpus.flatMap(({ tasks }) => tasks.map((t) => [t.pid, t.stack]))),
  );
}

function reportOf({ memoryPath }: FrozenImage): SchedReport {
  using kernel = openKernel({ memory: [{ path: memoryPath }] });
  return readSchedReport(kernel, new AddressNames(kernel));
}

/** The finding with the cause, for each kind of stall. */
const CAUSES: { readonly [kind: string]: string } = {
  "lost-comm": "not-dispatched",
  "lost-dsq": "queue-not-consumed",
  pinned: "local-queue-long",
  "slice-inf": "slice-long",
  "rt-hog": "rt-holds-cpus",
  starved: "long-wait",
};

/** Fields that do not change while a task waits. */
const unchangedFields = ({
  comm,
  pid,
  scheduler,
  dsqId,
  vtime,
  sliceNs,
  weight,
  cpus,
  scxState,
}: DumpTask) => ({
  comm,
  pid,
  scheduler,
  dsqId,
  vtime,
  sliceNs,
  weight,
  cpus,
  scxState,
});

/** Returns the enumerators of the image's kernel, as bpftool prints them. */
async function enumerators({ kernel }: FrozenImage): Promise<Map<string, bigint>> {
  const { stdout } = Bun.spawnSync([
    await buildBpftool(kernel.arch),
    ...["btf", "dump", "file", await kernelBtf(kernel), "format", "c"],
  ]);
  const lines = stdout.toString().matchAll(/^\t(\w+) = (-?\d+)(?:ULL)?,$/gm);
  return new Map([...lines].map(([, name = "", value = ""]) => [name, BigInt(value)]));
}

/** Requires that the names are those of the bits in the kernel's dump, by bpftool's values. */
function expectNames(enums: ScxEnums, values: ReadonlyMap<string, bigint>, printed: DumpTask): void {
  const flags = flagNames(enums.taskFlags, printed.flags!);
  const sum = flags.reduce((all, name) => all | (values.get(`SCX_TASK_${name}`) ?? -1n), 0n);
  expect(BigInt.asUintN(32, sum)).toBe(BigInt(printed.flags!));
  const state = values.get(`SCX_TASK_${nameIn(enums.taskStates, printed.scxState!)}`)!;
  // Until 7.0 a separate enum numbers the states; since then they are shifted.
  const shift = values.has("SCX_TASK_NR_STATES") ? 0n : values.get("SCX_TASK_STATE_SHIFT")!;
  expect(state >> shift).toBe(BigInt(printed.scxState!));
  expect(values.get(`SCX_OPSS_${nameIn(enums.opsStates, printed.opsState!)}`)).toBe(
    BigInt(printed.opsState!),
  );
}

/** Returns the time of the kernel's last call of the scheduler, which is shortly before the freeze. */
function lastCallNs({ memoryPath }: FrozenImage): number {
  using guest = view(openGuest({ memory: memoryPath }));
  return Number(guest.map("stall.bss").global("last_ns"));
}

function expectWaits(waiting: readonly TaskState[], victims: Statement["victims"], frozenNs: number): void {
  for (const { pid, enqueued_ns: enqueuedNs } of victims) {
    const waitedMs = (frozenNs - enqueuedNs) / 1e6;
    const task = waiting.find((each) => each.pid === pid);
    expect(task?.waitMs).toBeGreaterThan(waitedMs * 0.95);
    expect(task?.waitMs).toBeLessThan(waitedMs * 1.05);
  }
}

/** Requires that the watchdog strikes a victim first, when the timeout since its `ops.enqueue()` is over. */
function expectNextStrike({ watchdog }: SchedReport, victims: Statement["victims"], frozenNs: number): void {
  expect(victims.map(({ pid }) => pid)).toContain(watchdog!.next!.pid);
  const waitedMs = (frozenNs - Math.min(...victims.map((each) => each.enqueued_ns))) / 1e6;
  // LONG_TIMEOUT_MS of stall/run.ts.
  const left = 30_000 - waitedMs;
  expect(watchdog!.next!.inMs).toBeGreaterThan(left - 0.05 * waitedMs);
  expect(watchdog!.next!.inMs).toBeLessThan(left + 0.05 * waitedMs);
}

/**
 * Returns the number of runnable tasks of the realtime class by CPU, without migration/N. Until 6.17, sched_ext moves these
 * threads from the stop class to the realtime class, and one can be about to run at any moment.
 */
function realtimeTasks({ memoryPath }: FrozenImage, { cpus }: SchedReport): number[] {
  using kernel = openKernel({ memory: [{ path: memoryPath }] });
  const ready = new Set(
    [...listTasks(kernel)]
      .filter(({ state, schedClass }) => state === "R" && schedClass === "rt_sched_class")
      .map(({ comm }) => comm),
  );
  return cpus.map(({ cpu, nrRealtime }) => nrRealtime! - (ready.has(`migration/${cpu}`) ? 1 : 0));
}

/** Returns each CPU's value in /sys/kernel/debug/sched/debug. */
function runnableIn(debug: string, line: string): number[] {
  const sections = debug.split(/^cpu#/m).slice(1);
  return sections.map((text) => Number(new RegExp(`^ +\\.${line} +: (\\d+)$`, "m").exec(text)?.[1]));
}

const stalls = stallRows().map((row) => ({ row, stall: rows[row].stall! }));
/** Guests that were frozen in the middle of a stall, during which the kernel dumped its state. */
const inTheMiddle = stalls
  .filter(({ stall }) => !stall.ejected && !isSilent(stall.kind))
  .map(({ row }) => row);
/** Their tests are below. */
const LOOPS: readonly string[] = ["stall-loop", "stall-kicked"];
const silent = stalls
  .filter(({ row, stall }) => isSilent(stall.kind) && !LOOPS.includes(row) && !stall.ejected)
  .map(({ row }) => row);

/** Expected findings of guests that could not answer during the stall, from the behavior of their scheduler and hogs. */
const SILENT: {
  readonly [row: string]: (
    findings: readonly Finding[],
    report: SchedReport,
    pids: readonly number[],
  ) => void;
} = {
  "stall-near": (findings, { watchdog }, pids) => {
    const near = findings.find(({ kind }) => kind === "watchdog-near");
    expect(pids).toContain(near!.pids[0]!);
    // The stall began 20 s before the freeze; the timeout is 30 s.
    expect(near!.waitMs).toBeGreaterThan(19_000);
    expect(near!.waitMs).toBeLessThan(24_000);
    expect(watchdog).toMatchObject({ timeoutMs: 30_000, next: { pid: near!.pids[0]! } });
  },
  "stall-held": (findings, _, pids) => {
    const held = findings.find((each) => each.kind === "cpus-held" && each.pids.includes(pids[0]!));
    expect(held?.pids).toEqual(expect.arrayContaining([...pids]));
    expect(held?.cpus).toEqual([0, 1]);
    for (const cpu of [0, 1])
      expect(held!.details.join(" ")).toMatch(new RegExp(`CPU ${cpu} runs hog-${cpu}\\[`));
  },
  "stall-rt-all": (findings, _, pids) => expectAllHeld(findings, pids, "rt"),
  "stall-dl-all": (findings, _, pids) => expectAllHeld(findings, pids, "dl"),
};

/** Hogs of a higher class hold every CPU, also from the watchdog's worker. */
function expectAllHeld(findings: readonly Finding[], pids: readonly number[], schedClass: string): void {
  const late = findings.find(({ kind }) => kind === "watchdog-late")!;
  // The worker looked last at most 5 s before the stall began, which was 9 s before the freeze.
  const seconds = Number(/(?:did not|has not) run for ([\d.]+) s/.exec(late.summary)?.[1]);
  expect(seconds).toBeGreaterThan(8);
  expect(seconds).toBeLessThan(16);
  const held = findings.find((each) => each.kind === "rt-holds-cpus" && each.pids.includes(pids[0]!));
  expect(held?.pids).toEqual(expect.arrayContaining([...pids]));
  expect(held?.cpus).toEqual([0, 1]);
  for (const cpu of [0, 1])
    expect(held!.details.join(" ")).toMatch(
      new RegExp(`CPU ${cpu} runs hog-${cpu}\\[\\d+\\] \\(${schedClass}\\)`),
    );
}

/**
 * Hogs never sleep, and run since the loader woke them, by its CLOCK_MONOTONIC. When the loader woke the victims, it may have
 * interrupted the hog of one CPU.
 */
function expectSince({ memoryPath }: FrozenImage, { cpus }: SchedReport): void {
  using guest = view(openGuest({ memory: memoryPath }));
  const bss = guest.map("stall.bss");
  const [hogsNs, allNs] = [Number(bss.global("hogs_woken_ns")), Number(bss.global("all_woken_ns"))];
  expect(hogsNs).toBeGreaterThan(0);
  const shares = cpus.map(({ clockNs, currSinceNs }) => {
    const sinceNs = Number(currSinceNs);
    const ranNs = Number(clockNs) - hogsNs;
    expect(sinceNs).toBeGreaterThan(hogsNs - 0.05 * ranNs);
    expect(sinceNs).toBeLessThan(allNs + 0.05 * ranNs);
    return (sinceNs - hogsNs) / ranNs;
  });
  console.log(
    `time that hogs run: less than the loader's statement by ${shares.map((x) => (100 * x).toFixed(2)).join(" and ")} %`,
  );
  expect(Math.min(...shares.map(Math.abs))).toBeLessThan(0.05);
}

describe.skipIf((await labSkipReason()) !== "")("sched_ext in memory", () => {
  test.each(inTheMiddle)(
    "%s: waiting tasks are those of the kernel's dump, with the same fields",
    async (row) => {
      const image = await frozenRow(row);
      const report = reportOf(image);
      expect(report.missing).toEqual([]);
      const { dumps } = parseLog((await image.answers.text("scx-dump"))!);
      const printed = new Map(
        dumps.flatMap(({ cpus }) => cpus.flatMap(({ tasks }) => tasks.map((task) => [task.pid, task]))),
      );
      const waiting = report.tasks.filter(({ isCurrent, waitMs }) => !isCurrent && waitMs >= 3000);
      const stacks = dumpedStacks(image);
      const values = await enumerators(image);
      for (const task of waiting) {
        const before = printed.get(task.pid);
        expect(before && unchangedFields(before)).toEqual(unchangedFields(task));
        expectNames(report.enums, values, before!);
        expectNames(enumsOfDump(dumps[0]!), values, before!);
        expect(task.waitMs).toBeGreaterThanOrEqual(before!.waitMs);
        expect(stacks.get(task.pid)).toEqual(before!.stack);
        expect(task.stack).toEqual(before!.stack);
      }
      const debug = (await image.answers.text("sched-debug"))!;
      expect(realtimeTasks(image, report)).toEqual(runnableIn(debug, "rt_nr_running"));
      expect(report.cpus.map(({ nrDeadline }) => nrDeadline)).toEqual(runnableIn(debug, "dl_nr_running"));
      // A CPU that a wakeup has claimed is not in the mask, and still runs its idle task until it reschedules.
      const idle = report.cpus.filter(({ currClass }) => currClass === "idle_sched_class");
      expect(idle.map(({ cpu }) => cpu)).toEqual(expect.arrayContaining([...report.idleCpus!]));
      const statement = JSON.parse((await image.answers.text("stall.json"))!) as Statement;
      const { kind, victims, shared_dsq: sharedDsq } = statement;
      const pids = (tasks: readonly TaskState[]): number[] =>
        tasks.map(({ pid }) => pid).sort((a, b) => a - b);
      const findings = viewsOfReport(report, "").flatMap(findingsOf);
      if (kind === "healthy") {
        expect(findings).toEqual([]);
        return;
      }
      expect(findings.flatMap((finding) => finding.pids)).toEqual(
        expect.arrayContaining(victims.map(({ pid }) => pid)),
      );
      expect(findings.map((finding) => String(finding.kind))).toContain(CAUSES[kind]!);
      // The text that the kernel printed seconds before gives the same causes.
      const causes = (all: readonly Finding[]) =>
        victims.map(({ pid }) =>
          all
            .filter((each) => each.kind !== "watchdog-near" && each.pids.includes(pid))
            .map((each) => [each.kind, each.dsqId]),
        );
      const byText = dumps.map((dump) => viewOfDump(dump, "")).flatMap(findingsOf);
      expect(causes(byText)).toEqual(causes(findings));
      expect(pids(waiting)).toEqual(expect.arrayContaining(victims.map(({ pid }) => pid)));
      if (kind !== "rt-hog") expectWaits(waiting, victims, lastCallNs(image));
      if (kind === "lost-comm" || kind === "lost-dsq") expectNextStrike(report, victims, lastCallNs(image));
      if (kind === "rt-hog") {
        // The hog preempted a task of the scheduler, which has ops.cpu_release, and holds the CPU since then.
        const released = dumps.map(({ cpus }) => cpus.find(({ cpu }) => cpu === 1)?.cpuReleased);
        expect([released, report.cpus[1]?.cpuReleased]).toEqual([[1], 1]);
      }
      if (kind === "starved") {
        // Behind all tasks that came later, in the order in which they came.
        const shared = report.queues.find(({ id }) => id === BigInt(sharedDsq));
        expect(shared).toMatchObject({ isByVtime: true, length: shared!.tasks.length });
        expect(shared!.tasks.slice(-victims.length).map(({ pid }) => pid)).toEqual(
          [...victims].sort((a, b) => a.enqueued_ns - b.enqueued_ns).map(({ pid }) => pid),
        );
        expect(shared!.tasks.length).toBeGreaterThan(victims.length);
      }
      if (kind === "lost-dsq") {
        const lost = report.queues.find(({ id }) => id === 0xdead0n);
        expect(pids(lost!.tasks)).toEqual(victims.map(({ pid }) => pid));
        expect(lost!.length).toBe(victims.length);
      }
    },
    bootMs,
  );

  test.each(inTheMiddle)(
    "%s: queues have the names of the variables with their ids",
    async (row) => {
      const image = await frozenRow(row);
      const statement = JSON.parse((await image.answers.text("stall.json"))!) as Statement;
      using guest = openGuest({ memory: image.memoryPath });
      const ids = guest.scheduler().queues.flatMap(({ kind, id }) => (kind === "user" ? [id] : []));
      expect([...dsqNames(guest, ids)].sort()).toEqual([
        [BigInt(statement.shared_dsq), "shared_dsq"],
        [BigInt(statement.unconsumed_dsq), "unconsumed_dsq"],
      ]);
    },
    bootMs,
  );

  test.skipIf(silent.length === 0).each(silent)(
    "%s: findings name the cause of the waits",
    async (row) => {
      const image = await frozenRow(row);
      const report = reportOf(image);
      expect(report.missing).toEqual([]);
      const { victims } = JSON.parse((await image.answers.text("stall.json"))!) as Statement;
      expect(victims).toHaveLength(3);
      const findings = viewsOfReport(report, "").flatMap(findingsOf);
      SILENT[row]!(
        findings,
        report,
        victims.map(({ pid }) => pid),
      );
      if (row !== "stall-near") expectSince(image, report);
    },
    bootMs,
  );

  test.skipIf(!stalls.some(({ row }) => row === "stall-loop"))(
    "stall-loop: the finding names the program that does not return, and when it was called",
    async () => {
      const image = await frozenRow("stall-loop");
      const core = image.vmcorePath!;
      using guest = view(openGuest({ memory: core }));
      const bss = guest.map("stall.bss");
      const startedNs = Number(bss.global("loop_started_ns"));
      expect(startedNs).toBeGreaterThan(0);
      expect(Number(bss.global("loop_ended_ns"))).toBe(0);
      const report = reportOf({ ...image, memoryPath: core });
      expect(report.missing).toEqual([]);
      const findings = viewsOfReport(report, "").flatMap(findingsOf);
      const stuck = findings.find(({ kind }) => kind === "cpu-stuck")!;
      // STALL_CPU of stall.h.
      expect(stuck.cpus[0]).toBe(1);
      const seconds = /^CPU 1 has been in the BPF program stall_dispatch since ([\d.]+) s after boot, /.exec(
        stuck.summary,
      )?.[1];
      expect(Number(seconds) * 1e9).toBeGreaterThan(startedNs * 0.95);
      expect(Number(seconds) * 1e9).toBeLessThan(startedNs * 1.05);
      // CPU 0 either waits for a lock, with interrupts off, or goes on, and then calls ops.tick().
      const ranMs = (lastCallNs({ ...image, memoryPath: core }) - startedNs) / 1e6;
      if (stuck.waitMs === undefined) expect(stuck.summary).toContain("the kernel's clock does not run");
      else {
        expect(stuck.waitMs).toBeGreaterThan(ranMs * 0.95);
        expect(stuck.waitMs).toBeLessThan(ranMs * 1.05);
      }
      // The stack goes on behind the program and its trampoline.
      const functions = report.cpus[1]!.stack!.map((frame) => frame.replace(/\+.*/, ""));
      expect(functions.findIndex((name) => name.endsWith("_stall_dispatch"))).toBeGreaterThanOrEqual(0);
      expect(functions).toContain("bpf__sched_ext_ops_dispatch");
      expect(functions.at(-1)).toMatch(
        /^(entry_SYSCALL_64_after_hwframe|asm_.*|ret_from_fork_asm|.*startup.*)$/,
      );
      // Memory alone has no registers.
      const blind = viewsOfReport(reportOf(image), "");
      expect(blind.flatMap(findingsOf).map(({ kind }) => kind)).not.toContain("cpu-stuck");
      expect(blind[0]!.notAvailable.join()).toContain("registers are not in the image");
    },
    bootMs,
  );

  test.skipIf(!stalls.some(({ row }) => row === "stall-kicked"))(
    "stall-kicked: kicks are pending, and the cursor of an iterator is not a task of its queue",
    async () => {
      const image = await frozenRow("stall-kicked");
      using guest = view(openGuest({ memory: image.memoryPath }));
      const bss = guest.map("stall.bss");
      expect(Number(bss.global("loop_started_ns"))).toBeGreaterThan(0);
      expect(Number(bss.global("loop_ended_ns"))).toBe(0);
      const report = reportOf(image);
      expect(report.missing).toEqual([]);
      expect(report.cpus.map(({ kicks }) => kicks)).toEqual([
        [],
        [
          { name: "cpus_to_kick", cpus: [0] },
          { name: "cpus_to_preempt", cpus: [0] },
        ],
      ]);
      const { victims } = JSON.parse((await image.answers.text("stall.json"))!) as Statement;
      const shared = report.queues.find(({ id }) => id === BigInt(0x5ced0))!;
      expect(shared.tasks.map(({ pid }) => pid)).toEqual(
        expect.arrayContaining(victims.map(({ pid }) => pid)),
      );
      // `dsq->nr`, the kernel's own count, leaves the cursor out.
      expect(shared.tasks).toHaveLength(shared.length);
    },
    bootMs,
  );

  test(
    "the example test fails on a stall, and names the waiting tasks",
    async () => {
      const { memoryPath, answers } = await frozenRow("stall-lost-comm");
      const { victims } = JSON.parse((await answers.text("stall.json"))!) as Statement;
      const { exitCode, stderr } = Bun.spawnSync(
        [process.execPath, "test", "./examples/frozen-scheduler.test.ts"],
        {
          cwd: join(import.meta.dir, "../.."),
          env: { ...process.env, KTSTR_EXAMPLE_IMAGE: memoryPath },
        },
      );
      const printed = stderr.toString();
      expect(exitCode).toBe(1);
      expect(printed).toMatch(/\(fail\) .*has no task that waited longer than a second/);
      expect(printed).toMatch(/^ *1 fail$/m);
      for (const { pid, comm } of victims) {
        expect(printed).toContain(`"comm": "${comm}"`);
        expect(printed).toContain(`"pid": ${pid}`);
      }
    },
    bootMs,
  );

  test.skipIf(!inTheMiddle.includes("stall-healthy"))(
    "the example test passes on a machine without a stall",
    async () => {
      const { memoryPath } = await frozenRow("stall-healthy");
      const { exitCode, stderr } = Bun.spawnSync(
        [process.execPath, "test", "./examples/frozen-scheduler.test.ts"],
        {
          cwd: join(import.meta.dir, "../.."),
          env: { ...process.env, KTSTR_EXAMPLE_IMAGE: memoryPath },
        },
      );
      expect([exitCode, stderr.toString()]).toEqual([0, expect.stringMatching(/^ *0 fail$/m)]);
    },
    bootMs,
  );

  test(
    "tasks have the names of /proc",
    async () => {
      const image = await frozenRow("stall-healthy");
      using kernel = openKernel({ memory: [{ path: image.memoryPath }] });
      const listed = new Map([...listTasks(kernel)].map((task) => [task.pid, task]));
      const status = (await image.answers.text("task-status"))!;
      const asked = [...status.matchAll(/^Name:\t(.*)$[\s\S]*?^Pid:\t(\d+)$/gm)];
      // "kworker/0:1-mm_percpu_wq": /proc adds a worker's queue to its name.
      const same = asked.filter(([, name = "", pid]) => {
        const task = listed.get(Number(pid));
        return task !== undefined && name.startsWith(task.comm.slice(0, 15));
      });
      expect(same.length).toBeGreaterThanOrEqual(60);
      // Tasks that ended between the answer and the freeze.
      expect(asked.length - same.length).toBeLessThan(10);
    },
    bootMs,
  );
});
