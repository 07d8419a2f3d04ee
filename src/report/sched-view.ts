/** What the `sched` page shows, as plain data: a frozen machine's memory and a dump's text both give it. */
import type { CpuState, SchedCounts, SchedReport, SchedulerState, SysfsSched } from "../sched-state.ts";
import type { DumpCpu, DumpEvent, DumpTask, ScxDump } from "../sched-text/dump.ts";
import { enumsOfDump } from "../sched-text/enums.ts";
import { parseLog } from "../sched-text/parse.ts";
import type { ScxEnums } from "../scx-enums.ts";
import type { FrameLines } from "./symbol.ts";

export interface SchedView {
  /** Where it comes from, for people. */
  readonly origin: string;
  readonly opsName: string | undefined;
  /** "root", or "sub1-123" with its cgroup; undefined where the kernel does not tell. */
  readonly place: string | undefined;
  readonly cgroupPath: string | undefined;
  /** The place of the scheduler that this one belongs to; absent: none, or not told. */
  readonly parent?: string | undefined;
  /** Of the root: all that belong to it, each behind its parent; absent: not told. */
  readonly subSchedulers?: readonly SchedulerState[];
  /** "enabled", ...; "" where not known. */
  readonly state: string;
  /** Since it was enabled, and since it was disabled; absent: not told. */
  readonly enabledMs?: number | undefined;
  readonly disabledMs?: number | undefined;
  /** `ops.flags` by name and the depth of the bypass mode, in words; absent: not told. */
  readonly mode?: readonly string[];
  /** Of the whole machine; absent: not told. */
  readonly counts?: SchedCounts;
  /** Why the kernel printed this: "SysRq-D"; "" where it printed nothing. */
  readonly trigger: string;
  readonly exit: SchedExit | undefined;
  readonly watchdog: SchedWatchdog | undefined;
  /** Names of flags and states: the kernel's own, or those of the releases that print such a text; absent: not known. */
  readonly enums?: ScxEnums;
  /** Ids of dispatch queues by the names that the scheduler's programs have for them; absent: not known. */
  readonly dsqNames?: ReadonlyMap<bigint, string>;
  /** Source lines of frames of stacks and of the back trace; absent: not asked for. */
  readonly frameLines?: FrameLines;
  /** CPUs that the kernel offers the scheduler as idle; absent: not told, or the scheduler tracks them itself. */
  readonly idleCpus?: readonly number[] | undefined;
  /** Idle CPUs are not in a dump. */
  readonly cpus: readonly SchedCpu[];
  /** A CPU that is not in `cpus` is idle. */
  readonly othersIdle: boolean;
  readonly queues: readonly SchedQueue[];
  /** Those that are runnable on sched_ext; the one that waited longest stands first. */
  readonly tasks: readonly SchedTask[];
  readonly events: readonly DumpEvent[];
  /** Words of the scheduler's own `dump` callback, and lines that nobody knows. */
  readonly unknown: readonly string[];
  /** What of the page cannot be told, and why. */
  readonly notTold: readonly string[];
}

export interface SchedExit {
  /** `enum scx_exit_kind`; undefined where only its words are known. */
  readonly kind: number | undefined;
  /** The kernel's own name of it; absent: the number is the same in every release that is known. */
  readonly kindName?: string | undefined;
  /** Absent: not told. */
  readonly code?: bigint | undefined;
  readonly reason: string;
  readonly message: string;
  readonly comm: string;
  readonly pid: number | undefined;
  readonly cpu: number | undefined;
  readonly backtrace: readonly string[];
}

export interface SchedWatchdog {
  readonly timeoutMs: number;
  /** Since the worker last looked. */
  readonly lastCheckMs: number | undefined;
  /** The task that it strikes first, and in how long; absent: none waits, or it is not told. */
  readonly next?: { readonly pid: number; readonly comm: string; readonly inMs: number } | undefined;
}

/** A dump does not have the members of the second part. */
export type SchedCpu = Omit<DumpCpu, "tasks"> & Partial<Omit<CpuState, keyof DumpCpu>>;

export interface SchedTask extends DumpTask {
  /** The CPU whose run queue holds it; -1 where the text does not tell. */
  readonly cpu: number;
}

export interface SchedQueue {
  readonly id: bigint;
  readonly kind: QueueKind;
  /** Of a local or bypass queue. */
  readonly cpu: number | undefined;
  /** `nr`; absent: a dump does not tell it. */
  readonly length?: number;
  /** In the queue's order where that is known, else by wait. */
  readonly tasks: readonly SchedTask[];
}

export type QueueKind = "user" | "global" | "local" | "bypass" | "invalid" | "builtin";

/** `SCX_DSQ_*` of include/linux/sched/ext.h. */
const BUILTIN: ReadonlyMap<bigint, QueueKind> = new Map([
  [0x8000000000000000n, "invalid"],
  [0x8000000000000001n, "global"],
  [0x8000000000000002n, "local"],
  [0x8000000000000003n, "bypass"],
]);

export function queueKindOf(id: bigint): QueueKind {
  return BUILTIN.get(id) ?? (id >> 63n === 1n ? "builtin" : "user");
}

/** Every frame of the page's stacks. */
export function framesOf({ cpus, tasks, exit }: SchedView): string[] {
  return [
    ...cpus.flatMap(({ stack }) => stack ?? []),
    ...tasks.flatMap(({ stack }) => stack),
    ...(exit?.backtrace ?? []),
  ];
}

/** A dump's text as a page. `origin` says where it stands. */
export function viewOfDump(dump: ScxDump, origin: string): SchedView {
  const { trigger } = dump;
  const tasks = dump.cpus.flatMap(({ cpu, tasks: own }) => own.map((task) => ({ ...task, cpu })));
  tasks.sort((a, b) => b.waitMs - a.waitMs || a.pid - b.pid);
  return {
    origin,
    opsName: dump.opsName,
    place: dump.scheduler,
    cgroupPath: dump.cgroupPath,
    state: "",
    trigger: trigger.kind === "debug" ? trigger.reason : "",
    exit:
      trigger.kind !== "exit"
        ? undefined
        : {
            kind: trigger.exitKind,
            reason: trigger.reason,
            message: trigger.message,
            comm: trigger.comm,
            pid: trigger.pid,
            cpu: trigger.cpu,
            backtrace: trigger.backtrace,
          },
    watchdog: undefined,
    enums: enumsOfDump(dump),
    cpus: dump.cpus.filter(({ cpu }) => cpu >= 0).map(({ tasks: _, ...cpu }) => cpu),
    othersIdle: dump.incomplete === "",
    queues: queuesOf(tasks),
    tasks,
    events: dump.events,
    unknown: dump.unknown,
    notTold: notTold(dump, tasks),
  };
}

/** The queues that the tasks' `dsq_id` name: a dump lists no queues, so an empty one is not seen. */
function queuesOf(tasks: readonly SchedTask[]): SchedQueue[] {
  const queues = new Map<string, SchedQueue & { readonly tasks: SchedTask[] }>();
  for (const task of tasks) {
    const { dsqId } = task;
    if (dsqId === null || dsqId === undefined) continue;
    const kind = queueKindOf(dsqId);
    const cpu = kind === "local" || kind === "bypass" ? task.cpu : undefined;
    const key = `${dsqId} ${cpu ?? ""}`;
    const queue = queues.get(key) ?? { id: dsqId, kind, cpu, tasks: [] };
    queue.tasks.push(task);
    queues.set(key, queue);
  }
  return [...queues.values()].sort((a, b) =>
    a.id < b.id ? -1 : a.id > b.id ? 1 : (a.cpu ?? 0) - (b.cpu ?? 0),
  );
}

function notTold(dump: ScxDump, tasks: readonly SchedTask[]): string[] {
  const lacking: string[] = [];
  if (dump.incomplete !== "") lacking.push(`the dump is not whole: ${dump.incomplete}`);
  if (dump.opsName === undefined) lacking.push("the scheduler's name: kernels before 7.2 do not print it");
  lacking.push("the watchdog's timeout, and so when it strikes");
  lacking.push("CPUs that are idle, empty queues, and the order of tasks in a queue");
  if (tasks.length > 0 && tasks.every(({ sliceNs }) => sliceNs === undefined))
    lacking.push("slices and weights: 6.12 does not print them");
  if (dump.events.length === 0) lacking.push("event counters: they are not in the text");
  return lacking;
}

/**
 * A machine's memory as pages, one for each scheduler; none where none is loaded and none was ejected. Tasks, queues
 * and CPUs stand on the first. Of a scheduler that was ejected they are those of the dump that the kernel kept.
 */
export function viewsOfReport(
  report: SchedReport,
  origin: string,
  dsqNames: ReadonlyMap<bigint, string> = new Map(),
): SchedView[] {
  return report.schedulers.map((scheduler, index) => {
    const { exit, level, place, parent, cgroupPath, enabledMs, disabledMs } = scheduler;
    const kept = scheduler.isLoaded ? undefined : parseLog(exit?.dump ?? "").dumps[0];
    const then = kept === undefined ? viewOfMoment(index === 0 ? report : undefined) : viewOfDump(kept, "");
    return {
      ...then,
      origin:
        kept === undefined
          ? origin
          : `${origin}: the dump that the kernel kept when it ejected the scheduler`,
      opsName: scheduler.opsName,
      place,
      parent,
      subSchedulers: index === 0 ? below(report.schedulers, place) : [],
      cgroupPath: level === 0 ? undefined : cgroupPath,
      state: report.state,
      enabledMs,
      disabledMs,
      mode: modeOf(report, scheduler),
      exit:
        exit === undefined
          ? undefined
          : { ...exit, comm: then.exit?.comm ?? "", pid: then.exit?.pid, cpu: exit.cpu ?? then.exit?.cpu },
      events: scheduler.events,
      counts: report.counts,
      enums: report.enums,
      dsqNames,
      notTold: [...untold(scheduler), ...then.notTold, ...report.missing],
    };
  });
}

/** Depth first, in the kernel's order; each once, also where torn memory has parents that go round. */
function below(all: readonly SchedulerState[], place: string): SchedulerState[] {
  const children = Map.groupBy(all, ({ parent }) => parent);
  const found = new Set<SchedulerState>();
  const pending = [...(children.get(place) ?? [])];
  for (let next = pending.shift(); next !== undefined; next = pending.shift()) {
    if (found.has(next)) continue;
    found.add(next);
    pending.unshift(...(children.get(next.place) ?? []).filter((child) => !found.has(child)));
  }
  return [...found];
}

/** /sys/kernel/sched_ext as pages. `why`: what keeps the kernel's memory from being read. */
export function viewsOfSysfs(found: SysfsSched, why: string): SchedView[] {
  return found.schedulers.map(({ opsName, place, events }) => ({
    ...viewOfMoment(undefined),
    origin: "the running kernel, by /sys/kernel/sched_ext",
    opsName,
    place,
    state: found.state,
    mode: switchWords(found),
    counts: found.counts,
    events,
    notTold: [
      `flags, watchdog, exit information, CPUs, dispatch queues, tasks, stacks and findings: ${why}`,
      ...(events.length === 0 ? ["event counters: this kernel has no root/events (since 6.15)"] : []),
    ],
  }));
}

/** CPUs, queues and tasks as they were at the freeze. */
function viewOfMoment(report: SchedReport | undefined): SchedView {
  const { cpus = [], idleCpus, tasks = [], queues = [], watchdog } = report ?? {};
  const busy = cpus.filter(({ isIdle }) => !isIdle);
  const areStacksKnown = busy.length === 0 || busy.some(({ stack }) => stack !== undefined);
  return {
    origin: "",
    opsName: undefined,
    place: undefined,
    cgroupPath: undefined,
    state: "",
    trigger: "",
    exit: undefined,
    watchdog,
    idleCpus,
    cpus,
    othersIdle: false,
    queues: queues.filter((queue) => queue.length > 0 || queue.kind === "user"),
    tasks,
    events: [],
    unknown: [],
    notTold: areStacksKnown ? [] : ["stacks of tasks that run: the CPUs' registers are not in the image"],
  };
}

function untold({ isLoaded, enabledMs, flags }: SchedulerState): string[] {
  const lacking: string[] = [];
  if (enabledMs === undefined)
    lacking.push("since when the scheduler is enabled: the kernel's log no longer has the line");
  if (!isLoaded && flags === undefined)
    lacking.push(
      "the dump, back trace and event counters: the scheduler's program is gone, and only the log tells of it",
    );
  return lacking;
}

/** Which tasks are on sched_ext. */
const switchWords = ({ isSwitchedAll }: Pick<SchedReport, "isSwitchedAll">): string[] =>
  isSwitchedAll === undefined
    ? []
    : [isSwitchedAll ? "all tasks of the fair class" : "only tasks of SCHED_EXT"];

function modeOf(report: SchedReport, scheduler: SchedulerState): string[] {
  const { isLoaded, flagNames, bypassDepth } = scheduler;
  const words = [...flagNames];
  if (!isLoaded) return words;
  words.push(...switchWords(report));
  if (bypassDepth !== undefined) words.push(`bypass depth ${bypassDepth}`);
  return words;
}
