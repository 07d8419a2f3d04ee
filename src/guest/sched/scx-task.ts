/** Reads the sched_ext state of a task: the fields of the kernel's `scx_dump_task()` (kernel/sched/ext). */
import {
  at,
  bytes,
  i32,
  optional,
  place,
  ptr,
  type StructTable,
  struct,
  u16,
  u32,
  u64,
} from "../../btf/struct.ts";
import type { TaskState } from "../../sched-state.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { isNull, type Pointer } from "../memory/pointer.ts";
import { CpuMasks } from "./cpu-mask.ts";
import type { Jiffies } from "./jiffies.ts";

/** TASK_COMM_LEN. */
export const COMM_BYTES = 16;

/** The members of a task that are read for every task. */
export const TASK_BASICS: StructTable<
  "comm" | "pid" | "tgid" | "policy" | "sched_class" | "cpus_ptr" | "state" | "exit_state"
> = struct("task_struct", {
  comm: bytes(COMM_BYTES),
  pid: i32,
  tgid: i32,
  policy: u32,
  sched_class: ptr,
  cpus_ptr: ptr,
  state: at(u32, "__state", "state"),
  exit_state: i32,
});

/** The `struct sched_ext_entity` in a task. */
const SCX_TASK = struct("task_struct", {
  dsq: at(ptr, "scx.dsq"),
  ops_state: at(u64, "scx.ops_state.counter"),
  dsq_flags: at(u32, "scx.dsq_flags"),
  flags: at(u32, "scx.flags"),
  weight: at(u32, "scx.weight"),
  sticky_cpu: at(i32, "scx.sticky_cpu"),
  holding_cpu: at(i32, "scx.holding_cpu"),
  runnable_at: at(u64, "scx.runnable_at"),
  slice: at(u64, "scx.slice"),
  dsq_vtime: at(u64, "scx.dsq_vtime"),
  sched: optional(at(ptr, "scx.sched"), "since 7.1"),
  migration_disabled: optional(at(u16, "migration_disabled"), "with CONFIG_SMP"),
  cpu: optional(at(u32, "thread_info.cpu"), "if thread_info is in the task"),
});
const DSQ = struct("scx_dispatch_q", { id: u64 });
const SCHED = struct("scx_sched", {
  level: optional(i32, "since 7.1"),
  cgroup: optional(at(u64, "ops.sub_cgroup_id"), "since 7.1"),
});
/** The list nodes of a task in run queues and dispatch queues. */
export const ENTITY_LIST: StructTable<"runnable" | "dsqList" | "dsqListFlags"> = struct("task_struct", {
  runnable: at(place, "scx.runnable_node"),
  dsqList: at(place, "scx.dsq_list.node"),
  dsqListFlags: at(u32, "scx.dsq_list.flags"),
});

/** `SCX_TASK_STATE_SHIFT` and `_BITS`: 8 and 2 (3 since 7.1); bit 10 had no other meaning before. */
const STATE_SHIFT = 8;
const STATE_MASK = 7 << STATE_SHIFT;
/** `SCX_OPSS_QSEQ_SHIFT`. */
const QSEQ_SHIFT = 2n;

const NONE: readonly string[] = [];

/**
 * Visited tasks between two calls of `limitPages`. Visits follow lists, whose neighbours are far apart in memory. A visit maps the
 * 64 KiB around the task (mm/memory.c, do_fault_around), or 2 MiB if the file is in the page cache as large folios
 * (finish_fault).
 */
const VISITS_PER_LIMIT = 16;

/** Reads tasks of one machine. Each task is read once. */
export class ScxTasks {
  readonly #kernel: GuestKernel;
  readonly #jiffies: Jiffies;
  #visits = 0;
  /** Addresses by pid. */
  readonly #addresses = new Map<number, Pointer>();
  /** Tasks by the words of their address: a key as text would be the largest part of a task. */
  readonly #known = new Map<number, Map<number, TaskState>>();
  readonly #masks: CpuMasks;
  readonly #classes = new Map<string, string>();

  constructor(kernel: GuestKernel, jiffies: Jiffies) {
    this.#kernel = kernel;
    this.#jiffies = jiffies;
    this.#masks = new CpuMasks(kernel);
  }

  /** Reads a `struct task_struct`. Throws `GuestFault` and `LayoutError`. */
  at(task: Pointer): TaskState {
    if (++this.#visits % VISITS_PER_LIMIT === 0) this.#kernel.limitPages();
    let known = this.#known.get(task.hi);
    if (known === undefined) {
      known = new Map();
      this.#known.set(task.hi, known);
    }
    const before = known.get(task.lo);
    if (before !== undefined) return before;
    const read = this.#read(task);
    known.set(task.lo, read);
    this.#addresses.set(read.pid, task);
    return read;
  }

  /** Adds a stack to a task that was read with `at`. `traceOf` receives its `struct task_struct`. */
  withStack(task: TaskState, traceOf: (task: Pointer) => readonly string[]): TaskState {
    const at = this.#addresses.get(task.pid);
    return at === undefined ? task : { ...task, stack: traceOf(at) };
  }

  /** Returns the symbol that a task's `sched_class` points to ("ext_sched_class"); "" if there is none. */
  className(at: Pointer): string {
    const key = `${at.hi},${at.lo}`;
    const before = this.#classes.get(key);
    if (before !== undefined) return before;
    const near = isNull(at) ? undefined : this.#kernel.symbols.nearest(at);
    const name = near?.offset === 0 ? near.name : "";
    this.#classes.set(key, name);
    return name;
  }

  #read(task: Pointer): TaskState {
    const { memory, btf } = this.#kernel;
    const { hi, lo } = task;
    const basics = TASK_BASICS.resolve(btf);
    const scx = SCX_TASK.resolve(btf);
    const u32At = (offset: number, path: string): number => memory.u32(hi, lo, offset, path);
    const i32At = (offset: number, path: string): number => memory.i32(hi, lo, offset, path);
    const u64At = (offset: number, path: string): bigint => memory.u64(hi, lo, offset, path);
    const opsState = u64At(scx.ops_state, "task->scx.ops_state");
    const flags = u32At(scx.flags, "task->scx.flags");
    const dsq = memory.pointer(hi, lo, scx.dsq, "task->scx.dsq");
    const mask = memory.pointer(hi, lo, basics.cpus_ptr, "task->cpus_ptr");
    return {
      isCurrent: false,
      state: stateLetter(u32At(basics.state, "task->__state"), i32At(basics.exit_state, "task->exit_state")),
      comm: commOf(memory.cstring(hi, lo, basics.comm, COMM_BYTES, "task->comm")),
      pid: i32At(basics.pid, "task->pid"),
      tgid: i32At(basics.tgid, "task->tgid"),
      policy: u32At(basics.policy, "task->policy"),
      schedClass: this.className(memory.pointer(hi, lo, basics.sched_class, "task->sched_class")),
      cpu: scx.cpu === undefined ? -1 : u32At(scx.cpu, "task->thread_info.cpu"),
      scheduler:
        scx.sched === undefined
          ? undefined
          : this.#place(memory.pointer(hi, lo, scx.sched, "task->scx.sched")),
      // Depends on the scheduler whose dump is printed.
      isOwn: undefined,
      // In changing memory (/proc/kcore), a task may have become runnable after jiffies was read.
      waitMs: Math.max(0, this.#jiffies.sinceMs(u64At(scx.runnable_at, "task->scx.runnable_at"))),
      scxState: (flags & STATE_MASK) >>> STATE_SHIFT,
      flags: (flags & ~STATE_MASK) >>> 0,
      dsqFlags: u32At(scx.dsq_flags, "task->scx.dsq_flags"),
      opsState: Number(opsState & 3n),
      qseq: opsState >> QSEQ_SHIFT,
      stickyCpu: i32At(scx.sticky_cpu, "task->scx.sticky_cpu"),
      holdingCpu: i32At(scx.holding_cpu, "task->scx.holding_cpu"),
      dsqId: isNull(dsq) ? null : memory.u64(dsq.hi, dsq.lo, DSQ.resolve(btf).id, "task->scx.dsq->id"),
      vtime: u64At(scx.dsq_vtime, "task->scx.dsq_vtime"),
      sliceNs: u64At(scx.slice, "task->scx.slice"),
      weight: u32At(scx.weight, "task->scx.weight"),
      cpus: this.#masks.at(mask, "task->cpus_ptr"),
      migrationDisabled:
        scx.migration_disabled === undefined
          ? undefined
          : memory.view.getUint16(
              memory.expect(hi, lo, scx.migration_disabled, 2, "task->migration_disabled"),
              true,
            ),
      stack: NONE,
      unknown: NONE,
    };
  }

  /** Returns "root" or "sub1-123", as `scx_dump_task()` prints a task's scheduler. */
  #place(sched: Pointer): string | undefined {
    if (isNull(sched)) return undefined;
    const { memory, btf } = this.#kernel;
    const { level, cgroup } = SCHED.resolve(btf);
    if (level === undefined || cgroup === undefined) return undefined;
    const depth = memory.i32(sched.hi, sched.lo, level, "scx.sched->level");
    if (depth === 0) return "root";
    return `sub${depth}-${memory.u64(sched.hi, sched.lo, cgroup, "scx.sched->ops.sub_cgroup_id")}`;
  }
}

/** `TASK_REPORT` and `TASK_IDLE` of include/linux/sched.h. */
const TASK_REPORT = 0x7f;
const TASK_IDLE = 0x402;
const RTLOCK_WAIT = 0x1000;
const TASK_FROZEN = 0x8000;

/** `task_state_to_char()`. */
export function stateLetter(state: number, exit: number): string {
  let shown = (state | exit) & TASK_REPORT;
  if ((state & TASK_IDLE) === TASK_IDLE) return "I";
  if ((state & (RTLOCK_WAIT | TASK_FROZEN)) !== 0) shown = 2;
  return "RSDTtXZP"[32 - Math.clz32(shown)] ?? "?";
}

/** `task->comm` as UTF-8. Control characters are not escaped. */
export const commOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");
