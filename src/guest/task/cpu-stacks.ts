/** Finds the stacks that belong to a CPU: a running task may be in an interrupt or an exception. */
import { at, optional, place, struct, u64 } from "../../btf/struct.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { type PerCpuArea, perCpuAddress } from "../kernel/percpu.ts";
import type { StackRange } from "./stack.ts";

/** x86-64. */
const IRQ_STACK = struct("irq_stack", { stack: place });
const EXCEPTION_STACKS = struct("cea_exception_stacks", { stack: at(place, "NMI_stack") });
/** 6.2 to 6.15. */
const PCPU_HOT = struct("pcpu_hot", { irq: at(optional(u64, "6.2 to 6.15"), "hardirq_stack_ptr") });

/**
 * Returns the interrupt and exception stacks of a CPU. x86-64: `hardirq_stack_ptr` points to the last word of the interrupt
 * stack (arch/x86/kernel/irq_64.c); `cea_exception_stacks` includes guard pages. arm64: `irq_stack_ptr` is the lowest
 * address (arch/arm64/kernel/irq.c); the stack is as large as a task's. Throws `GuestFault`.
 */
export function cpuStacks(kernel: GuestKernel, area: PerCpuArea, taskStackBytes: number): StackRange[] {
  const { memory, btf, symbols } = kernel;
  const variable = (name: string, offset = 0): bigint | undefined => {
    const symbol = symbols.address(name);
    if (symbol === undefined) return undefined;
    const { hi, lo } = perCpuAddress(symbol, area);
    return memory.u64(hi, lo, offset, name);
  };
  const ranges: StackRange[] = [];
  const add = (low: bigint | undefined, size: number | undefined): void => {
    if (low !== undefined && size !== undefined && low !== 0n) ranges.push({ low, high: low + BigInt(size) });
  };
  const irqBytes = IRQ_STACK.resolveIfPresent(btf)?.sizeof;
  const hot = PCPU_HOT.resolveIfPresent(btf)?.irq;
  const top = variable("hardirq_stack_ptr") ?? (hot === undefined ? undefined : variable("pcpu_hot", hot));
  if (irqBytes !== undefined && top !== undefined) add(top + 8n - BigInt(irqBytes), irqBytes);
  add(variable("cea_exception_stacks"), EXCEPTION_STACKS.resolveIfPresent(btf)?.sizeof);
  add(variable("irq_stack_ptr"), taskStackBytes);
  return ranges;
}
