/** Formats stacks for `ktstr sched`: a waiting task's as the kernel's sched_ext dump does, and those of the CPUs. */
import { KtstrError } from "../../errors.ts";
import type { TaskStack } from "../../task-stack.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import type { AddressNames } from "../kernel/names-at.ts";
import type { PerCpuArea } from "../kernel/percpu.ts";
import { requireSymbol } from "../kernel/symbols.ts";
import { taskAt } from "../kernel/tasks.ts";
import { fromBigInt, type Pointer, toBigInt } from "../memory/pointer.ts";
import { registersOf } from "./registers.ts";
import { stackOf, walkStack } from "./stack.ts";

/** SCX_EXIT_BT_LEN. */
const MAX_ENTRIES = 64;
/** `skipnr` of the dump's call. */
const SKIPPED = 1;

const SECTIONS = [
  ["__sched_text_start", "__sched_text_end"],
  ["__lock_text_start", "__lock_text_end"],
] as const;

/**
 * Returns a function that gives the frames that `stack_trace_save_tsk()` (kernel/stacktrace.c) stores for a
 * `struct task_struct`: without the functions of the scheduler and of locks (`in_sched_functions()`), and without the first
 * of the others. Each frame is formatted as `%pS`, which names the return address itself: after a call that does not return,
 * that is the next function. Empty for a running task, as in the kernel's dump from another CPU. Throws `KtstrError` if the
 * sections cannot be found.
 */
export function schedTraces(kernel: GuestKernel, names: AddressNames): (task: Pointer) => string[] {
  const sections = SECTIONS.map((bounds) =>
    bounds.map((name) => {
      const { hi, lo } = requireSymbol(kernel.symbols, name);
      return toBigInt(hi, lo);
    }),
  );
  const isSchedFunction = (address: bigint): boolean =>
    sections.some(([start = 0n, end = 0n]) => address >= start && address < end);
  return (at) => {
    const task = taskAt(kernel, at);
    if (task.onCpu) return [];
    const lines: string[] = [];
    let left = SKIPPED;
    try {
      walkStack(kernel, names, task, (address) => {
        if (isSchedFunction(address)) return true;
        if (left > 0) left--;
        else lines.push(names.text(fromBigInt(address)));
        return lines.length < MAX_ENTRIES;
      });
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
    }
    return lines;
  };
}

/** The state of a CPU's current task when the machine was frozen. */
export interface CpuTrace {
  readonly stack: TaskStack;
  readonly areInterruptsOff: boolean;
}

/** Reads the stack of a CPU's current task from its registers; undefined if they are not in the image. Throws `KtstrError`. */
export function cpuTrace(
  kernel: GuestKernel,
  names: AddressNames,
  area: PerCpuArea,
  current: Pointer,
): CpuTrace | undefined {
  if (kernel.prstatus.length === 0) return undefined;
  const task = taskAt(kernel, current);
  const registers = registersOf(kernel, task, area);
  return (
    registers && { stack: stackOf(kernel, names, task, area), areInterruptsOff: registers.areInterruptsOff }
  );
}
