/**
 * What a kernel's memory tells about sched_ext: plain data, filled by the walkers of a data path. A dump's text knows
 * less of the same (src/sched-text/dump.ts). A member that this release does not have is undefined. Times are
 * milliseconds of the kernel's own clock for them, jiffies, up to the last tick before the freeze.
 */

import type { DumpCpu, DumpEvent, DumpTask, ScxDump } from "./sched-text/dump.ts";
import type { ScxEnums } from "./scx-enums.ts";

/** sched_ext of one machine. */
export interface SchedReport {
  /** `scx_enable_state_var` (before 6.16 `scx_ops_enable_state_var`): "enabled". */
  readonly state: string;
  /** `__scx_switched_all`: every task of the fair class is on sched_ext; undefined where not known. */
  readonly isSwitchedAll: boolean | undefined;
  readonly counts: SchedCounts;
  /**
   * `scx_root` first, then its sub-schedulers; before 6.16 the one of `scx_ops`. Where none is loaded, those that were
   * thrown out and whose loader still holds the link, or the last one of the kernel's log.
   */
  readonly schedulers: readonly SchedulerState[];
  readonly watchdog: WatchdogState | undefined;
  /** The kernel's own names of the numbers below. */
  readonly enums: ScxEnums;
  /** CPUs that the kernel offers the scheduler as idle; undefined where the scheduler tracks them itself. */
  readonly idleCpus: readonly number[] | undefined;
  readonly cpus: readonly CpuState[];
  /** Of all schedulers; empty ones, too. */
  readonly queues: readonly QueueState[];
  /** Runnable on sched_ext; the one that waited longest stands first. */
  readonly tasks: readonly TaskState[];
  /** What could not be read, as sentences. */
  readonly missing: readonly string[];
}

/** The kernel's counters; undefined where this release has none of the name. */
export interface SchedCounts {
  /** `scx_nr_rejected`: tasks that asked for SCHED_EXT and were refused by the scheduler that is loaded. */
  readonly nrRejected: bigint | undefined;
  /** `scx_hotplug_seq`: how often a CPU came or went. */
  readonly hotplugSeq: bigint | undefined;
  /** `scx_enable_seq`: schedulers that were enabled since the boot. */
  readonly enableSeq: bigint | undefined;
}

/** As much as /sys/kernel/sched_ext tells. */
export interface SysfsSched extends Pick<SchedReport, "state" | "isSwitchedAll" | "counts"> {
  /** The root's first; none where none is loaded. */
  readonly schedulers: readonly SysfsScheduler[];
}

export interface SysfsScheduler extends Pick<SchedulerState, "opsName" | "events"> {
  /** "root", or "sub1-123" by the cgroup's id. */
  readonly place: string;
}

/** A source that tells of sched_ext: a machine's memory. */
export interface SchedAccessor {
  /** Throws `KtstrError` where this kernel has no sched_ext, or where a capture does not have it. */
  scheduler(): SchedReport;
}

/** What SysRq-D would print at this moment. */
export interface SchedulerDumps {
  /** One a loaded scheduler, the root's first. */
  readonly dumps: readonly ScxDump[];
  /** `nr_cpu_ids`: how long the dump's masks are. */
  readonly cpuCount: number;
  /** The schedulers' own callbacks (`dump`, `dump_cpu`, `dump_task`), whose lines are not here: nothing is run. */
  readonly callbacks: readonly string[];
  /** What could not be read, as sentences. */
  readonly missing: readonly string[];
}

/** `struct scx_sched`, before 6.16 the globals that it was made of. */
export interface SchedulerState {
  /** `ops.name`. */
  readonly opsName: string;
  /** False: it was unregistered or thrown out. */
  readonly isLoaded: boolean;
  /** Since the kernel's log says that it was enabled and disabled; undefined where the log has no such line (any more). */
  readonly enabledMs: number | undefined;
  readonly disabledMs: number | undefined;
  /** 0: the root scheduler. */
  readonly level: number;
  /** "root", or "sub1-123" by level and cgroup id, as the kernel's dump names a scheduler's place. */
  readonly place: string;
  /** The place of the scheduler that it belongs to; undefined: it is the root. */
  readonly parent: string | undefined;
  /** `cgrp_path` of a sub-scheduler. */
  readonly cgroupPath: string | undefined;
  /** `ops.sub_cgroup_id`. */
  readonly cgroupId: bigint | undefined;
  /** `ops.flags`, and the names of its bits ("SCX_OPS_SWITCH_PARTIAL"). undefined: only the log tells of it. */
  readonly flags: bigint | undefined;
  readonly flagNames: readonly string[];
  readonly bypassDepth: number | undefined;
  readonly exit: ExitState | undefined;
  /** Summed over CPUs, in the order of `struct scx_event_stats`. */
  readonly events: readonly DumpEvent[];
}

/** `struct scx_exit_info`; of a scheduler that runs the kind is SCX_EXIT_NONE, and there is nothing to tell. */
export interface ExitState {
  /** `enum scx_exit_kind`, and its name in this kernel; undefined where only the log's words are known. */
  readonly kind: number | undefined;
  readonly kindName: string | undefined;
  /** The scheduler's own (`scx_bpf_exit()`), or `enum scx_exit_code`; undefined where only the log tells. */
  readonly code: bigint | undefined;
  readonly reason: string;
  readonly message: string;
  /** Since 7.2. */
  readonly cpu: number | undefined;
  /** Functions with offsets. */
  readonly backtrace: readonly string[];
  /** The text that the kernel kept; "" where it kept none. */
  readonly dump: string;
}

export interface WatchdogState {
  readonly timeoutMs: number;
  /** Since the worker last looked (`scx_watchdog_timestamp`). */
  readonly lastCheckMs: number;
  /** The task that it strikes first, and in how long; negative where the timeout has passed. undefined: none waits. */
  readonly next: { readonly pid: number; readonly comm: string; readonly inMs: number } | undefined;
}

/** `struct rq` and its `struct scx_rq`. */
export interface CpuState extends Omit<DumpCpu, "tasks"> {
  /** The idle task runs and nothing of sched_ext is runnable: such a CPU is not in the kernel's dump. */
  readonly isIdle: boolean;
  /** `rq->nr_running` of all classes, then by class. */
  readonly nrAll: number;
  /** `cfs.h_nr_queued`, until 6.13 `cfs.h_nr_running`. */
  readonly nrFair: number;
  readonly nrRealtime: number;
  readonly nrDeadline: number;
}

/** `struct scx_dispatch_q`. */
export interface QueueState {
  readonly id: bigint;
  /** By where it was found. */
  readonly kind: "user" | "global" | "local" | "bypass";
  /** Of a local or bypass queue. */
  readonly cpu: number | undefined;
  /** Of a global queue. */
  readonly node: number | undefined;
  /** `nr`. */
  readonly length: number;
  /** Tasks lie in the red-black tree `priq`, by vtime. */
  readonly isByVtime: boolean;
  /** In the order in which they will be taken; cursors of BPF iterators are left out. */
  readonly tasks: readonly TaskState[];
}

/** `struct task_struct` and its `struct sched_ext_entity`. */
export interface TaskState extends DumpTask {
  /** The CPU whose run queue it is on. */
  readonly cpu: number;
  readonly tgid: number;
  /** `SCHED_*` as `sched_getscheduler(2)` numbers it. */
  readonly policy: number;
  /** "ext_sched_class"; "" where no symbol tells. */
  readonly schedClass: string;
}

/** Any task, of whatever class. */
export interface TaskInfo {
  readonly pid: number;
  readonly tgid: number;
  readonly comm: string;
  /** `task_state_to_char()`. */
  readonly state: string;
  readonly policy: number;
  /** `rt_priority`: 1 to 99 under SCHED_FIFO and SCHED_RR, else 0. */
  readonly rtPriority: number;
  /** "fair_sched_class"; "" where no symbol tells. */
  readonly schedClass: string;
  /** In the default hierarchy; undefined where it cannot be read. */
  readonly cgroupPath: string | undefined;
  /** The fields of sched_ext; undefined where this kernel has none. */
  readonly scx: TaskState | undefined;
  /** Of `scx`, by the kernel's own enums: the state "ENABLED", the flags "QUEUED". */
  readonly scxState: string | undefined;
  readonly scxFlags: readonly string[];
}
