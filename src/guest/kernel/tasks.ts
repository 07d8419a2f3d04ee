/** Lists every thread of the machine: `init_task.tasks` -> processes, `signal->thread_head` -> threads. */
import { at, bytes, i32, place, ptr, struct } from "../../btf/struct.ts";
import { add, type Pointer } from "../memory/pointer.ts";
import type { GuestKernel } from "./kernel.ts";
import { StructAt } from "./struct-at.ts";
import { requireSymbol } from "./symbols.ts";

const TASK_COMM_LEN = 16;
const TASK = struct("task_struct", {
  tasks: place,
  next: at(ptr, "tasks.next"),
  thread_node: place,
  signal: ptr,
  pid: i32,
  tgid: i32,
  comm: bytes(TASK_COMM_LEN),
  // An int; one byte since 7.2. The value is 0 or 1.
  on_cpu: bytes(1),
});
const SIGNAL = struct("signal_struct", { first: at(ptr, "thread_head.next"), thread_head: place });
const LIST_HEAD = struct("list_head", { next: ptr });
/** PID_MAX_LIMIT (include/linux/threads.h). */
const MAX_TASKS = 4 * 2 ** 20;

/** A `struct task_struct`. */
export interface TaskAt {
  readonly at: StructAt;
  readonly pid: number;
  readonly tgid: number;
  /** Raw bytes as text; control characters are not escaped. */
  readonly comm: string;
  /** Whether the task is running on a CPU, so that its registers are not in memory. */
  readonly onCpu: boolean;
}

/** Yields the tasks in the kernel's order, without the idle tasks. Throws `GuestFault` if a list is damaged. */
export function* tasks(kernel: GuestKernel): Generator<TaskAt> {
  const { memory, btf, symbols } = kernel;
  const layout = TASK.resolve(btf);
  const signals = SIGNAL.resolve(btf);
  const { next } = LIST_HEAD.resolve(btf);
  const init = requireSymbol(symbols, "init_task");
  const head = add(init, layout.tasks);
  const follow = (list: Pointer, what: string): Pointer => memory.pointer(list.hi, list.lo, next, what);
  let steps = 0;
  let process = follow(head, "init_task.tasks.next");
  while (!same(process, head) && steps++ < MAX_TASKS) {
    const leader = new StructAt(memory, add(process, -layout.tasks), "task_struct.");
    const signal = leader.pointer(layout.signal, "signal");
    const threads = add(signal, signals.thread_head);
    let thread = follow(threads, "signal_struct.thread_head.next");
    while (!same(thread, threads) && steps++ < MAX_TASKS) {
      yield taskAt(kernel, add(thread, -layout.thread_node));
      thread = follow(thread, "task_struct.thread_node.next");
    }
    process = follow(process, "task_struct.tasks.next");
  }
}

const same = (a: Pointer, b: Pointer): boolean => a.hi === b.hi && a.lo === b.lo;

/** Reads a `struct task_struct *`. Throws `GuestFault`. */
export function taskAt({ memory, btf }: GuestKernel, address: Pointer): TaskAt {
  const layout = TASK.resolve(btf);
  const task = new StructAt(memory, address, "task_struct.");
  return {
    at: task,
    pid: task.i32(layout.pid, "pid"),
    tgid: task.i32(layout.tgid, "tgid"),
    comm: task.inlineString(layout.comm, "comm", TASK_COMM_LEN),
    onCpu: task.u8(layout.on_cpu, "on_cpu") !== 0,
  };
}
