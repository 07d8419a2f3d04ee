/**
 * Names for the numbers in a textual dump. One table covers several releases: no number has two names in releases that print
 * the same line format. Sources: `enum scx_ent_flags`, `scx_task_state` (include/linux/sched/ext.h), `scx_rq_flags`
 * (kernel/sched/sched.h), `scx_ops_state` (kernel/sched/ext.c, since 7.2 kernel/sched/ext/) of 6.12 to 7.3.
 */
import type { EnumRow, ScxEnums } from "../scx-enums.ts";
import type { ScxDump } from "./dump.ts";

const flag = (name: string, bit: number): EnumRow => ({
  name,
  mask: 1n << BigInt(bit),
  value: 1n << BigInt(bit),
});

const numbered = (names: readonly string[]): EnumRow[] =>
  names.map((name, value) => ({ name, mask: BigInt(value), value: BigInt(value) }));

const ALWAYS: readonly EnumRow[] = [
  flag("QUEUED", 0),
  flag("RESET_RUNNABLE_AT", 2),
  flag("DEQD_FOR_SLEEP", 3),
  flag("CURSOR", 31),
];

/** `SCX_TASK_REENQ_REASON_MASK`: bits 12 and 13, since 7.3 also bit 14, which earlier releases do not use. */
const reason = (name: string, value: number): EnumRow => ({
  name: `REENQ_${name}`,
  mask: 7n << 12n,
  value: BigInt(value) << 12n,
});

const COMMON: Pick<ScxEnums, "dsqFlags" | "opsStates"> = {
  dsqFlags: [flag("ON_PRIQ", 0)],
  opsStates: numbered(["NONE", "QUEUEING", "QUEUED", "DISPATCHING"]),
};

/** 6.12 to 7.0: the lines of tasks do not name a scheduler. */
const OLD: Pick<ScxEnums, "taskStates" | "taskFlags"> = {
  taskStates: numbered(["NONE", "INIT", "READY", "ENABLED"]),
  taskFlags: ALWAYS,
};

/** Since 7.1. `PROTECTED` and the reason `CAP` exist since 7.3. */
const NEW: Pick<ScxEnums, "taskStates" | "taskFlags"> = {
  taskStates: numbered(["NONE", "INIT_BEGIN", "INIT", "READY", "ENABLED", "DEAD"]),
  taskFlags: [
    ...ALWAYS,
    flag("IN_CUSTODY", 1),
    flag("SUB_INIT", 4),
    flag("IMMED", 5),
    flag("PROTECTED", 6),
    reason("KFUNC", 1),
    reason("IMMED", 2),
    reason("PREEMPTED", 3),
    reason("CAP", 4),
  ].sort((a, b) => (a.value < b.value ? -1 : 1)),
};

const RQ_FLAGS: readonly EnumRow[] = [
  flag("ONLINE", 0),
  flag("CAN_STOP_TICK", 1),
  flag("BAL_PENDING", 2), // until 6.18
  flag("BAL_KEEP", 3), // until 7.1
  flag("BYPASSING", 4), // until 7.0
  flag("CLK_VALID", 5),
  flag("BAL_CB_PENDING", 6), // since 6.17
  flag("SUB_IDLE_RENOTIFY", 7), // since 7.3
  flag("ROOT_IDLE_RENOTIFY", 8), // since 7.3
  flag("IN_WAKEUP", 16),
];

/** Returns the names for a dump. The release is inferred from the format of its lines. */
export function enumsOfDump({ cpus }: ScxDump): ScxEnums {
  const hasSchedulers = cpus.some(({ tasks }) => tasks.some(({ scheduler }) => scheduler !== undefined));
  // 7.3 prints a rescue line for every CPU.
  const hasRescue = cpus.some(({ rescue }) => rescue !== undefined);
  return {
    ...COMMON,
    ...(hasSchedulers ? NEW : OLD),
    rqFlags: [...RQ_FLAGS, flag(hasRescue ? "IN_DISPATCH" : "IN_BALANCE", 17)],
  };
}
