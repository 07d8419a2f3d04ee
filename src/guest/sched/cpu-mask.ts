/** Sets of CPUs. */
import type { GuestKernel } from "../kernel/kernel.ts";
import type { Pointer } from "../memory/pointer.ts";

/** `struct cpumask *` -> the possible CPUs that are in it, ascending. Throws `GuestFault`. */
export function cpusOf({ memory, cpus }: GuestKernel, mask: Pointer, path: string): number[] {
  const { possible } = cpus;
  const words = 1 + ((possible.at(-1) ?? 0) >>> 5);
  const at = memory.expect(mask.hi, mask.lo, 0, 4 * words, path);
  const found: number[] = [];
  for (const cpu of possible)
    if ((memory.view.getUint32(at + 4 * (cpu >>> 5), true) >>> (cpu & 31)) & 1) found.push(cpu);
  return found;
}
