/** Unwinds a task's kernel stack: by ORC tables on x86-64, by frame records on arm64. */
import { at, optional, place, ptr, struct, u64 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { StackFrame, TaskStack } from "../../task-stack.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import type { AddressNames } from "../kernel/names-at.ts";
import type { PerCpuArea } from "../kernel/percpu.ts";
import { type TaskAt, tasks } from "../kernel/tasks.ts";
import { distance, fromBigInt, toBigInt } from "../memory/pointer.ts";
import { cpuStacks } from "./cpu-stacks.ts";
import { cpuOf, registersOf } from "./registers.ts";

/** Only the unwinder of the machine's architecture is loaded. */
const arm64 = (): typeof import("./arm64.ts") => require("./arm64.ts") as typeof import("./arm64.ts");
const x86 = (): typeof import("./x86.ts") => require("./x86.ts") as typeof import("./x86.ts");

/** Called with each return address. Returns false to stop. */
export type Visit = (address: bigint) => boolean;

export interface StackRange {
  readonly low: bigint;
  readonly high: bigint;
}

/** Reads words of a task's stack, and of its CPU's stacks. Addresses outside of them are rejected. */
export class StackMemory {
  readonly #kernel: GuestKernel;
  readonly #ranges: readonly StackRange[];

  constructor(kernel: GuestKernel, ranges: readonly StackRange[]) {
    this.#kernel = kernel;
    this.#ranges = ranges;
  }

  holds(address: bigint, size = 8): boolean {
    return (
      (address & 7n) === 0n &&
      this.#ranges.some(({ low, high }) => address >= low && address + BigInt(size) <= high)
    );
  }

  /** Returns whether a caller's frame can start at `next`: above its callee's, or on another stack. */
  isCallerFrame(before: bigint, next: bigint): boolean {
    const isIn = ({ low, high }: StackRange, address: bigint): boolean => address >= low && address <= high;
    return this.#ranges.some((range) => isIn(range, next) && (next > before || !isIn(range, before)));
  }

  /** Returns undefined if the address is outside the stack. Throws `GuestFault` if it is not in the image. */
  u64(address: bigint): bigint | undefined {
    if (!this.holds(address)) return undefined;
    const { hi, lo } = fromBigInt(address);
    return this.#kernel.memory.u64(hi, lo, 0, "the task's stack");
  }
}

export interface UnwindTask {
  readonly kernel: GuestKernel;
  readonly names: AddressNames;
  readonly stack: StackMemory;
  readonly task: TaskAt;
}

const TASK = struct("task_struct", {
  stack: ptr,
  sp: at(optional(u64, "x86"), "thread.sp"),
  context: at(optional(place, "arm64"), "thread.cpu_context"),
});
/** THREAD_SIZE without KASAN, on both architectures. */
const DEFAULT_STACK_BYTES = 16_384;
const MAX_STACK_BYTES = 2 ** 20;
/** Limit: a frame has at least 16 bytes. */
const MAX_FRAMES = 1024;

/** Reads the stack of the task with this pid. Throws `KtstrError` if there is none. */
export function readTaskStack(kernel: GuestKernel, names: AddressNames, pid: number): TaskStack {
  for (const task of tasks(kernel)) if (task.pid === pid) return stackOf(kernel, names, task);
  throw new KtstrError(`read the stack of pid ${pid}: the machine has no such task`);
}

/** Yields the stacks of all tasks. */
export function* readTaskStacks(kernel: GuestKernel, names: AddressNames): Generator<TaskStack> {
  for (const task of tasks(kernel)) yield stackOf(kernel, names, task);
}

/** Reads a task's stack as far as it can be continued. `cpu` is as in `walkStack`. */
export function stackOf(kernel: GuestKernel, names: AddressNames, task: TaskAt, cpu?: PerCpuArea): TaskStack {
  const frames: StackFrame[] = [];
  let stopped = "";
  const visit = (address: bigint): boolean => {
    // The first address of a running task is an instruction, not a return address.
    const before = task.onCpu && frames.length === 0 ? 0 : 1;
    frames.push({ address, symbol: symbolOf(names, address, before) });
    return frames.length < MAX_FRAMES;
  };
  try {
    stopped = walkStack(kernel, names, task, visit, cpu);
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
    stopped = error.message;
  }
  return { pid: task.pid, tgid: task.tgid, comm: task.comm, frames, stopped };
}

/**
 * Visits the innermost frame first. Returns why it stopped; "" at the end of the stack. Throws `KtstrError`. The CPU of a
 * running task is looked up if `cpu` is not given.
 */
export function walkStack(
  kernel: GuestKernel,
  names: AddressNames,
  task: TaskAt,
  visit: Visit,
  cpu?: PerCpuArea,
): string {
  const layout = TASK.resolve(kernel.btf);
  const base = task.at.u64(layout.stack, "stack");
  if (base === 0n) return "it has no stack: it is dead";
  const size = stackBytes(kernel);
  const own = { low: base, high: base + BigInt(size) };
  if (task.onCpu) {
    const area = cpu ?? cpuOf(kernel, task);
    const registers = area === undefined ? undefined : registersOf(kernel, task, area);
    if (area === undefined || registers === undefined)
      return "it was running on a CPU, and the CPU's registers are not in the image";
    if (registers.isUser) return "it was running in user mode";
    const stack = new StackMemory(kernel, [own, ...cpuStacks(kernel, area, size)]);
    const unwindRunning = layout.sp === undefined ? arm64().unwindRunningArm64 : x86().unwindRunningX86;
    return unwindRunning({ kernel, names, stack, task }, registers, visit);
  }
  const what: UnwindTask = { kernel, names, stack: new StackMemory(kernel, [own]), task };
  if (layout.sp !== undefined) return x86().unwindX86(what, task.at.u64(layout.sp, "thread.sp"), visit);
  if (layout.context !== undefined) return arm64().unwindArm64(what, layout.context, visit);
  return "this architecture is not supported";
}

/** Returns the size of a stack from the first task's stack, which is part of the kernel's image. */
function stackBytes({ symbols }: GuestKernel): number {
  const start = symbols.address("init_stack");
  const end = symbols.address("__end_init_stack") ?? symbols.address("__end_init_task");
  const size = start === undefined || end === undefined ? 0 : distance(start, end);
  return size >= 4096 && size <= MAX_STACK_BYTES && (size & (size - 1)) === 0 ? size : DEFAULT_STACK_BYTES;
}

/**
 * Returns the symbol of an address, like `sprint_backtrace` (kernel/kallsyms.c): a call may be a function's last instruction,
 * so the byte before a return address is looked up. `before` is 1 for a return address, 0 for an instruction.
 */
function symbolOf(names: AddressNames, address: bigint, before: number): string {
  const found = names.find(fromBigInt(address - BigInt(before)));
  if (found === undefined) return "";
  const module = found.module === "" ? "" : ` [${found.module}]`;
  const size = found.sizeBytes === undefined ? "" : `/0x${found.sizeBytes.toString(16)}`;
  return `${found.name}+0x${(found.offset + before).toString(16)}${size}${module}`;
}

/** Returns whether an address can be code: it has a symbol of the kernel, a module or a BPF program. */
export function isText({ kernel, names }: UnwindTask, address: bigint): boolean {
  const at = fromBigInt(address - 1n);
  const within = (from: string, to: string): boolean => {
    const [start, end] = [kernel.symbols.address(from), kernel.symbols.address(to)];
    if (start === undefined || end === undefined) return false;
    return address > toBigInt(start.hi, start.lo) && address <= toBigInt(end.hi, end.lo);
  };
  if (within("_stext", "_etext") || within("_sinittext", "_einittext")) return true;
  const found = names.find(at);
  return found !== undefined && found.module !== "";
}
