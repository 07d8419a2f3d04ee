/** Describes the tasks that CPUs run, for findings. */
import type { SchedCpu, SchedTask, SchedView } from "./sched-view.ts";

export interface CpuActivity {
  readonly cpu: number;
  readonly isIdle: boolean;
  /** Name and pid of the task; "" if not known. */
  readonly task: string;
  /** "ext_sched_class"; "" if not known. */
  readonly schedClass: string;
  /** Time for which the task has run. undefined: not known. */
  readonly forMs: number | undefined;
  /** false: `forMs` is an upper bound, the time since the task became runnable. */
  readonly isForExact: boolean;
}

export function activityOf(view: SchedView, cpu: number): CpuActivity {
  let byCpu = known.get(view);
  if (byCpu === undefined) {
    const currents = view.tasks.filter(({ isCurrent }) => isCurrent);
    byCpu = new Map(view.cpus.map((each) => [each.cpu, activityOn(each, currents)]));
    known.set(view, byCpu);
  }
  return byCpu.get(cpu) ?? { ...unknown, cpu, isIdle: view.othersIdle };
}

/** Cached, because many findings use the same CPUs. */
const known: WeakMap<SchedView, Map<number, CpuActivity>> = new WeakMap();
const unknown = { task: "", schedClass: "", forMs: undefined, isForExact: false };

/** Returns the milliseconds since the CPU's task was switched in, until the last update of the run queue's clock. undefined: not known. */
export function runningMs({ currSinceNs, clockNs }: SchedCpu): number | undefined {
  if (currSinceNs === undefined || clockNs === undefined) return undefined;
  return Math.max(0, Number(clockNs - currSinceNs) / 1e6);
}

function activityOn(each: SchedCpu, currents: readonly SchedTask[]): CpuActivity {
  const { cpu, currComm, currPid, currClass } = each;
  const ranMs = runningMs(each);
  if (currPid === undefined) return { ...unknown, cpu, isIdle: false };
  const current = currents.find((task) => task.cpu === cpu && task.pid === currPid);
  return {
    cpu,
    isIdle: currClass === "idle_sched_class",
    task: `${currComm}[${currPid}]`,
    schedClass: currClass,
    forMs: ranMs ?? current?.waitMs,
    isForExact: ranMs !== undefined,
  };
}

/** Limit on CPUs described one by one. */
const MAX_NAMED = 8;

export function activityText(activities: readonly CpuActivity[]): string {
  const idle = activities.filter(({ isIdle }) => isIdle).map(({ cpu }) => cpu);
  const busy = activities.filter(({ isIdle }) => !isIdle);
  const sentences = busy.slice(0, MAX_NAMED).map(({ cpu, task, schedClass, forMs, isForExact }) => {
    if (task === "") return `the current task of CPU ${cpu} is not known`;
    const time =
      forMs === undefined
        ? ""
        : `, for ${isForExact ? "" : "at most "}${(Math.max(0, forMs) / 1000).toFixed(3)} s`;
    return `CPU ${cpu} runs ${task} (${schedClass.replace(/_sched_class$/, "")})${time}`;
  });
  if (busy.length > MAX_NAMED) sentences.push(`${busy.length - MAX_NAMED} more CPUs are busy`);
  if (idle.length > 0)
    sentences.push(
      `${idle.length === 1 ? "CPU" : "CPUs"} ${idle.slice(0, 16).join(", ")}${idle.length > 16 ? ", ..." : ""} ${idle.length === 1 ? "is" : "are"} idle`,
    );
  const text = sentences.join("; ");
  return text === "" ? "" : `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
