/**
 * A scx dump as plain data: what the kernel's `scx_dump_state()` prints (kernel/sched/ext.c; since 7.2
 * kernel/sched/ext/ext.c). A member that this release does not print, or that was cut off, is undefined.
 */

/** One scheduler's dump. A kernel with sub-schedulers prints one for each of them. */
export interface ScxDump {
  /** `ops.name` and the place in the hierarchy: "root" or "sub1-123"; the line exists since 7.1. */
  readonly opsName: string | undefined;
  readonly scheduler: string | undefined;
  /** The sub-scheduler's cgroup; undefined for the root. */
  readonly cgroupPath: string | undefined;
  readonly trigger: DumpTrigger;
  readonly cpus: readonly DumpCpu[];
  /** Event counters in the text's order, under their names. */
  readonly events: readonly DumpEvent[];
  /** Lines that the scheduler's `dump` callback added, or that nobody knows. */
  readonly unknown: readonly string[];
  /** Why the text is not all of the dump; "" where its parts are all there. */
  readonly incomplete: string;
  /** First and last line in the file, from 1. In a reversed file the first is the larger one. */
  readonly firstLine: number;
  readonly lastLine: number;
}

/** Why the kernel printed it. */
export interface DumpTrigger {
  /** `debug`: on request. `exit`: the scheduler was ejected. `unknown`: the heading is not in the text. */
  readonly kind: "debug" | "exit" | "unknown";
  /** "SysRq-D"; at an exit `scx_exit_info.reason`: "runnable task stall". */
  readonly reason: string;
  /** `scx_exit_info.msg`: "foo[12] failed to run for 30.128s". */
  readonly message: string;
  /** `enum scx_exit_kind`; undefined for a dump on request. */
  readonly exitKind: number | undefined;
  /** The task that ran when the exit was noticed. */
  readonly comm: string;
  readonly pid: number | undefined;
  /** `exit_cpu`; the line tells it since 7.2. */
  readonly cpu: number | undefined;
  /** Functions with offsets, as `%pS` prints them. */
  readonly backtrace: readonly string[];
}

export interface DumpCpu {
  readonly cpu: number;
  /** `rq->scx.nr_running`. */
  readonly nrRunning: number | undefined;
  /** `rq->scx.flags`, `SCX_RQ_*`. */
  readonly flags: number | undefined;
  readonly cpuReleased: number | undefined;
  /** Sequence numbers by the names that the release gives them: `ops_qseq`, `pnt_seq`, `ksync`. */
  readonly sequences: readonly DumpCount[];
  /** 7.3's line of `scx_rescue_dump()`, as it stands. */
  readonly rescue: string | undefined;
  readonly currComm: string;
  readonly currPid: number | undefined;
  /** "ext_sched_class"; "" where the line is missing. */
  readonly currClass: string;
  /** Masks of kicks that are pending: `cpus_to_kick`, `idle_to_kick`, `cpus_to_preempt`, ... */
  readonly kicks: readonly DumpKick[];
  /** The current task first where it is of sched_ext, then `rq->scx.runnable_list`. */
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
  /** Belongs to the scheduler whose dump this is: the kernel marks it with a star, since 7.1. undefined outside of a dump. */
  readonly isOwn: boolean | undefined;
  /** Milliseconds from `runnable_at` to the dump; negative where it lies behind the dump's time. */
  readonly waitMs: number;
  /** `SCX_TASK_*` state's number: its meaning differs between releases. */
  readonly scxState: number | undefined;
  readonly flags: number | undefined;
  readonly dsqFlags: number | undefined;
  readonly opsState: number | undefined;
  readonly qseq: bigint | undefined;
  readonly stickyCpu: number | undefined;
  readonly holdingCpu: number | undefined;
  /** `p->scx.dsq->id`; null: on no dispatch queue ("(n/a)"). */
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
