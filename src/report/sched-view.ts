/** The `sched` page as plain data, built from a machine's memory, from the text of a dump, or from /sys. */
import type { CpuState, SchedCounts, SchedReport, SchedulerState, SysfsSched } from "../sched-state.ts";
import type { DumpCpu, DumpEvent, DumpTask, ScxDump } from "../sched-text/dump.ts";
import { enumsOfDump } from "../sched-text/enums.ts";
import type { ScxEnums } from "../scx-enums.ts";
import type { FrameLines } from "./symbol.ts";

export interface SchedView {
  /** Source of the data, as text. */
  readonly origin: string;
  readonly opsName: string | undefined;
  /** "root", or "sub1-123" for the sub-scheduler of a cgroup; undefined if the kernel does not report it. */
  readonly place: string | undefined;
  readonly cgroupPath: string | undefined;
  /** Place of the parent scheduler; absent: none, or not known. */
  readonly parent?: string | undefined;
  /** For the root: all sub-schedulers, each after its parent; absent: not known. */
  readonly subSchedulers?: readonly SchedulerState[];
  /** "enabled", ...; "" if not known. */
  readonly state: string;
  /** Time since the scheduler was enabled, and since it was disabled; absent: not known. */
  readonly enabledMs?: number | undefined;
  readonly disabledMs?: number | undefined;
  /** Names of `ops.flags` and the depth of the bypass mode, as text; absent: not known. */
  readonly mode?: readonly string[];
  /** Counts of the whole machine; absent: not known. */
  readonly counts?: SchedCounts;
  /** Trigger of the dump: "SysRq-D"; "" if there was none. */
  readonly trigger: string;
  readonly exit: SchedExit | undefined;
  readonly watchdog: SchedWatchdog | undefined;
  /** Names of flags and states: the kernel's own, or those of the releases that print such a dump; absent: not known. */
  readonly enums?: ScxEnums;
  /** Names of dispatch queues in the scheduler's programs, by id; absent: not known. */
  readonly dsqNames?: ReadonlyMap<bigint, string>;
  /** Source lines of frames of stacks and of the back trace; absent: not requested. */
  readonly frameLines?: FrameLines;
  /** CPUs that the kernel's idle masks contain; absent: not known, or the scheduler tracks idle CPUs itself. */
  readonly idleCpus?: readonly number[] | undefined;
  /** A dump does not have idle CPUs. */
  readonly cpus: readonly SchedCpu[];
  /** Whether CPUs that are not in `cpus` are idle. */
  readonly othersIdle: boolean;
  readonly queues: readonly SchedQueue[];
  /** Tasks that are runnable on sched_ext, sorted by descending wait. */
  readonly tasks: readonly SchedTask[];
  readonly events: readonly DumpEvent[];
  /** Output of the scheduler's own `dump` callback, and unrecognized lines. */
  readonly unknown: readonly string[];
  /** Facts that the source does not have, each with the reason: "event counters: they are not in the text". */
  readonly notAvailable: readonly string[];
}

export interface SchedExit {
  /** `enum scx_exit_kind`; undefined if only its text is known. */
  readonly kind: number | undefined;
  /** The kernel's own name; absent: the number has the same meaning in every known release. */
  readonly kindName?: string | undefined;
  /** Absent: not known. */
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
  /** Time since the worker's last check. */
  readonly lastCheckMs: number | undefined;
  /** The task that will exceed the timeout first, and the time left; absent: no task waits, or it is not known. */
  readonly next?: { readonly pid: number; readonly comm: string; readonly inMs: number } | undefined;
}

/** The members of `CpuState` that `DumpCpu` does not have are absent if the source is a dump. */
export type SchedCpu = Omit<DumpCpu, "tasks"> & Partial<Omit<CpuState, keyof DumpCpu>>;

export interface SchedTask extends DumpTask {
  /** CPU whose run queue holds the task; -1 if the text does not have it. */
  readonly cpu: number;
}

export interface SchedQueue {
  readonly id: bigint;
  readonly kind: QueueKind;
  /** CPU of a local or bypass queue. */
  readonly cpu: number | undefined;
  /** `nr`; absent: the source is a dump. */
  readonly length?: number;
  /** In the queue's order if known, else by wait. */
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

/** Returns every frame of the page's stacks. */
export function framesOf({ cpus, tasks, exit }: SchedView): string[] {
  return [
    ...cpus.flatMap(({ stack }) => stack ?? []),
    ...tasks.flatMap(({ stack }) => stack),
    ...(exit?.backtrace ?? []),
  ];
}

/** Converts a dump to a page. `origin`: place of the text. */
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
    notAvailable: notAvailable(dump, tasks),
  };
}

/** Builds queues from the tasks' `dsq_id`, because a dump does not list queues. Empty queues are absent. */
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

function notAvailable(dump: ScxDump, tasks: readonly SchedTask[]): string[] {
  const lacking: string[] = [];
  if (dump.incomplete !== "") lacking.push(`the dump is incomplete: ${dump.incomplete}`);
  if (dump.opsName === undefined) lacking.push("the scheduler's name: kernels before 7.2 do not print it");
  lacking.push("the watchdog's timeout, and the time left until it ejects the scheduler");
  lacking.push("idle CPUs, empty queues, and the order of tasks in a queue");
  if (tasks.length > 0 && tasks.every(({ sliceNs }) => sliceNs === undefined))
    lacking.push("slices and weights: 6.12 does not print them");
  if (dump.events.length === 0) lacking.push("event counters: they are not in the text");
  return lacking;
}

/**
 * Converts a report of a machine's memory to pages, one per scheduler; none if none is loaded and none was ejected. The first
 * page has tasks, queues and CPUs. For an ejected scheduler they come from the dump that the kernel kept.
 */
export function viewsOfReport(report: SchedReport, origin: string): SchedView[] {
  return report.schedulers.map((scheduler, index) => {
    const { exit, level, place, parent, cgroupPath, enabledMs, disabledMs } = scheduler;
    const kept = scheduler.isLoaded || !exit?.dump ? undefined : parsed(exit.dump);
    const base = kept === undefined ? memoryView(index === 0 ? report : undefined) : viewOfDump(kept, "");
    return {
      ...base,
      origin:
        kept === undefined
          ? origin
          : `${origin}: the dump that the kernel kept when it ejected the scheduler`,
      opsName: scheduler.opsName,
      place,
      parent,
      subSchedulers: index === 0 ? descendantsOf(report.schedulers, place) : [],
      cgroupPath: level === 0 ? undefined : cgroupPath,
      state: report.state,
      enabledMs,
      disabledMs,
      mode: modeOf(report, scheduler),
      exit:
        exit === undefined
          ? undefined
          : { ...exit, comm: base.exit?.comm ?? "", pid: base.exit?.pid, cpu: exit.cpu ?? base.exit?.cpu },
      events: scheduler.events,
      counts: report.counts,
      enums: report.enums,
      notAvailable: [...missingFacts(scheduler), ...base.notAvailable, ...report.missing],
    };
  });
}

function parsed(text: string): ScxDump | undefined {
  const { parseLog } = require("../sched-text/parse.ts") as typeof import("../sched-text/parse.ts");
  return parseLog(text).dumps[0];
}

/** Returns the descendants of a scheduler depth first, in the kernel's order, each once even if damaged memory has a cycle. */
function descendantsOf(all: readonly SchedulerState[], place: string): SchedulerState[] {
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

/** Converts /sys/kernel/sched_ext to pages. `why`: reason why the kernel's memory is not read. */
export function viewsOfSysfs(found: SysfsSched, why: string): SchedView[] {
  return found.schedulers.map(({ opsName, place, events }) => ({
    ...memoryView(undefined),
    origin: "the running kernel, by /sys/kernel/sched_ext",
    opsName,
    place,
    state: found.state,
    mode: switchWords(found),
    counts: found.counts,
    events,
    notAvailable: [
      `flags, watchdog, exit information, CPUs, dispatch queues, tasks, stacks and findings: ${why}`,
      ...(events.length === 0 ? ["event counters: this kernel has no root/events (since 6.15)"] : []),
    ],
  }));
}

/** Returns a page with the CPUs, queues and tasks of a memory image; without them if `report` is undefined. */
function memoryView(report: SchedReport | undefined): SchedView {
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
    notAvailable: areStacksKnown ? [] : ["stacks of running tasks: the CPUs' registers are not in the image"],
  };
}

function missingFacts({ isLoaded, enabledMs, flags }: SchedulerState): string[] {
  const lacking: string[] = [];
  if (enabledMs === undefined)
    lacking.push("the time at which the scheduler was enabled: the kernel's log no longer has the line");
  if (!isLoaded && flags === undefined)
    lacking.push(
      "the dump, back trace and event counters: the scheduler's program has exited, and only the kernel's log has a record of it",
    );
  return lacking;
}

/** Describes which tasks sched_ext schedules. */
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
