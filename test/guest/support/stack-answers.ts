/** Compares kernel stacks in memory with the guest's own /proc/PID/stack. */
import { expect } from "bun:test";
import type { GuestKernel } from "../../../src/guest/kernel/kernel.ts";
import { toBigInt } from "../../../src/guest/memory/pointer.ts";
import type { TaskStack } from "../../../src/task-stack.ts";

/** Parses `==> /proc/1/task/17/FILE <==` and the text after it, by the id of the thread. */
function byThread(answer: string): Map<number, string> {
  const parts = answer.split(/^==> \/proc\/\d+\/task\/(\d+)\/\w+ <==\n/m).slice(1);
  const threads = new Map<number, string>();
  for (let at = 0; at + 1 < parts.length; at += 2) threads.set(Number(parts[at]), parts[at + 1]!);
  return threads;
}

/** `in_sched_functions` (kernel/sched/core.c): /proc/PID/stack leaves out functions of the scheduler and of locks. */
function schedText({ symbols }: GuestKernel): (address: bigint) => boolean {
  const bound = (name: string): bigint => {
    const at = symbols.address(name);
    return at === undefined ? 0n : toBigInt(at.hi, at.lo);
  };
  const ranges = ["sched", "lock"].map((text) => [
    bound(`__${text}_text_start`),
    bound(`__${text}_text_end`),
  ]);
  return (address) => ranges.some(([start, end]) => address >= start! && address < end!);
}

/** Such as "do_wait+0x5a/0x120". */
const symbolOf = (line: string): string => line.replace(/^\[<0>\] /, "");

/** /proc has no stack of a zombie, because it was freed. */
const stoppedFor = (lines: readonly string[]): string =>
  lines.length === 0 ? "it has no stack: it is dead" : "";

/**
 * Compares stacks of threads that have not run since the guest answered: their counts of context switches in memory equal those
 * in /proc/PID/status. Returns their number.
 */
export function expectSameStacks(
  kernel: GuestKernel,
  stacks: Iterable<TaskStack>,
  switchesOf: (pid: number) => string,
  answers: { readonly stack: string; readonly status: string },
): number {
  const theirs = byThread(answers.stack);
  const status = byThread(answers.status);
  const inSched = schedText(kernel);
  let compared = 0;
  const wrong: string[] = [];
  for (const stack of stacks) {
    const printed = theirs.get(stack.pid);
    const counts = [...(status.get(stack.pid) ?? "").matchAll(/^(?:non)?voluntary_ctxt_switches:\t(\d+)$/gm)];
    if (printed === undefined || counts.map(([, count]) => count).join() !== switchesOf(stack.pid)) continue;
    if (stack.stopped.startsWith("it was running")) continue;
    const lines = printed.trim() === "" ? [] : printed.trim().split("\n").map(symbolOf);
    const ours = stack.frames.filter(({ address }) => !inSched(address!)).map(({ symbol }) => symbol);
    if (ours.join("\n") !== lines.join("\n") || stack.stopped !== stoppedFor(lines))
      wrong.push(
        `pid ${stack.pid} ${stack.comm} (${stack.stopped}):\n${ours.join("\n")}\n--- not ---\n${lines.join("\n")}`,
      );
    compared++;
  }
  expect(wrong.slice(0, 3)).toEqual([]);
  return compared;
}
