/**
 * Types for the state of sched_ext in a kernel's memory. A text dump has less data (src/sched-text/dump.ts). A member is
 * undefined if the release does not have it. Times are in milliseconds of jiffies, up to the last tick before the freeze.
 */

import type { DumpCpu, DumpEvent, DumpTask, ScxDump } from "./sched-text/dump.ts";
import type { ScxEnums } from "./scx-enums.ts";

/** sched_ext on one machine. */
export interface SchedReport {
  /** `scx_enable_state_var` (before 6.16 `scx_ops_enable_state_var`): "enabled". */
  readonly state: string;
  /** `__scx_switched_all`: all tasks of the fair class are on sched_ext; undefined if unknown. */
  readonly isSwitchedAll: boolean | undefined;
  readonly counts: SchedCounts;
  /**
   * `scx_root` and its sub-schedulers; before 6.16, the scheduler in `scx_ops`. If none is loaded: ejected schedulers whose
   * loader still holds the link, or else the last scheduler in the kernel's log.
   */
  readonly schedulers: readonly SchedulerState[];
  readonly watchdog: WatchdogState | undefined;
  /** The kernel's own names of the enums below. */
  readonly enums: ScxEnums;
  /** CPUs that the kernel reports as idle; undefined if the scheduler tracks idle CPUs itself. */
  readonly idleCpus: readonly number[] | undefined;
  readonly cpus: readonly CpuState[];
  /** Queues of all schedulers, including empty ones. */
  readonly queues: readonly QueueState[];
  /** Runnable tasks on sched_ext, in descending order of waiting time. */
  readonly tasks: readonly TaskState[];
  /** Sentences about data that could not be read. */
  readonly missing: readonly string[];
}

/** Counters of the kernel; undefined if the release does not have the counter. */
export interface SchedCounts {
  /** `scx_nr_rejected`: tasks with policy SCHED_EXT that the loaded scheduler rejected. */
  readonly nrRejected: bigint | undefined;
  /** `scx_hotplug_seq`: number of CPU hotplug events. */
  readonly hotplugSeq: bigint | undefined;
  /** `scx_enable_seq`: number of schedulers enabled since boot. */
  readonly enableSeq: bigint | undefined;
}

/** The data in /sys/kernel/sched_ext. */
export interface SysfsSched extends Pick<SchedReport, "state" | "isSwitchedAll" | "counts"> {
  /** The root scheduler first; empty if none is loaded. */
  readonly schedulers: readonly SysfsScheduler[];
}

export interface SysfsScheduler extends Pick<SchedulerState, "opsName" | "events"> {
  /** "root", or "sub1-123" with the id of the cgroup. */
  readonly place: string;
}

/** A source with the full state of sched_ext: a machine's memory. */
export interface SchedAccessor {
  /** Throws `KtstrError` if the kernel has no sched_ext or the capture does not contain it. */
  scheduler(): SchedReport;
}

/** The dumps that SysRq-D would print. */
export interface SchedulerDumps {
  /** One per loaded scheduler, the root first. */
  readonly dumps: readonly ScxDump[];
  /** `nr_cpu_ids`, which determines the width of masks. */
  readonly cpuCount: number;
  /**
   * Callbacks of the schedulers (`dump`, `dump_cpu`, `dump_task`). They are not run, so the dumps do not have their output.
   */
  readonly callbacks: readonly string[];
  /** Sentences about data that could not be read. */
  readonly missing: readonly string[];
}

/** `struct scx_sched`; before 6.16, global variables. */
export interface SchedulerState {
  /** `ops.name`. */
  readonly opsName: string;
  /** false if it was unregistered or ejected. */
  readonly isLoaded: boolean;
  /** Id of the struct_ops map of an ejected scheduler, whose loader still holds it; undefined for any other scheduler. */
  readonly mapId: number | undefined;
  /** Time since the log messages that it was enabled and disabled; undefined if the log does not have the message. */
  readonly enabledMs: number | undefined;
  readonly disabledMs: number | undefined;
  /** 0 for the root scheduler. */
  readonly level: number;
  /** "root", or "sub1-123" with level and cgroup id: the name in the kernel's dump. */
  readonly place: string;
  /** The place of the parent scheduler; undefined for the root. */
  readonly parent: string | undefined;
  /** `cgrp_path` of a sub-scheduler. */
  readonly cgroupPath: string | undefined;
  /** `ops.sub_cgroup_id`. */
  readonly cgroupId: bigint | undefined;
  /**
   * `ops.flags` and the names of its bits ("SCX_OPS_SWITCH_PARTIAL"). undefined if the scheduler is only known from the log.
   */
  readonly flags: bigint | undefined;
  readonly flagNames: readonly string[];
  readonly bypassDepth: number | undefined;
  readonly exit: ExitState | undefined;
  /** Summed over CPUs, in the order of `struct scx_event_stats`. */
  readonly events: readonly DumpEvent[];
}

/** `struct scx_exit_info`. The kind of a running scheduler is SCX_EXIT_NONE. */
export interface ExitState {
  /** `enum scx_exit_kind` and its name in this kernel; undefined if only the log's text is known. */
  readonly kind: number | undefined;
  readonly kindName: string | undefined;
  /** The code passed to `scx_bpf_exit()`, or `enum scx_exit_code`; undefined if the exit is only known from the log. */
  readonly code: bigint | undefined;
  readonly reason: string;
  readonly message: string;
  /** Since 7.2. */
  readonly cpu: number | undefined;
  /** Functions with offsets. */
  readonly backtrace: readonly string[];
  /** The dump text that the kernel kept; "" if there is none. */
  readonly dump: string;
}

export interface WatchdogState {
  readonly timeoutMs: number;
  /** Time since the last check of the watchdog (`scx_watchdog_timestamp`). */
  readonly lastCheckMs: number;
  /** The task whose timeout expires first, and the remaining time; negative after the timeout. undefined if no task waits. */
  readonly next: { readonly pid: number; readonly comm: string; readonly inMs: number } | undefined;
}

/** `struct rq` and its `struct scx_rq`. */
export interface CpuState extends Omit<DumpCpu, "tasks"> {
  /** The CPU runs the idle task and has no runnable sched_ext tasks. The kernel's dump omits such CPUs. */
  readonly isIdle: boolean;
  /** `rq->nr_running` for all classes. The members below count single classes. */
  readonly nrAll: number;
  /** `cfs.h_nr_queued`, until 6.13 `cfs.h_nr_running`. */
  readonly nrFair: number;
  readonly nrRealtime: number;
  readonly nrDeadline: number;
  /** `rq->clock`: nanoseconds since boot when the run queue was last used. The timer tick updates it. */
  readonly clockNs: bigint;
  /**
   * `sched_info.last_arrival` of the running task: when it last got the CPU, in nanoseconds of `rq->clock`. undefined for the
   * idle task, for which the kernel does not record it, and for kernels without CONFIG_SCHED_INFO.
   */
  readonly currSinceNs: bigint | undefined;
  /**
   * The stack of the running task from the CPU's registers, the innermost function first; empty in user mode. undefined if
   * the source does not have the registers.
   */
  readonly stack: readonly string[] | undefined;
  /** Why the stack ends early; "" if it is whole or undefined. */
  readonly stackStopped: string;
  /** undefined if the source does not have the registers. */
  readonly areInterruptsOff: boolean | undefined;
}

/** `struct scx_dispatch_q`. */
export interface QueueState {
  readonly id: bigint;
  /** Determined by where the queue was found. */
  readonly kind: "user" | "global" | "local" | "bypass";
  /** CPU of a local or bypass queue. */
  readonly cpu: number | undefined;
  /** NUMA node of a global queue. */
  readonly node: number | undefined;
  /** `nr`. */
  readonly length: number;
  /** Tasks are in the red-black tree `priq`, ordered by vtime. */
  readonly isByVtime: boolean;
  /** Tasks in dispatch order, without the cursors of BPF iterators. */
  readonly tasks: readonly TaskState[];
}

/** `struct task_struct` and its `struct sched_ext_entity`. */
export interface TaskState extends DumpTask {
  /** The CPU of the task's run queue. */
  readonly cpu: number;
  readonly tgid: number;
  /** `SCHED_*` with the numbers of `sched_getscheduler(2)`. */
  readonly policy: number;
  /** "ext_sched_class"; "" if there is no symbol. */
  readonly schedClass: string;
}

/** A task of any scheduling class. */
export interface TaskInfo {
  readonly pid: number;
  readonly tgid: number;
  readonly comm: string;
  /** `task_state_to_char()`. */
  readonly state: string;
  readonly policy: number;
  /** `rt_priority`: 1 to 99 for SCHED_FIFO and SCHED_RR, else 0. */
  readonly rtPriority: number;
  /** "fair_sched_class"; "" if there is no symbol. */
  readonly schedClass: string;
  /** Path in the default hierarchy; undefined if it cannot be read. */
  readonly cgroupPath: string | undefined;
  /** The fields of sched_ext; undefined if the kernel has no sched_ext. */
  readonly scx: TaskState | undefined;
  /** Names from the kernel's own enums: the state "ENABLED", the flags "QUEUED". */
  readonly scxState: string | undefined;
  readonly scxFlags: readonly string[];
}
