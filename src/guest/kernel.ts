/** A kernel that was found in a memory image: what every walker reads through. */
import type { Btf } from "../btf/btf.ts";
import type { GuestMemory } from "./memory.ts";
import type { Pointer } from "./pointer.ts";

export interface GuestKernel {
  readonly memory: GuestMemory;
  /** The kernel's own types. */
  readonly btf: Btf;
  /** A symbol's address; undefined where this kernel has none of that name. */
  symbol(name: string): Pointer | undefined;
  /** What kallsyms has at or before an address. */
  symbolAt(at: Pointer): { readonly name: string; readonly offset: number } | undefined;
  /** Possible CPUs that have a per-CPU area, ascending. Unused slots (a zero offset past CPU 0) are not among them. */
  readonly cpus: readonly CpuArea[];
}

export interface CpuArea {
  readonly cpu: number;
  /** `__per_cpu_offset[cpu]`: what turns a per-CPU pointer into this CPU's. */
  readonly offset: Pointer;
}
