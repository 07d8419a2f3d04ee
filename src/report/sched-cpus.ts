/** What a CPU did, in words. */
import type { SchedCpu, SchedTask, SchedView } from "./sched-view.ts";

export interface CpuDoing {
  readonly cpu: number;
  readonly isIdle: boolean;
  /** The task's name and pid; "" where not known. */
  readonly task: string;
  /** "ext_sched_class"; "" where not known. */
  readonly schedClass: string;
  /** At most so long: since the current task last became runnable. undefined: not known. */
  readonly forMs: number | undefined;
}

export function doingOf(view: SchedView, cpu: number): CpuDoing {
  let byCpu = known.get(view);
  if (byCpu === undefined) {
    const currents = view.tasks.filter(({ isCurrent }) => isCurrent);
    byCpu = new Map(view.cpus.map((each) => [each.cpu, doingOn(each, currents)]));
    known.set(view, byCpu);
  }
  return byCpu.get(cpu) ?? { ...unknown, cpu, isIdle: view.othersIdle };
}

/** Many findings ask for the same CPUs. */
const known: WeakMap<SchedView, Map<number, CpuDoing>> = new WeakMap();
const unknown = { task: "", schedClass: "", forMs: undefined };

function doingOn({ cpu, currComm, currPid, currClass }: SchedCpu, currents: readonly SchedTask[]): CpuDoing {
  if (currPid === undefined) return { ...unknown, cpu, isIdle: false };
  const current = currents.find((task) => task.cpu === cpu && task.pid === currPid);
  return {
    cpu,
    isIdle: currClass === "idle_sched_class",
    task: `${currComm}[${currPid}]`,
    schedClass: currClass,
    forMs: current?.waitMs,
  };
}

/** CPUs that are named one by one. */
const NAMED = 8;

export function doingText(doing: readonly CpuDoing[]): string {
  const idle = doing.filter(({ isIdle }) => isIdle).map(({ cpu }) => cpu);
  const busy = doing.filter(({ isIdle }) => !isIdle);
  const sentences = busy.slice(0, NAMED).map(({ cpu, task, schedClass, forMs }) => {
    if (task === "") return `what CPU ${cpu} did is not known`;
    const time = forMs === undefined ? "" : `, for at most ${(Math.max(0, forMs) / 1000).toFixed(3)} s`;
    return `CPU ${cpu} runs ${task} (${schedClass.replace(/_sched_class$/, "")})${time}`;
  });
  if (busy.length > NAMED) sentences.push(`${busy.length - NAMED} more CPUs are busy`);
  if (idle.length > 0)
    sentences.push(
      `${idle.length === 1 ? "CPU" : "CPUs"} ${idle.slice(0, 16).join(", ")}${idle.length > 16 ? ", ..." : ""} ${idle.length === 1 ? "is" : "are"} idle`,
    );
  const text = sentences.join("; ");
  return text === "" ? "" : `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
