/** Findings about sched_ext: reasons why tasks wait, and the kernel's reactions. */

import { cpuList } from "./cpu-list.ts";
import { activityOf, activityText, type CpuActivity } from "./sched-cpus.ts";
import { stuckCpus } from "./sched-stuck.ts";
import {
  type QueueKind,
  queueKindOf,
  type SchedQueue,
  type SchedTask,
  type SchedView,
} from "./sched-view.ts";
import { countText } from "./units.ts";

export interface Finding {
  readonly kind: FindingKind;
  /** One sentence, with unescaped names. */
  readonly summary: string;
  /** Further sentences about tasks and CPUs. */
  readonly details: readonly string[];
  readonly pids: readonly number[];
  /** CPUs that the sentence is about. */
  readonly cpus: readonly number[];
  readonly dsqId: bigint | undefined;
  /** Longest wait that the finding is about. */
  readonly waitMs: number | undefined;
}

export type FindingKind =
  | "ejected"
  | "cpu-stuck"
  | "watchdog-late"
  | "watchdog-near"
  | "rt-holds-cpus"
  | "cpus-held"
  | "local-queue-long"
  | "queue-not-consumed"
  | "not-dispatched"
  | "long-wait"
  | "slice-long";

/** Minimum wait that is reported: ten times the waits in a busy guest under emulation. */
const LONG_MS = 1000;
/** Limit on named tasks per finding. */
const MAX_NAMED = 8;

/** The kernel's classes of higher priority than sched_ext's (kernel/sched/sched.h, `for_each_class`). */
const ABOVE_SCX: readonly string[] = ["stop_sched_class", "dl_sched_class", "rt_sched_class"];

/** Findings of one scheduler, the most important first. */
export function findingsOf(view: SchedView): Finding[] {
  const waiting = view.tasks.filter((task) => !task.isCurrent && task.waitMs >= LONG_MS);
  return [
    ...ejected(view),
    ...stuckCpus(view),
    ...watchdogLate(view),
    ...waits(view, waiting),
    ...longSlices(view, waiting),
    ...watchdogNear(view, waiting),
  ];
}

const nothing = { details: [], pids: [], cpus: [], dsqId: undefined, waitMs: undefined };

/** `SCX_EXIT_ERROR`. For this and higher exit kinds, the kernel ejected the scheduler. */
const EXIT_ERROR = 1024;

function ejected({ exit, opsName }: SchedView): Finding[] {
  if (exit === undefined || (exit.kind !== undefined && exit.kind < EXIT_ERROR)) return [];
  const who = opsName === undefined ? "The scheduler" : `Scheduler ${opsName}`;
  const why = exit.message === "" ? exit.reason : `${exit.reason}: ${exit.message}`;
  const cpu = exit.cpu === undefined || exit.cpu < 0 ? "" : ` on CPU ${exit.cpu}`;
  const noticed =
    exit.pid === undefined ? "" : `The kernel detected it while ${exit.comm}[${exit.pid}] ran${cpu}.`;
  const pid = /\[(\d{1,10})\] failed to run for/.exec(exit.message)?.[1];
  return [
    {
      ...nothing,
      kind: "ejected",
      summary: `${who} was ejected, ${why}`,
      details: noticed === "" ? [] : [noticed],
      pids: pid === undefined ? [] : [Number(pid)],
    },
  ];
}

/** The worker (`scx_watchdog_workfn`) runs every half timeout. If it did not run for a full timeout, `scx_tick` ejects the scheduler. */
function watchdogLate({ watchdog, exit }: SchedView): Finding[] {
  const kind = "watchdog-late";
  const lateSeconds = /^watchdog failed to check in for ([\d.]{1,20})s/.exec(exit?.message ?? "")?.[1];
  if (lateSeconds !== undefined) {
    const summary = `The watchdog's worker did not run for ${lateSeconds} s, so the kernel's tick ejected the scheduler`;
    return [{ ...nothing, kind, summary }];
  }
  const { lastCheckMs, timeoutMs } = watchdog ?? {};
  if (lastCheckMs === undefined || timeoutMs === undefined || lastCheckMs < (timeoutMs * 3) / 4) return [];
  const summary = `The watchdog's worker has not run for ${secondsText(lastCheckMs)}: it should run every ${secondsText(timeoutMs / 2)}, and after ${secondsText(timeoutMs)} the kernel ejects the scheduler`;
  return [{ ...nothing, kind, summary }];
}

function watchdogNear({ watchdog, exit }: SchedView, waiting: readonly SchedTask[]): Finding[] {
  const [first] = waiting;
  if (watchdog === undefined || first === undefined || exit !== undefined) return [];
  const { timeoutMs } = watchdog;
  if (first.waitMs < timeoutMs / 2) return [];
  const left = timeoutMs - first.waitMs;
  const when =
    left > 0
      ? `The watchdog will eject the scheduler because of ${nameOf(first)} at its first check in ${secondsText(left)} or later`
      : `The watchdog will eject the scheduler because of ${nameOf(first)} at its next check`;
  const summary = `${when}: the task has waited ${secondsText(first.waitMs)} of ${secondsText(timeoutMs)}`;
  return [{ ...nothing, kind: "watchdog-near", summary, pids: [first.pid], waitMs: first.waitMs }];
}

/** Groups tasks that wait in the same place for the same CPUs. */
function waits(view: SchedView, waiting: readonly SchedTask[]): Finding[] {
  const groups = new Map<string, SchedTask[]>();
  // Equal lists of CPUs get the same number, which is in the key of a task. The text of a list can be too long for a key.
  const numbers = new Map<string, number>();
  const masks = new Map<readonly number[] | undefined, number>();
  for (const task of waiting) {
    let mask = masks.get(task.cpus);
    if (mask === undefined) {
      const text = task.cpus?.join() ?? "";
      mask = numbers.get(text) ?? numbers.size;
      numbers.set(text, mask);
      masks.set(task.cpus, mask);
    }
    const key = `${placeOf(task)} ${mask} ${isPinned(task) ? task.cpu : ""}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [task]);
    else group.push(task);
  }
  return [...groups.values()].map((group) => waitOf(view, group));
}

function waitOf(view: SchedView, group: readonly SchedTask[]): Finding {
  const [first] = group as readonly [SchedTask, ...SchedTask[]];
  const usable = isPinned(first) ? [first.cpu] : (first.cpus ?? []);
  const activities = usable.map((cpu) => activityOf(view, cpu));
  const { kind, why } = causeOf(view, first, activities, group.length > 1);
  const shortest = group.at(-1)?.waitMs ?? first.waitMs;
  const times =
    group.length === 1 || shortest === first.waitMs
      ? secondsText(first.waitMs)
      : `${secondsText(shortest)} to ${secondsText(first.waitMs)}`;
  const who =
    group.length === 1
      ? `${nameOf(first)} has waited ${times}`
      : `${countText(group.length)} tasks have waited ${times}`;
  const details = group.length === 1 ? [] : [namesOf(group)];
  if (usable.length > 0) {
    const pinned = isPinned(first) ? ", because its migration is disabled" : "";
    const subject = group.length === 1 ? "It" : "They";
    details.push(`${subject} may run on CPU ${cpuList(usable)}${pinned}. ${activityText(activities)}`);
  }
  return {
    kind,
    summary: `${who} ${placeText(first, view)}${why}`,
    details,
    pids: group.map(({ pid }) => pid),
    cpus: usable,
    dsqId: first.dsqId ?? undefined,
    waitMs: first.waitMs,
  };
}

interface Cause {
  readonly kind: FindingKind;
  /** Appended to the sentence. */
  readonly why: string;
}

function causeOf(
  view: SchedView,
  task: SchedTask,
  activities: readonly CpuActivity[],
  areMany: boolean,
): Cause {
  const [they, them] = areMany ? ["they", "them"] : ["it", "it"];
  const each =
    activities.length === 1 ? `the only CPU that ${they} may use` : `every CPU that ${they} may use`;
  if (activities.length > 0 && activities.every(({ schedClass }) => ABOVE_SCX.includes(schedClass)))
    return {
      kind: "rt-holds-cpus",
      why: `, and tasks of a higher class occupy ${each}: no sched_ext scheduler could run ${them}`,
    };
  if (activities.length > 0 && activities.every(({ forMs }) => forMs !== undefined && forMs >= LONG_MS))
    return { kind: "cpus-held", why: `, and ${each} has run one other task for the whole time` };
  const queue = view.queues.find(
    ({ id, cpu, tasks }) => id === task.dsqId && holds(tasks, task) && cpu !== -1,
  );
  if (queue?.kind === "local") {
    const spare = activities
      .filter((each) => each.cpu !== queue.cpu && isSpare(view, each))
      .map(({ cpu }) => cpu);
    if (spare.length > 0) {
      const one = spare.length === 1;
      const are = spare.every((cpu) => activities.some((each) => each.cpu === cpu && each.isIdle))
        ? one
          ? "is idle"
          : "are idle"
        : one
          ? "has an empty local queue"
          : "have empty local queues";
      const why = `, from which only that CPU takes tasks: it has ${queue.tasks.length}, while CPU ${cpuList(spare)} ${are}`;
      return { kind: "local-queue-long", why };
    }
  }
  if (queue !== undefined && isShared(queue.kind) && isStale(queue))
    return {
      kind: "queue-not-consumed",
      why: `: no CPU took a task from it for ${secondsText(youngest(queue))}`,
    };
  if (task.opsState === OPSS_QUEUED)
    return { kind: "not-dispatched", why: `, which has not dispatched ${them}` };
  const newcomers = queue?.tasks.filter(({ waitMs }) => waitMs < LONG_MS).length ?? 0;
  const added = `${countText(newcomers)} ${newcomers === 1 ? "task was" : "tasks were"} added within the last second`;
  return { kind: "long-wait", why: newcomers === 0 ? "" : `, to which ${added}` };
}

/** Compares pids, because a memory image has separate objects for a task in a queue and in the runnable list. */
const holds = (tasks: readonly SchedTask[], { pid }: SchedTask): boolean =>
  tasks.some((each) => each.pid === pid);

/** Whether the CPU's local queue has no tasks. */
function isSpare(view: SchedView, { cpu, isIdle }: CpuActivity): boolean {
  return isIdle || (cpu >= 0 && !view.queues.some((queue) => queue.kind === "local" && queue.cpu === cpu));
}

const isShared = (kind: QueueKind): boolean => kind === "user" || kind === "global";
/** Whether all tasks have waited long, so that no CPU takes tasks from the queue. */
const isStale = ({ tasks }: SchedQueue): boolean => tasks.every(({ waitMs }) => waitMs >= LONG_MS);
const youngest = ({ tasks }: SchedQueue): number => Math.min(...tasks.map(({ waitMs }) => waitMs));

/** `SCX_SLICE_INF`. */
const SLICE_INFINITE = 0xffffffffffffffffn;
/** Minimum slice that is reported. The kernel's default is 20 ms (`SCX_SLICE_DFL`). */
const LONG_SLICE_NS = 1_000_000_000n;

/**
 * Long slices are allowed (scx_central assigns only infinite ones). They are reported if tasks wait for the CPU, and for the
 * task that runs there or is in its local queue.
 */
function longSlices({ tasks, queues }: SchedView, waiting: readonly SchedTask[]): Finding[] {
  const local = new Set(
    queues.flatMap(({ kind, tasks: own }) => (kind === "local" ? own.map(({ pid }) => pid) : [])),
  );
  const waitingFor = tasksByCpu(waiting);
  return tasks.flatMap((task) => {
    const { sliceNs, cpu, isCurrent, waitMs } = task;
    if (sliceNs === undefined || sliceNs < LONG_SLICE_NS) return [];
    if (isCurrent ? waitMs < LONG_MS : !local.has(task.pid) || waitMs >= LONG_MS) return [];
    const behind = waitingFor(cpu);
    if (behind.length === 0) return [];
    const slice =
      sliceNs === SLICE_INFINITE
        ? "an infinite slice"
        : `${secondsText(Number(sliceNs / 1_000_000n))} of its slice left`;
    const has = isCurrent
      ? `and has had CPU ${cpu} for up to ${secondsText(waitMs)}`
      : `and is in CPU ${cpu}'s local queue again`;
    const count = behind.length === 1 ? "a task waits" : `${countText(behind.length)} tasks wait`;
    return [
      {
        ...nothing,
        kind: "slice-long" as const,
        summary: `${nameOf(task)} has ${slice} ${has}, while ${count} that may run there`,
        details: [namesOf(behind)],
        pids: [task.pid],
        cpus: [cpu],
        waitMs: behind[0]?.waitMs,
      },
    ];
  });
}

/** Returns a function that returns the tasks that may run on a CPU. Each CPU and each list of CPUs is searched once. */
function tasksByCpu(tasks: readonly SchedTask[]): (cpu: number) => readonly SchedTask[] {
  const found = new Map<number, readonly SchedTask[]>();
  const sets = new Map<readonly number[] | undefined, ReadonlySet<number>>();
  return (cpu) => {
    const before = found.get(cpu);
    if (before !== undefined) return before;
    const able = tasks.filter((task) => {
      if (isPinned(task)) return task.cpu === cpu;
      const usable = sets.get(task.cpus) ?? new Set(task.cpus);
      sets.set(task.cpus, usable);
      return usable.has(cpu);
    });
    found.set(cpu, able);
    return able;
  };
}

/** `SCX_OPSS_QUEUED` of kernel/sched/ext: the BPF scheduler holds the task. */
const OPSS_QUEUED = 2;

function placeOf({ dsqId, opsState, cpu }: SchedTask): string {
  if (dsqId === null || dsqId === undefined) return `ops ${opsState}`;
  const kind = queueKindOf(dsqId);
  return kind === "local" || kind === "bypass" ? `${dsqId} ${cpu}` : `${dsqId}`;
}

function placeText({ dsqId, opsState, cpu }: SchedTask, { dsqNames }: SchedView): string {
  if (dsqId === undefined) return "";
  if (dsqId === null) {
    if (opsState === OPSS_QUEUED) return "with the BPF scheduler";
    if (opsState === 1) return "in transit to the BPF scheduler";
    if (opsState === 3) return "in transit from the BPF scheduler to a queue";
    return "on no dispatch queue";
  }
  const kind = queueKindOf(dsqId);
  if (kind === "local") return `on CPU ${cpu}'s local queue`;
  if (kind === "bypass") return `on CPU ${cpu}'s bypass queue`;
  return kind === "global" ? "on the global queue" : `on queue ${queueName(dsqId, dsqNames)}`;
}

/** Formats an id as the kernel does. */
export const hexId = (id: bigint): string => `0x${id.toString(16)}`;

/** Formats an id with its name: "0xdead0 (unconsumed_dsq)". */
export function queueName(id: bigint, names: ReadonlyMap<bigint, string> | undefined): string {
  const name = names?.get(id);
  return name === undefined ? hexId(id) : `${hexId(id)} (${name})`;
}

/** `migration_disabled` keeps a task on its CPU, independently of its CPU mask. */
const isPinned = ({ migrationDisabled }: SchedTask): boolean => (migrationDisabled ?? 0) > 0;

const nameOf = ({ comm, pid }: SchedTask): string => `${comm}[${pid}]`;

function namesOf(tasks: readonly SchedTask[]): string {
  const named = tasks.slice(0, MAX_NAMED).map((task) => `${nameOf(task)} ${secondsText(task.waitMs)}`);
  const more = tasks.length - named.length;
  return `${named.join(", ")}${more > 0 ? ` and ${countText(more)} more` : ""}.`;
}

/** Formats milliseconds: "5.504 s". */
export function secondsText(ms: number): string {
  return `${(ms / 1000).toFixed(3)} s`;
}
