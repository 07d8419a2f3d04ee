/** sched_ext in the memory of frozen machines, compared with the answers of their kernels and programs just before the freeze. */
import { describe, expect } from "bun:test";
import { openGuest } from "../../src/guest/guest.ts";
import { readSysfsSched } from "../../src/live/sched-ext.ts";
import type { Sys } from "../../src/live/sys.ts";
import { schedViews } from "../../src/report/inspect-sched.ts";
import { findingsOf } from "../../src/report/sched-findings.ts";
import { viewsOfLog } from "../../src/report/sched-log.ts";
import { type SchedView, viewsOfReport, viewsOfSysfs } from "../../src/report/sched-view.ts";
import type { SchedReport } from "../../src/sched-state.ts";
import { parseLog } from "../../src/sched-text/parse.ts";
import { flagNames, nameIn } from "../../src/scx-enums.ts";
import { hasLateAnswers, type LabImage, labAndStallImages, testEachMachine } from "./images.ts";

const images = (await labAndStallImages()).filter(({ answer }) => answer("scx-dump") !== undefined);

const reports = new Map<string, SchedReport>();
function reportOf({ memory }: LabImage): SchedReport {
  const before = reports.get(memory);
  if (before !== undefined) return before;
  using guest = openGuest({ memory });
  const report = guest.scheduler();
  reports.set(memory, report);
  return report;
}

/** Uptime in seconds when the machine answered last; it was frozen within the next seconds. */
const lastUptimeMs = (image: LabImage): number => 1000 * Number.parseFloat(image.answer("uptime-last")!);
/** Time of the freeze by the kernel's clock in memory: the time after the last answer depends on the load of the host. */
function frozenMs({ memory }: LabImage): number {
  using guest = openGuest({ memory });
  return Number(guest.kernel().uptimeNs) / 1e6;
}
/** Jiffies continue from the last update of the timekeeper. */
const TICKS_MS = 1000;

interface Statement {
  readonly kind: string;
  readonly ops: string;
  readonly shared_dsq: string;
  readonly unconsumed_dsq: string;
  readonly exit?: {
    readonly kind: number;
    readonly ns: number;
    readonly reason: string;
    readonly message: string;
  };
}
const statementOf = (image: LabImage): Statement | undefined => {
  const text = image.answer("stall.json");
  return text === undefined ? undefined : (JSON.parse(text) as Statement);
};

const ejected = images.filter((image) => statementOf(image)?.exit !== undefined);
const loaded = images.filter(
  (image) => image.answer("sched_ext/state")?.trim() === "enabled" && statementOf(image)?.exit === undefined,
);

/** `enum scx_exit_kind`. A program that loops is noticed by the watchdog, or before it by the detector of soft lockups. */
const EXIT_KINDS: { readonly [kind: number]: string } = {
  1024: "SCX_EXIT_ERROR",
  1026: "SCX_EXIT_ERROR_STALL",
};

describe("an ejected scheduler", () => {
  testEachMachine(ejected, "%s: reason and time are those that its own program received", (image) => {
    const { ops, exit } = statementOf(image)!;
    const report = reportOf(image);
    expect(report.missing).toEqual([]);
    expect(report.state).toBe("disabled");
    const [scheduler, ...others] = report.schedulers;
    expect(others).toEqual([]);
    expect(scheduler).toMatchObject({ opsName: ops, isLoaded: false, level: 0 });
    expect(scheduler?.exit).toMatchObject({
      kind: exit!.kind,
      kindName: EXIT_KINDS[exit!.kind],
      reason: exit!.reason,
      message: exit!.message,
      code: 0n,
    });
    const sinceMs = lastUptimeMs(image) - exit!.ns / 1e6;
    expect(scheduler?.disabledMs).toBeGreaterThanOrEqual(sinceMs * 0.95);
    expect(scheduler?.disabledMs).toBeLessThan(frozenMs(image) - exit!.ns / 1e6 + TICKS_MS);
  });

  testEachMachine(ejected, "%s: the back trace is equal to the one in the kernel's log", (image) => {
    const lines = image
      .answer("dmesg")!
      .split("\n")
      .map((line) => line.replace(/^<\d+>\[ *[\d.]+\](?:\[ *\w+\])? /, ""));
    const start = lines.findIndex((line) => line.includes(` disabled (${statementOf(image)!.exit!.reason})`));
    const frames = lines.slice(start + 2).map((line) => /^ +(\S+\+0x\w+\/0x\w+)$/.exec(line)?.[1]);
    const count = frames.indexOf(undefined);
    expect(count).toBeGreaterThan(3);
    expect(reportOf(image).schedulers[0]?.exit?.backtrace).toEqual(frames.slice(0, count) as string[]);
  });

  testEachMachine(
    ejected,
    "%s: the dump that the kernel kept is equal to the one in its trace, byte for byte",
    (image) => {
      // The tracepoint `sched_ext_dump` prints each line of the dump that `struct scx_exit_info` keeps (`dump_line()`).
      const printed = image
        .answer("scx-dump")!
        .split("\n")
        .flatMap((line) => / sched_ext_dump: (.*)$/.exec(line)?.[1] ?? []);
      expect(printed.length).toBeGreaterThan(40);
      expect(reportOf(image).schedulers[0]?.exit?.dump).toBe(printed.map((line) => `${line}\n`).join(""));
    },
  );

  testEachMachine(ejected, "%s: queues have the names of the variables that its loader stated", (image) => {
    const { kind, shared_dsq, unconsumed_dsq } = statementOf(image)!;
    using guest = openGuest({ memory: image.memory });
    const [page] = schedViews(guest, "").views;
    const stated = new Map([
      [BigInt(shared_dsq), "shared_dsq"],
      [BigInt(unconsumed_dsq), "unconsumed_dsq"],
    ]);
    const queues = page!.queues.filter((queue) => queue.kind === "user");
    expect(queues.map(({ id }) => page!.dsqNames?.get(id))).toEqual(queues.map(({ id }) => stated.get(id)));
    if (kind === "lost-dsq") expect(queues.map(({ id }) => stated.get(id))).toContain("unconsumed_dsq");
  });

  testEachMachine(ejected, "%s: its page has the tasks of the dump that the kernel kept", (image) => {
    const [view, ...others] = viewsOfReport(reportOf(image), "");
    expect(others).toEqual([]);
    const findings = findingsOf(view!);
    expect(findings[0]).toMatchObject({ kind: "ejected" });
    expect(findings[0]?.summary).toContain(statementOf(image)!.exit!.message);
    expect(view?.tasks.map(({ comm }) => comm)).toContain("victim-2");
  });
});

/** Names of the bits of `enum scx_ops_flags` (kernel/sched/ext), without SCX_OPS_. */
const OPS_FLAGS = [
  "KEEP_BUILTIN_IDLE",
  "ENQ_LAST",
  "ENQ_EXITING",
  "SWITCH_PARTIAL",
  "ENQ_MIGRATION_DISABLED",
  "ALLOW_QUEUED_WAKEUP",
  "BUILTIN_IDLE_PER_NODE",
  "ALWAYS_ENQ_IMMED",
  "TID_TO_TASK",
];

describe("a loaded scheduler", () => {
  testEachMachine(
    loaded,
    "%s: counters equal the contents of /sys/kernel/sched_ext just before the freeze",
    (image) => {
      const report = reportOf(image);
      const file = (name: string): string | undefined => image.answer(`sched_ext/${name}`)?.trim();
      const counts = {
        nrRejected: "nr_rejected",
        hotplugSeq: "hotplug_seq",
        enableSeq: "enable_seq",
      } as const;
      for (const [member, name] of Object.entries(counts))
        expect([name, String(report.counts[member as keyof typeof counts])]).toEqual([name, file(name)!]);
      expect(report.isSwitchedAll).toBe(file("switch_all") === "1");
      // The page of a running kernel without access to its memory has the same.
      const folder = "/sys/kernel/sched_ext/";
      const found = readSysfsSched({
        readFile: (path: string) => image.answerBytes(`sched_ext/${path.slice(folder.length)}`),
        readDirectory: () => [],
      } as Partial<Sys> as Sys)!;
      const [bySysfs, ...others] = viewsOfSysfs(found, "why");
      expect(others).toEqual([]);
      const [byMemory] = viewsOfReport(report, "");
      const same = ({ opsName, place, state, counts }: SchedView) => ({ opsName, place, state, counts });
      expect(same(bySysfs!)).toEqual(same(byMemory!));
      expect(byMemory!.mode).toEqual(expect.arrayContaining([...bySysfs!.mode!]));
      expect(bySysfs!.events.map(({ name }) => name)).toEqual(byMemory!.events.map(({ name }) => name));
      bySysfs!.events.forEach(({ name, count }, index) => {
        expect([name, byMemory!.events[index]!.count >= count]).toEqual([name, true]);
      });
    },
  );

  testEachMachine(
    loaded,
    "%s: flags and timeout are those of bpftool's `struct_ops dump` just before the freeze",
    (image) => {
      const report = reportOf(image);
      const [scheduler] = report.schedulers;
      const [ops] = image
        .answer("struct_ops-dump.json")!
        .split(/(?="bpf_struct_ops_sched_ext_ops")/)
        .flatMap((text) => {
          const word = (name: string): string =>
            new RegExp(`"${name}": ?("[^"]*"|\\d+)`).exec(text)?.[1] ?? "";
          return word("name") === `"${scheduler!.opsName}"` && text.includes('"flags"') ? [word] : [];
        });
      const flags = Number(ops!("flags"));
      const names = OPS_FLAGS.filter((_, bit) => flags & (1 << bit)).map((name) => `SCX_OPS_${name}`);
      // The kernel's own mark of a scheduler with one of these callbacks (`scx_enable()`).
      const hasCallback = ["cpu_acquire", "cpu_release"].some((name) => !ops!(name).endsWith(' 0"'));
      expect(scheduler!.flagNames).toEqual([...names, ...(hasCallback ? ["SCX_OPS_HAS_CPU_PREEMPT"] : [])]);
      // The default is SCX_WATCHDOG_MAX_TIMEOUT, 30 s.
      expect(report.watchdog?.timeoutMs).toBe(Number(ops!("timeout_ms")) || 30_000);
    },
  );

  testEachMachine(
    loaded,
    "%s: the text that the kernel printed gives the same page as the memory",
    (image) => {
      const report = reportOf(image);
      const log = parseLog(image.answer("scx-dump")!);
      expect([log.dumps.length, log.unknownCount]).toEqual([1, 0]);
      const [dump] = log.dumps;
      const [byText, ...others] = viewsOfLog(log, "");
      const [byMemory] = viewsOfReport(report, "");
      expect([others, byText!.opsName ?? byMemory!.opsName]).toEqual([[], byMemory!.opsName]);
      const cpus = new Set(byMemory!.cpus.map(({ cpu }) => cpu));
      expect(byText!.cpus.filter(({ cpu }) => !cpus.has(cpu))).toEqual([]);
      expect(byText!.events.map(({ name }) => name)).toEqual(byMemory!.events.map(({ name }) => name));
      // Names from the form of the text equal those from the kernel's own types.
      const named = ({ enums }: SchedView): unknown => [
        byText!.tasks.map(({ scxState, flags, dsqFlags, opsState }) => [
          nameIn(enums!.taskStates, scxState!),
          flagNames(enums!.taskFlags, flags!),
          flagNames(enums!.dsqFlags, dsqFlags!),
          nameIn(enums!.opsStates, opsState!),
        ]),
        byText!.cpus.map(({ flags }) => flagNames(enums!.rqFlags, flags!)),
      ];
      expect(named(byText!)).toEqual(named(byMemory!));
      expect(byText!.tasks.length).toBeGreaterThan(0);
      const waiting = new Map(byMemory!.tasks.map((task) => [task.pid, task]));
      let same = 0;
      for (const { pid, comm, cpus: allowed, weight } of byText!.tasks) {
        const task = waiting.get(pid);
        if (task === undefined) continue;
        expect(task).toMatchObject({ comm, cpus: allowed, weight });
        same++;
      }
      console.log(
        `${image.name}: ${dump!.cpus.length} CPUs and ${byText!.tasks.length} tasks, ${same} of them still runnable`,
      );
      // On a busy host, tasks of an emulated guest may wait for a second, which is a finding.
      for (const page of [byText!, byMemory!])
        if (statementOf(image) === undefined && page.tasks.every(({ waitMs }) => waitMs < 1000))
          expect(findingsOf(page)).toEqual([]);
    },
  );

  testEachMachine(
    loaded.filter(hasLateAnswers),
    "%s: the time since it was enabled is that of the kernel's message",
    (image) => {
      const ops = image.answer("sched_ext/root/ops")!.trim();
      const line = new RegExp(`\\[ *([\\d.]+)\\].* sched_ext: BPF scheduler "${ops}" enabled`);
      const atMs = 1000 * Number(line.exec(image.answer("dmesg")!)?.[1]);
      const [scheduler] = reportOf(image).schedulers;
      expect(scheduler).toMatchObject({ opsName: ops, isLoaded: true, exit: undefined });
      const sinceMs = lastUptimeMs(image) - atMs;
      expect(scheduler?.enabledMs).toBeGreaterThanOrEqual(sinceMs * 0.95);
      expect(scheduler?.enabledMs).toBeLessThan(frozenMs(image) - atMs + TICKS_MS);
    },
  );
});
