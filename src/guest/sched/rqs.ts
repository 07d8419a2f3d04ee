/** Reads run queues: the state of each CPU, as the kernel's `scx_dump_cpu()` prints it, and the tasks that wait there. */
import type { Btf } from "../../btf/btf.ts";
import { at, i64, optional, place, ptr, struct, u8, u32, u64 } from "../../btf/struct.ts";
import type { CpuState, QueueState, TaskState } from "../../sched-state.ts";
import type { DumpKick } from "../../sched-text/dump.ts";
import { BTF_KIND } from "../../uapi/btf.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { listOf } from "../kernel/list.ts";
import { type PerCpuArea, perCpuAddress } from "../kernel/percpu.ts";
import { requireSymbol } from "../kernel/symbols.ts";
import { GuestFault } from "../memory/fault.ts";
import { add, isNull, type Pointer } from "../memory/pointer.ts";
import type { CpuTrace } from "../task/trace.ts";
import { cpusOf } from "./cpu-mask.ts";
import { readQueue } from "./dsqs.ts";
import { COMM_BYTES, commOf, ENTITY_LIST, type ScxTasks, TASK_BASICS } from "./scx-task.ts";

const RQ = struct("rq", {
  curr: ptr,
  nr_running: u32,
  clock: u64,
  fair: at(u32, "cfs.h_nr_queued", "cfs.h_nr_running"),
  rt: at(u32, "rt.rt_nr_running"),
  dl: at(u32, "dl.dl_nr_running"),
  scxRunning: at(u32, "scx.nr_running"),
  flags: at(u32, "scx.flags"),
  released: optional(at(u8, "scx.cpu_released"), "since 6.12"),
  local: at(place, "scx.local_dsq"),
  runnable: at(place, "scx.runnable_list"),
  bypass: optional(at(place, "scx.bypass_dsq"), "6.19 to 7.0"),
  ops_qseq: optional(at(u64, "scx.ops_qseq"), "until 7.0"),
  pnt_seq: optional(at(u64, "scx.pnt_seq"), "until 6.18"),
  ksync: optional(at(u64, "scx.kick_sync"), "since 6.19"),
  rescue: optional(at(place, "scx.rescue"), "since 7.3"),
});
/**
 * `sched_info_arrive()` (kernel/sched/stats.h) stores `rq->clock` here when a task of any class but idle is switched in. It does
 * not change while the same task continues. `rq->clock` is `sched_clock_cpu()`: the time since boot without suspend.
 * CLOCK_MONOTONIC starts at another moment of the boot: in guests of the lab, they differ by less than 0.1 s.
 */
const ARRIVAL = struct("task_struct", {
  since: optional(at(u64, "sched_info.last_arrival"), "with CONFIG_SCHED_INFO"),
});
const RESCUE = struct("scx_rq_rescue", { nr: at(u32, "dsq.nr"), budget: i64, curr: ptr });

/** The masks, and their names in the kernel's dump. */
const KICKS: readonly (readonly [member: string, name: string])[] = [
  ["cpus_to_kick", "cpus_to_kick"],
  ["cpus_to_kick_if_idle", "idle_to_kick"],
  ["cpus_to_preempt", "cpus_to_preempt"],
  ["cpus_to_wait", "cpus_to_wait"],
  ["cpus_to_sync", "cpus_to_sync"],
];

/** Returns the stack of a CPU's current task; undefined if the CPU's registers are not known. */
export type TraceOf = (area: PerCpuArea, current: Pointer) => CpuTrace | undefined;

export interface CpuRead {
  readonly cpu: CpuState;
  /** The running task, then those of `scx.runnable_list` in its order. */
  readonly tasks: readonly TaskState[];
  /** The local queue and, if this kernel has it there, the bypass queue. */
  readonly queues: readonly QueueState[];
}

/** Reads the `struct rq` of one CPU. Throws `GuestFault` and `LayoutError`. */
export function readRunQueue(
  kernel: GuestKernel,
  area: PerCpuArea,
  tasks: ScxTasks,
  onFault: (error: unknown) => void,
  traceOf: TraceOf = () => undefined,
): CpuRead {
  const { memory, btf, symbols } = kernel;
  const offsets = RQ.resolve(btf);
  const rq = perCpuAddress(requireSymbol(symbols, "runqueues"), area);
  const u32At = (offset: number, member: string): number => memory.u32(rq.hi, rq.lo, offset, `rq->${member}`);
  const curr = memory.pointer(rq.hi, rq.lo, offsets.curr, "rq->curr");
  const basics = TASK_BASICS.resolve(btf);
  const currClass = tasks.className(
    memory.pointer(curr.hi, curr.lo, basics.sched_class, "rq->curr->sched_class"),
  );
  // `set_next_task_scx()` removes the running task from the list.
  const running =
    currClass === "ext_sched_class" ? [{ ...tasks.at(curr), isCurrent: true, cpu: area.cpu }] : [];
  const waiting: TaskState[] = [];
  const head = add(rq, offsets.runnable);
  const { runnable } = ENTITY_LIST.resolve(btf);
  for (const task of listOf(kernel, head, runnable, "rq->scx.runnable_list", onFault)) {
    try {
      const read = tasks.at(task);
      // A task is copied only if its CPU differs, because there can be many tasks.
      waiting.push(read.cpu === area.cpu ? read : { ...read, cpu: area.cpu });
    } catch (error) {
      onFault(error);
    }
  }
  const local = { kind: "local", cpu: area.cpu, node: undefined } as const;
  const queues = [readQueue(kernel, tasks, add(rq, offsets.local), local, onFault)];
  if (offsets.bypass !== undefined)
    queues.push(readQueue(kernel, tasks, add(rq, offsets.bypass), { ...local, kind: "bypass" }, onFault));
  const sequences = (["ops_qseq", "pnt_seq", "ksync"] as const).flatMap((name) => {
    const offset = offsets[name];
    return offset === undefined ? [] : [{ name, value: memory.u64(rq.hi, rq.lo, offset, `rq->scx.${name}`) }];
  });
  const isIdle = waiting.length === 0 && currClass === "idle_sched_class";
  const trace = isIdle ? undefined : traceOf(area, curr);
  const cpu: CpuState = {
    cpu: area.cpu,
    nrRunning: u32At(offsets.scxRunning, "scx.nr_running"),
    flags: u32At(offsets.flags, "scx.flags"),
    cpuReleased:
      offsets.released === undefined
        ? undefined
        : memory.u8(rq.hi, rq.lo, offsets.released, "rq->scx.cpu_released"),
    sequences,
    rescue: offsets.rescue === undefined ? undefined : rescueText(kernel, add(rq, offsets.rescue)),
    currComm: commOf(memory.cstring(curr.hi, curr.lo, basics.comm, COMM_BYTES, "rq->curr->comm")),
    currPid: memory.i32(curr.hi, curr.lo, basics.pid, "rq->curr->pid"),
    currClass,
    kicks: kicksIn(kernel, rq, "rq", "scx."),
    unknown: [],
    isIdle,
    nrAll: u32At(offsets.nr_running, "nr_running"),
    nrFair: u32At(offsets.fair, "cfs.h_nr_queued"),
    nrRealtime: u32At(offsets.rt, "rt.rt_nr_running"),
    nrDeadline: u32At(offsets.dl, "dl.dl_nr_running"),
    clockNs: memory.u64(rq.hi, rq.lo, offsets.clock, "rq->clock"),
    currSinceNs: sinceOf(kernel, curr),
    stack: trace?.stack.frames.map(({ symbol }) => symbol),
    stackStopped: trace?.stack.stopped ?? "",
    areInterruptsOff: trace?.areInterruptsOff,
  };
  return { cpu, tasks: [...running, ...waiting], queues };
}

/** Returns undefined for 0 (the task was never switched in, such as an idle task), and for a capture by an older version. */
function sinceOf({ memory, btf }: GuestKernel, { hi, lo }: Pointer): bigint | undefined {
  const { since } = ARRIVAL.resolve(btf);
  if (since === undefined) return undefined;
  try {
    return memory.u64(hi, lo, since, "rq->curr->sched_info.last_arrival") || undefined;
  } catch (error) {
    if (error instanceof GuestFault) return undefined;
    throw error;
  }
}

/** As `scx_rescue_dump()` prints it. */
function rescueText({ memory, btf }: GuestKernel, { hi, lo }: Pointer): string {
  const offsets = RESCUE.resolve(btf);
  const { comm, pid } = TASK_BASICS.resolve(btf);
  const count = memory.u32(hi, lo, offsets.nr, "rq->scx.rescue.dsq.nr");
  const budgetNs = BigInt.asIntN(64, memory.u64(hi, lo, offsets.budget, "rq->scx.rescue.budget"));
  const curr = memory.pointer(hi, lo, offsets.curr, "rq->scx.rescue.curr");
  const task = isNull(curr)
    ? "none[-1]"
    : `${commOf(memory.cstring(curr.hi, curr.lo, comm, COMM_BYTES, "rescue.curr->comm"))}[${memory.i32(curr.hi, curr.lo, pid, "rescue.curr->pid")}]`;
  return `rescue=${count} budget=${budgetNs / 1000n}us rescuing=${task}`;
}

/**
 * Reads the masks of pending kicks that are not empty. They are in `rq->scx`; since 7.3 all but the last are in every
 * scheduler's `struct scx_sched_pcpu`. Throws `GuestFault`.
 */
export function kicksIn(kernel: GuestKernel, base: Pointer, type: string, prefix: string): DumpKick[] {
  const { btf } = kernel;
  const id = btf.find(type, BTF_KIND.STRUCT);
  if (id === undefined) return [];
  return KICKS.flatMap(([member, name]) => {
    const found = maskMember(btf, id, `${prefix}${member}`);
    if (found === undefined) return [];
    const cpus = cpusOf(
      kernel,
      maskAt(kernel, add(base, found.offset), found.isPointer),
      `${type}->${prefix}${member}`,
    );
    return cpus.length === 0 ? [] : [{ name, cpus }];
  });
}

/** `cpumask_var_t`: a pointer with CONFIG_CPUMASK_OFFSTACK, else the mask itself. */
function maskAt({ memory }: GuestKernel, at: Pointer, isPointer: boolean): Pointer {
  return isPointer ? memory.pointer(at.hi, at.lo, 0, "cpumask_var_t") : at;
}

function maskMember(
  btf: Btf,
  type: number,
  path: string,
): { offset: number; isPointer: boolean } | undefined {
  const member = btf.member(type, path);
  if (member === undefined) return undefined;
  return { offset: member.byteOffset, isPointer: btf.kind(btf.resolve(member.typeId)) === BTF_KIND.PTR };
}
