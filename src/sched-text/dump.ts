/**
 * A scx dump as plain data: the output of the kernel's `scx_dump_state()` (kernel/sched/ext.c; since 7.2
 * kernel/sched/ext/ext.c). A member is undefined if the release does not print it or its line is missing.
 */

/** The dump of one scheduler. A kernel with sub-schedulers prints one dump for each. */
export interface ScxDump {
  /** `ops.name`. The line with the name and the scheduler exists since 7.1. */
  readonly opsName: string | undefined;
  /** Position in the hierarchy: "root" or "sub1-123". */
  readonly scheduler: string | undefined;
  /** The cgroup of a sub-scheduler; undefined for the root. */
  readonly cgroupPath: string | undefined;
  readonly trigger: DumpTrigger;
  readonly cpus: readonly DumpCpu[];
  /** Event counters in the order of the text. */
  readonly events: readonly DumpEvent[];
  /** Lines from the scheduler's `dump` callbacks, and lines that are not recognized. */
  readonly unknown: readonly string[];
  /** Why the dump is incomplete; "" if it is complete. */
  readonly incomplete: string;
  /** First and last line in the file, from 1. In a reversed file, `firstLine` is larger. */
  readonly firstLine: number;
  readonly lastLine: number;
}

/** Why the kernel printed the dump. */
export interface DumpTrigger {
  /** `debug`: on request. `exit`: the scheduler was ejected. `unknown`: the heading is missing. */
  readonly kind: "debug" | "exit" | "unknown";
  /** "SysRq-D"; for an exit, `scx_exit_info.reason`: "runnable task stall". */
  readonly reason: string;
  /** `scx_exit_info.msg`: "foo[12] failed to run for 30.128s". */
  readonly message: string;
  /** `enum scx_exit_kind`; undefined for a dump on request. */
  readonly exitKind: number | undefined;
  /** The task that was current when the exit was triggered. */
  readonly comm: string;
  readonly pid: number | undefined;
  /** `exit_cpu`; printed since 7.2. */
  readonly cpu: number | undefined;
  /** Functions with offsets in the format of `%pS`. */
  readonly backtrace: readonly string[];
}

export interface DumpCpu {
  readonly cpu: number;
  /** `rq->scx.nr_running`. */
  readonly nrRunning: number | undefined;
  /** `rq->scx.flags`, `SCX_RQ_*`. */
  readonly flags: number | undefined;
  readonly cpuReleased: number | undefined;
  /** Sequence numbers with the release's names: `ops_qseq`, `pnt_seq`, `ksync`. */
  readonly sequences: readonly DumpCount[];
  /** The line of `scx_rescue_dump()` since 7.3, verbatim. */
  readonly rescue: string | undefined;
  readonly currComm: string;
  readonly currPid: number | undefined;
  /** "ext_sched_class"; "" if the line is missing. */
  readonly currClass: string;
  /** Masks of pending kicks: `cpus_to_kick`, `idle_to_kick`, `cpus_to_preempt`, ... */
  readonly kicks: readonly DumpKick[];
  /** The current task if it is in sched_ext, then `rq->scx.runnable_list`. */
  readonly tasks: readonly DumpTask[];
  readonly unknown: readonly string[];
}

export interface DumpCount {
  readonly name: string;
  readonly value: bigint;
}

export interface DumpEvent {
  readonly name: string;
  readonly count: bigint;
}

export interface DumpKick {
  readonly name: string;
  readonly cpus: readonly number[];
}

export interface DumpTask {
  readonly isCurrent: boolean;
  /** `task_state_to_char()`: "R", "S", "D", ... */
  readonly state: string;
  readonly comm: string;
  readonly pid: number;
  /** "root" or "sub1-123"; since 7.1. */
  readonly scheduler: string | undefined;
  /** The task belongs to the scheduler of this dump (a star in the text, since 7.1). undefined before 7.1. */
  readonly isOwn: boolean | undefined;
  /** Milliseconds from `runnable_at` to the dump; negative if `runnable_at` is later than the dump. */
  readonly waitMs: number;
  /** Number of the `SCX_TASK_*` state. Its meaning differs between releases. */
  readonly scxState: number | undefined;
  readonly flags: number | undefined;
  readonly dsqFlags: number | undefined;
  readonly opsState: number | undefined;
  readonly qseq: bigint | undefined;
  readonly stickyCpu: number | undefined;
  readonly holdingCpu: number | undefined;
  /** `p->scx.dsq->id`; null if the task is on no dispatch queue ("(n/a)"). */
  readonly dsqId: bigint | null | undefined;
  readonly vtime: bigint | undefined;
  readonly sliceNs: bigint | undefined;
  readonly weight: number | undefined;
  /** `p->cpus_ptr`. */
  readonly cpus: readonly number[] | undefined;
  readonly migrationDisabled: number | undefined;
  readonly stack: readonly string[];
  readonly unknown: readonly string[];
}
