/**
 * Finding "cpu-stuck": a program on a CPU does not return. It runs with interrupts off, so that the CPU handles no timer tick and no
 * interrupt of other CPUs. Needs the CPUs' registers.
 */
import { type Finding, secondsText } from "./sched-findings.ts";
import type { SchedCpu, SchedView } from "./sched-view.ts";

/** Prefix of the symbols that the kernel gives to programs: "bpf_prog_<tag>_". */
const PROGRAM = /^bpf_prog_[0-9a-f]{16}_(?=\w)/;
/** How a CPU waits for another one with a busy loop, and the functions that contain the loop. */
const WAITS: readonly { readonly what: string; readonly functions: readonly string[] }[] = [
  {
    // kernel/locking/qspinlock.c, qspinlock_paravirt.h and qrwlock.c, kernel/bpf/rqspinlock.c
    what: "for a lock",
    functions: [
      "native_queued_spin_lock_slowpath",
      "__pv_queued_spin_lock_slowpath",
      "queued_spin_lock_slowpath",
      "resilient_queued_spin_lock_slowpath",
      "queued_read_lock_slowpath",
      "queued_write_lock_slowpath",
    ],
  },
  {
    // kernel/smp.c, csd_lock_wait(); kernel/irq_work.c
    what: "until other CPUs have handled an interrupt",
    functions: ["smp_call_function_single", "smp_call_function_many_cond", "irq_work_sync"],
  },
  { what: "in stop_machine until all CPUs have stopped", functions: ["multi_cpu_stop"] },
  {
    // SCX_KICK_WAIT, kernel/sched/ext: since 6.19 in a balance callback, earlier in the interrupt.
    what: "until a kicked CPU schedules",
    functions: ["kick_sync_wait_bal_cb", "kick_cpus_irq_workfn"],
  },
];
/** Functions that these loops call, unless the compiler inlines them. */
const PAUSES: readonly string[] = [
  "kvm_wait",
  "xen_qlock_wait",
  "hv_qlock_wait",
  "pv_native_safe_halt",
  "stop_machine_yield",
  "__csd_lock_wait",
  "csd_lock_wait_toolong",
];
/** Limits on the named functions of a stack, and on the stacks of a finding. */
const MAX_NAMED = 6;
/** Minimum time without a tick. With `nohz_full` a busy CPU has one tick per second (kernel/sched/core.c, `sched_tick_remote`). */
const STUCK_NS = 2_000_000_000n;

/** A CPU in a program, or one that waits. */
interface Place {
  readonly cpu: SchedCpu;
  /** Index of the waiting function's frame. */
  readonly from: number;
  readonly waits: string | undefined;
}

/**
 * Returns at most one finding, in one of two cases. Another CPU's clock is seconds ahead: a run queue's clock is updated when
 * the CPU schedules and at each tick. Or no clock runs: all CPUs have interrupts off, and one or more wait for another CPU.
 */
export function stuckCpus({ cpus }: SchedView): Finding[] {
  const now = cpus.reduce((latest, { clockNs = 0n }) => (clockNs > latest ? clockNs : latest), 0n);
  const places = cpus.map(placeOf);
  const waiting = places.filter(({ waits }) => waits !== undefined);
  const inProgram = places.filter(({ cpu, waits }) => waits === undefined && isInProgram(cpu));
  const behind = inProgram.filter(({ cpu }) => now - cpu.clockNs! >= STUCK_NS && isClockUpdated(cpu));
  if (behind.length > 0) return [findingOf(behind, waiting, now, true)];
  const areAllOff = cpus.every(({ areInterruptsOff }) => areInterruptsOff === true);
  // A CPU that handles an interrupt while it waits has interrupts off too, and its clock runs.
  const isStopped = areAllOff && waiting.some(isInLoop);
  return isStopped && inProgram.length > 0 ? [findingOf(inProgram, waiting, now, false)] : [];
}

/** `now`: the latest clock. `runs`: whether any clock runs. */
function findingOf(stuck: readonly Place[], waiting: readonly Place[], now: bigint, runs: boolean): Finding {
  const [{ cpu: first }] = stuck as readonly [Place];
  const startNs = first.clockNs!;
  const since = `CPU ${first.cpu} has been in the BPF program ${programOf(first)} since ${uptimeText(startNs)} after boot`;
  const others = waitsText(waiting);
  const involved = [...stuck, ...waiting];
  const about = {
    kind: "cpu-stuck",
    pids: involved.flatMap(({ cpu: { currPid } }) => (currPid === undefined ? [] : [currPid])),
    cpus: involved.map(({ cpu: { cpu } }) => cpu),
    dsqId: undefined,
  } as const;
  const where = involved.slice(0, MAX_NAMED).map(placeText);
  if (runs)
    return {
      ...about,
      summary: `${since}, for ${uptimeText(now - startNs)}, with interrupts off${others === "" ? "" : `; ${others}`}`,
      details: [
        `CPU ${first.cpu} has had no timer tick since then: its times on this page end at that moment.`,
        ...where,
      ],
      waitMs: Number((now - startNs) / 1_000_000n),
    };
  return {
    ...about,
    summary: `${since}, ${others}, and all CPUs have interrupts off: the kernel's clock does not run`,
    details: [
      `All times on this page end ${uptimeText(now)} after boot, even if the machine was frozen much later.`,
      ...where,
    ],
    waitMs: undefined,
  };
}

function placeOf(cpu: SchedCpu): Place {
  const { stack = [] } = cpu;
  for (const [from, frame] of stack.entries()) {
    const name = functionOf(frame);
    const waits = WAITS.find(({ functions }) => functions.includes(name))?.what;
    if (waits !== undefined) return { cpu, from, waits };
    // The frames after a program's frame are its callers. They do not wait.
    if (PROGRAM.test(frame)) break;
  }
  return { cpu, from: 0, waits: undefined };
}

const isInProgram = (cpu: SchedCpu): boolean =>
  cpu.areInterruptsOff === true && cpu.clockNs !== undefined && programOf(cpu) !== undefined;

/** Returns false for an idle CPU that is not in `__schedule`: it has no tick, so its clock can be old. */
const isClockUpdated = ({ currClass, stack = [] }: SchedCpu): boolean =>
  currClass !== "idle_sched_class" || stack.some((frame) => functionOf(frame) === "__schedule");

const isInLoop = ({ cpu: { stack = [] }, from }: Place): boolean =>
  stack.slice(0, from).every((frame) => PAUSES.includes(functionOf(frame)));

/** Formats waits: "CPU 0 waits for a lock, 2 CPUs wait until other CPUs have handled an interrupt". */
function waitsText(waiting: readonly Place[]): string {
  return [...Map.groupBy(waiting, ({ waits }) => waits)]
    .map(([what, [first, ...more]]) =>
      more.length === 0 ? `CPU ${first?.cpu.cpu} waits ${what}` : `${more.length + 1} CPUs wait ${what}`,
    )
    .join(", ");
}

/** Returns the outermost program of the innermost BPF frames. The frames inside it are its functions. */
function programOf({ stack = [] }: SchedCpu): string | undefined {
  const start = stack.findIndex((frame) => PROGRAM.test(frame));
  if (start < 0) return undefined;
  const length = stack.slice(start).findIndex((frame) => !PROGRAM.test(frame));
  return functionOf(stack.at(length < 0 ? -1 : start + length - 1) ?? "");
}

/** Returns a frame's function: "outer_loop" for "bpf_prog_f04df6452e6c7b41_outer_loop+0x65/0xb8 [bpf]". */
const functionOf = (frame: string): string => frame.replace(/\+0x.*$/, "").replace(PROGRAM, "");

function placeText({ cpu: { cpu, currComm, currPid, stack = [] }, from }: Place): string {
  const functions = stack
    .slice(from, from + MAX_NAMED)
    .map(functionOf)
    .join(", ");
  const more = stack.length > from + MAX_NAMED ? " and so on" : "";
  return `CPU ${cpu} runs ${currComm}[${currPid}], in ${functions}${more}.`;
}

const uptimeText = (ns: bigint): string => secondsText(Number(ns / 1_000_000n));
