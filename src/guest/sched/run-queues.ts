/** Reads every CPU's run queue and every dispatch queue, and skips the parts that cannot be read. */
import { KtstrError } from "../../errors.ts";
import type { CpuState, QueueState, TaskState } from "../../sched-state.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import type { Pointer } from "../memory/pointer.ts";
import { oldQueues, schedulerQueues } from "./dsqs.ts";
import { readRunQueue, type TraceOf } from "./rqs.ts";
import type { ScxTasks } from "./scx-task.ts";

/** Receives the `KtstrError` of each part that could not be read. */
export type OnFault = (error: unknown) => void;

/** Calls `read`, and returns `otherwise` if it throws a `KtstrError`. */
export type Attempt = <T>(read: () => T, otherwise: T) => T;

/** Returns an `Attempt` that passes each `KtstrError` to `onFault`. Other errors are thrown. */
export function attemptWith(onFault: OnFault): Attempt {
  return (read, otherwise) => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
      onFault(error);
      return otherwise;
    }
  };
}

/** The tasks are not ordered. */
export interface RunQueues {
  readonly cpus: readonly CpuState[];
  readonly queues: readonly QueueState[];
  readonly tasks: readonly TaskState[];
}

/** `schedulers` are pointers to `struct scx_sched` (since 6.16). Older kernels have their queues in globals. */
export function readRunQueues(
  kernel: GuestKernel,
  schedulers: readonly Pointer[],
  reader: ScxTasks,
  onFault: OnFault,
  traceOf?: TraceOf,
): RunQueues {
  const attempt = attemptWith(onFault);
  const cpus: CpuState[] = [];
  const queues: QueueState[] = [];
  const tasks: TaskState[] = [];
  for (const area of kernel.cpus.areas) {
    const one = attempt(() => readRunQueue(kernel, area, reader, onFault, traceOf), undefined);
    if (one === undefined) continue;
    cpus.push(one.cpu);
    queues.push(...one.queues);
    tasks.push(...one.tasks);
  }
  const sources = schedulers.map((at) => schedulerQueues(kernel, at, reader, onFault));
  if (kernel.symbols.address("scx_root") === undefined) sources.push(oldQueues(kernel, reader, onFault));
  for (const source of sources)
    attempt(() => {
      for (const queue of source) queues.push(queue);
    }, undefined);
  return { cpus, queues, tasks };
}
