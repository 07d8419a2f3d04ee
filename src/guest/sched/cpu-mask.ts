/** Reads CPU masks. */
import type { GuestKernel } from "../kernel/kernel.ts";
import type { Pointer } from "../memory/pointer.ts";

/** Caches CPU masks: most tasks of a machine have the same mask, and share one list. */
export class CpuMasks {
  readonly #kernel: GuestKernel;
  readonly #known = new Map<string, readonly number[]>();
  /** The words of the last mask, and its CPUs. */
  #words = new Uint32Array(0);
  #cpus: readonly number[] = [];

  constructor(kernel: GuestKernel) {
    this.#kernel = kernel;
  }

  /** Like `cpusOf`. */
  at(mask: Pointer, path: string): readonly number[] {
    const { memory, cpus } = this.#kernel;
    const words = 1 + ((cpus.possible.at(-1) ?? 0) >>> 5);
    const at = memory.expect(mask.hi, mask.lo, 0, 4 * words, path);
    let same = words === this.#words.length;
    for (let word = 0; word < words && same; word++)
      same = memory.view.getUint32(at + 4 * word, true) === this.#words[word];
    if (same) return this.#cpus;
    this.#words = Uint32Array.from({ length: words }, (_, word) =>
      memory.view.getUint32(at + 4 * word, true),
    );
    const key = this.#words.join();
    this.#cpus = this.#known.get(key) ?? cpusOf(this.#kernel, mask, path);
    this.#known.set(key, this.#cpus);
    return this.#cpus;
  }
}

/** Reads a `struct cpumask *`: the possible CPUs in it, ascending. Throws `GuestFault`. */
export function cpusOf({ memory, cpus }: GuestKernel, mask: Pointer, path: string): number[] {
  const { possible } = cpus;
  const words = 1 + ((possible.at(-1) ?? 0) >>> 5);
  const at = memory.expect(mask.hi, mask.lo, 0, 4 * words, path);
  const found: number[] = [];
  for (const cpu of possible)
    if ((memory.view.getUint32(at + 4 * (cpu >>> 5), true) >>> (cpu & 31)) & 1) found.push(cpu);
  return found;
}
