/** Reads the sched_ext part of a round: the parts of a `SchedReport` that change all the time, without stacks. */
import type { QueueLength, RoundSched, TaskWait } from "../../round.ts";
import type { QueueState, TaskState } from "../../sched-state.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import type { AddressNames } from "../kernel/names-at.ts";
import { readJiffies } from "./jiffies.ts";
import { attemptWith, readRunQueues } from "./run-queues.ts";
import { enableStateAt, readSchedExtState } from "./sched-ext.ts";
import { readOldScheduler, readScheduler, schedulersOf } from "./scx-sched.ts";
import { ScxTasks } from "./scx-task.ts";

const MAX_QUEUES = 1000;
const MAX_WAITS = 20;

/** Undefined if this kernel has no sched_ext. Faults are passed to `onFault`. */
export function readSchedRound(
  kernel: GuestKernel,
  names: AddressNames,
  onFault: (error: unknown) => void,
): RoundSched | undefined {
  if (enableStateAt(kernel) === undefined) return undefined;
  const attempt = attemptWith(onFault);
  const { state } = readSchedExtState(kernel);
  const nothing = {
    state,
    ops: "",
    enableSeq: attempt(() => enableSeq(kernel), undefined),
    events: [],
    queues: [],
    waits: [],
  };
  // If no scheduler is loaded, sched_ext has no tasks.
  if (state === "disabled" || state === "") return nothing;
  const tasks = attempt(() => new ScxTasks(kernel, readJiffies(kernel)), undefined);
  const nameAt = (at: Parameters<AddressNames["text"]>[0]): string => names.text(at);
  const schedulers = attempt(() => schedulersOf(kernel, onFault), []);
  const [first] = schedulers;
  const root =
    first === undefined
      ? attempt(() => readOldScheduler(kernel, nameAt), undefined)
      : attempt(() => readScheduler(kernel, first, nameAt, true), undefined);
  const base = {
    ...nothing,
    ops: root?.opsName ?? "",
    events: root?.events.map(({ name, count }) => ({ name, count: BigInt(count) })) ?? [],
  };
  if (tasks === undefined) return { ...base, queues: undefined, waits: undefined };
  const { queues, tasks: runnable } = readRunQueues(kernel, schedulers, tasks, onFault);
  return {
    ...base,
    queues: queues
      .filter(({ length }) => length > 0)
      .slice(0, MAX_QUEUES)
      .map(lengthOf),
    waits: runnable
      .filter(({ isCurrent }) => !isCurrent)
      .sort((a, b) => b.waitMs - a.waitMs || a.pid - b.pid)
      .slice(0, MAX_WAITS)
      .map(waitOf),
  };
}

const waitOf = ({ pid, comm, cpu, waitMs }: TaskState): TaskWait => ({ pid, comm, cpu, waitMs });

function lengthOf({ id, kind, cpu, node, length }: QueueState): QueueLength {
  const where = cpu === undefined ? (node === undefined ? "" : ` of node ${node}`) : ` of CPU ${cpu}`;
  return { name: kind === "user" ? `0x${id.toString(16)}` : `${kind}${where}`, length };
}

/** `scx_enable_seq`, an `atomic_long_t`; undefined if this kernel has none. */
function enableSeq({ memory, symbols }: GuestKernel): bigint | undefined {
  const at = symbols.address("scx_enable_seq");
  if (at === undefined) return undefined;
  const found = memory.locate(at.hi, at.lo, 0, 8);
  return found < 0 ? undefined : memory.view.getBigUint64(found, true);
}
