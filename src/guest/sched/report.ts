/** Reads the sched_ext report of a frozen machine: state, schedulers, CPUs, queues and waiting tasks. */
import { optional, struct, u64 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { SchedCounts, SchedReport, TaskState, WatchdogState } from "../../sched-state.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import type { AddressNames } from "../kernel/names-at.ts";
import { isNull, type Pointer } from "../memory/pointer.ts";
import { cpuTrace, schedTraces } from "../task/trace.ts";
import { ejectedSchedulers } from "./ejected.ts";
import { readIdleCpus } from "./idle.ts";
import { type Jiffies, readJiffies } from "./jiffies.ts";
import { withTimes } from "./log.ts";
import { ScxNames } from "./names.ts";
import { attemptWith, readRunQueues } from "./run-queues.ts";
import { readSchedExtState, requireSchedExt } from "./sched-ext.ts";
import { readOldScheduler, readScheduler, schedulersOf } from "./scx-sched.ts";
import { ScxTasks } from "./scx-task.ts";
import { isKeyOn } from "./static-key.ts";

const SCHED = struct("scx_sched", { watchdog_timeout: optional(u64, "since 7.1") });

/** Limit on entries of `missing`. Equal messages are listed once. */
const MAX_MISSING = 16;
/** The number of tasks that `ktstr sched` prints without `--limit`. */
const MAX_STACKS = 32;

/**
 * Reads `scx_root` or the globals of older kernels, every CPU's `struct rq`, and the queues. Parts that cannot be read are
 * left out and listed in `missing`. Throws `KtstrError` if this kernel has no sched_ext or no jiffies.
 */
export function readSchedReport(kernel: GuestKernel, names: AddressNames): SchedReport {
  const nameAt = (at: Pointer): string => names.text(at);
  const missing: string[] = [];
  const onFault = (error: unknown): void => {
    const message = error instanceof Error ? error.message : String(error);
    if (!(error instanceof KtstrError) && error instanceof TypeError) throw error;
    if (missing.length < MAX_MISSING && !missing.includes(message)) missing.push(message);
  };
  const attempt = attemptWith(onFault);
  requireSchedExt(kernel);
  const jiffies = readJiffies(kernel);
  const reader = new ScxTasks(kernel, jiffies);
  const schedulers = attempt(() => schedulersOf(kernel, onFault), []);
  const read = schedulers.flatMap((at) => attempt(() => [readScheduler(kernel, at, nameAt, true)], []));
  const old = attempt(() => readOldScheduler(kernel, nameAt), undefined);
  if (old !== undefined) read.push(old);
  const isLoaded = read.length > 0;
  if (!isLoaded)
    for (const { at, mapId } of attempt(() => ejectedSchedulers(kernel), []))
      read.push(...attempt(() => [{ ...readScheduler(kernel, at, nameAt, false), mapId }], []));
  const {
    cpus,
    queues,
    tasks: unsorted,
  } = readRunQueues(kernel, schedulers, reader, onFault, (area, current) =>
    attempt(() => cpuTrace(kernel, names, area, current), undefined),
  );
  const tasks = unsorted.toSorted((a, b) => b.waitMs - a.waitMs || a.pid - b.pid);
  const watchdog = isLoaded
    ? attempt(() => readWatchdog(kernel, schedulers[0], jiffies, tasks), undefined)
    : undefined;
  return {
    state: readSchedExtState(kernel).state,
    isSwitchedAll: attempt(() => isKeyOn(kernel, "__scx_switched_all"), undefined),
    counts: attempt(() => readCounts(kernel), {
      nrRejected: undefined,
      hotplugSeq: undefined,
      enableSeq: undefined,
    }),
    schedulers: attempt(() => withTimes(kernel, read), read),
    watchdog,
    enums: ScxNames.of(kernel.btf).enums,
    idleCpus: attempt(() => readIdleCpus(kernel), undefined),
    cpus,
    queues,
    tasks: attempt(() => withStacks(tasks, reader, schedTraces(kernel, names)), tasks),
    missing,
  };
}

/** Adds the stacks of the first tasks, which are ordered by wait time. */
function withStacks(
  tasks: readonly TaskState[],
  reader: ScxTasks,
  traceOf: (task: Pointer) => readonly string[],
): TaskState[] {
  return tasks.map((task, index) => (index < MAX_STACKS ? reader.withStack(task, traceOf) : task));
}

/** Reads three counters, each an `atomic_long_t`. */
function readCounts({ memory, symbols }: GuestKernel): SchedCounts {
  const count = (name: string): bigint | undefined => {
    const at = symbols.address(name);
    return at === undefined ? undefined : memory.u64(at.hi, at.lo, 0, name);
  };
  return {
    nrRejected: count("scx_nr_rejected"),
    hotplugSeq: count("scx_hotplug_seq"),
    enableSeq: count("scx_enable_seq"),
  };
}

/** Reads `scx_watchdog_timestamp` and the timeout: `scx_watchdog_timeout`, or the root scheduler's own. */
function readWatchdog(
  { memory, btf, symbols }: GuestKernel,
  root: Pointer | undefined,
  jiffies: Jiffies,
  tasks: readonly TaskState[],
): WatchdogState | undefined {
  const stamp = symbols.address("scx_watchdog_timestamp");
  const global = symbols.address("scx_watchdog_timeout");
  if (stamp === undefined) return undefined;
  const own = SCHED.resolveIfPresent(btf)?.watchdog_timeout;
  let timeout: bigint;
  if (root !== undefined && !isNull(root) && own !== undefined)
    timeout = memory.u64(root.hi, root.lo, own, "scx_sched.watchdog_timeout");
  else if (global !== undefined) timeout = memory.u64(global.hi, global.lo, 0, "scx_watchdog_timeout");
  else return undefined;
  const timeoutMs = jiffies.toMs(timeout);
  // `check_rq_for_timeouts()` checks every task on the runnable lists.
  const first = tasks.find(({ isCurrent }) => !isCurrent);
  return {
    timeoutMs,
    lastCheckMs: jiffies.sinceMs(memory.u64(stamp.hi, stamp.lo, 0, "scx_watchdog_timestamp")),
    next:
      first === undefined ? undefined : { pid: first.pid, comm: first.comm, inMs: timeoutMs - first.waitMs },
  };
}
