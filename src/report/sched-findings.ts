/** What a person should look at first: why tasks wait, and what the kernel did about it. */

import { cpuList } from "./cpu-list.ts";
import { type CpuDoing, doingOf, doingText } from "./sched-cpus.ts";
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
  /** One sentence. Names in it are not escaped yet. */
  readonly summary: string;
  /** More sentences: which tasks, what the CPUs did. */
  readonly details: readonly string[];
  readonly pids: readonly number[];
  /** The CPUs that the sentence is about. */
  readonly cpus: readonly number[];
  readonly dsqId: bigint | undefined;
  /** The longest wait that the finding is about. */
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

/** A wait from here on is worth a sentence: ten times what a busy guest under emulation shows. */
const LONG_MS = 1000;
/** Tasks that are named in one finding. */
const NAMED = 8;

/** The kernel's classes that run before sched_ext's (kernel/sched/sched.h, `for_each_class`). */
const ABOVE_SCX: readonly string[] = ["stop_sched_class", "dl_sched_class", "rt_sched_class"];

/** Findings of one scheduler, the most telling first. */
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

/** `SCX_EXIT_ERROR`: from here on the kernel threw it out. */
const EXIT_ERROR = 1024;

function ejected({ exit, opsName }: SchedView): Finding[] {
  if (exit === undefined || (exit.kind !== undefined && exit.kind < EXIT_ERROR)) return [];
  const who = opsName === undefined ? "The scheduler" : `Scheduler ${opsName}`;
  const why = exit.message === "" ? exit.reason : `${exit.reason}: ${exit.message}`;
  const cpu = exit.cpu === undefined || exit.cpu < 0 ? "" : ` on CPU ${exit.cpu}`;
  const noticed = exit.pid === undefined ? "" : `It was noticed while ${exit.comm}[${exit.pid}] ran${cpu}.`;
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

/** The worker looks every half of the timeout (`scx_watchdog_workfn`); `scx_tick` ejects where it did not for all of it. */
function watchdogLate({ watchdog, exit }: SchedView): Finding[] {
  const kind = "watchdog-late";
  const said = /^watchdog failed to check in for ([\d.]{1,20})s/.exec(exit?.message ?? "")?.[1];
  if (said !== undefined) {
    const summary = `The watchdog's own worker could not run for ${said} s, so the kernel's tick ejected the scheduler`;
    return [{ ...nothing, kind, summary }];
  }
  const { lastCheckMs, timeoutMs } = watchdog ?? {};
  if (lastCheckMs === undefined || timeoutMs === undefined || lastCheckMs < (timeoutMs * 3) / 4) return [];
  const summary = `The watchdog's own worker has not run for ${secondsText(lastCheckMs)}; it should every ${secondsText(timeoutMs / 2)}, and at ${secondsText(timeoutMs)} the scheduler is ejected`;
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
      ? `The watchdog will eject the scheduler over ${nameOf(first)} at its first look in ${secondsText(left)} or later`
      : `The watchdog will eject the scheduler over ${nameOf(first)} at its next look`;
  const summary = `${when}: the task has waited ${secondsText(first.waitMs)} of ${secondsText(timeoutMs)}`;
  return [{ ...nothing, kind: "watchdog-near", summary, pids: [first.pid], waitMs: first.waitMs }];
}

/** Tasks that wait alike: in one place, for the same CPUs. */
function waits(view: SchedView, waiting: readonly SchedTask[]): Finding[] {
  const groups = new Map<string, SchedTask[]>();
  const masks = new Map<readonly number[] | undefined, string>();
  for (const task of waiting) {
    const mask = masks.get(task.cpus) ?? task.cpus?.join() ?? "";
    masks.set(task.cpus, mask);
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
  const doing = usable.map((cpu) => doingOf(view, cpu));
  const { kind, why } = causeOf(view, first, doing, group.length > 1);
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
    const pinned = isPinned(first) ? ", as its migration is disabled" : "";
    const subject = group.length === 1 ? "It" : "They";
    details.push(`${subject} may run on CPU ${cpuList(usable)}${pinned}. ${doingText(doing)}`);
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

function causeOf(view: SchedView, task: SchedTask, doing: readonly CpuDoing[], areMany: boolean): Cause {
  const [they, them] = areMany ? ["they", "them"] : ["it", "it"];
  const each = doing.length === 1 ? `the only CPU that ${they} may use` : `every CPU that ${they} may use`;
  if (doing.length > 0 && doing.every(({ schedClass }) => ABOVE_SCX.includes(schedClass)))
    return {
      kind: "rt-holds-cpus",
      why: `, and tasks of a higher class hold ${each}: no scheduler could run ${them}`,
    };
  if (doing.length > 0 && doing.every(({ forMs }) => forMs !== undefined && forMs >= LONG_MS))
    return { kind: "cpus-held", why: `, and ${each} has run one task all the while` };
  const queue = view.queues.find(
    ({ id, cpu, tasks }) => id === task.dsqId && holds(tasks, task) && cpu !== -1,
  );
  if (queue?.kind === "local") {
    const spare = doing.filter((each) => each.cpu !== queue.cpu && isSpare(view, each)).map(({ cpu }) => cpu);
    if (spare.length > 0) {
      const one = spare.length === 1;
      const are = spare.every((cpu) => doing.some((each) => each.cpu === cpu && each.isIdle))
        ? one
          ? "is idle"
          : "are idle"
        : one
          ? "has none in its own"
          : "have none in their own";
      const why = `, which only that CPU takes tasks from: ${queue.tasks.length} in it, while CPU ${cpuList(spare)} ${are}`;
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
  return { kind: "long-wait", why: "" };
}

/** By pid: of memory, a queue and the runnable list have objects of their own for one task. */
const holds = (tasks: readonly SchedTask[], { pid }: SchedTask): boolean =>
  tasks.some((each) => each.pid === pid);

/** A CPU that has no task of sched_ext in its own queue. */
function isSpare(view: SchedView, { cpu, isIdle }: CpuDoing): boolean {
  return isIdle || (cpu >= 0 && !view.queues.some((queue) => queue.kind === "local" && queue.cpu === cpu));
}

const isShared = (kind: QueueKind): boolean => kind === "user" || kind === "global";
/** A queue that a CPU takes from has young tasks, or none. */
const isStale = ({ tasks }: SchedQueue): boolean => tasks.every(({ waitMs }) => waitMs >= LONG_MS);
const youngest = ({ tasks }: SchedQueue): number => Math.min(...tasks.map(({ waitMs }) => waitMs));

/** `SCX_SLICE_INF`. */
const SLICE_INFINITE = 0xffffffffffffffffn;
/** The kernel's own slice is 20 ms (`SCX_SLICE_DFL`). */
const LONG_SLICE_NS = 1_000_000_000n;

/**
 * A long slice is a scheduler's right (scx_central gives nothing but infinite ones); it is told where tasks wait for
 * the CPU: of the task that runs there, or stands in its local queue.
 */
function longSlices({ tasks, queues }: SchedView, waiting: readonly SchedTask[]): Finding[] {
  return tasks.flatMap((task) => {
    const { sliceNs, cpu, isCurrent, waitMs } = task;
    if (sliceNs === undefined || sliceNs < LONG_SLICE_NS) return [];
    const isLocal = queues.some((queue) => queue.kind === "local" && holds(queue.tasks, task));
    if (isCurrent ? waitMs < LONG_MS : !isLocal || waitMs >= LONG_MS) return [];
    const behind = waiting.filter((each) => (isPinned(each) ? each.cpu === cpu : each.cpus?.includes(cpu)));
    if (behind.length === 0) return [];
    const slice =
      sliceNs === SLICE_INFINITE
        ? "an infinite slice"
        : `${secondsText(Number(sliceNs / 1_000_000n))} of its slice left`;
    const has = isCurrent
      ? `and has had CPU ${cpu} for up to ${secondsText(waitMs)}`
      : `and stands in CPU ${cpu}'s local queue again`;
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

/** `SCX_OPSS_*` of kernel/sched/ext: who has the task. */
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
    if (opsState === 1) return "on its way to the BPF scheduler";
    if (opsState === 3) return "on its way from the BPF scheduler to a queue";
    return "on no dispatch queue";
  }
  const kind = queueKindOf(dsqId);
  if (kind === "local") return `on CPU ${cpu}'s local queue`;
  if (kind === "bypass") return `on CPU ${cpu}'s bypass queue`;
  return kind === "global" ? "on the global queue" : `on queue ${queueName(dsqId, dsqNames)}`;
}

/** As the kernel prints it. */
export const hexId = (id: bigint): string => `0x${id.toString(16)}`;

/** "0xdead0 (unconsumed_dsq)". */
export function queueName(id: bigint, names: ReadonlyMap<bigint, string> | undefined): string {
  const name = names?.get(id);
  return name === undefined ? hexId(id) : `${hexId(id)} (${name})`;
}

/** `migration_disabled` keeps a task on its CPU, whatever its mask says. */
const isPinned = ({ migrationDisabled }: SchedTask): boolean => (migrationDisabled ?? 0) > 0;

const nameOf = ({ comm, pid }: SchedTask): string => `${comm}[${pid}]`;

function namesOf(tasks: readonly SchedTask[]): string {
  const named = tasks.slice(0, NAMED).map((task) => `${nameOf(task)} ${secondsText(task.waitMs)}`);
  const more = tasks.length - named.length;
  return `${named.join(", ")}${more > 0 ? ` and ${countText(more)} more` : ""}.`;
}

/** "5.504 s". */
export function secondsText(ms: number): string {
  return `${(ms / 1000).toFixed(3)} s`;
}
