/** Reads the CPUs, and the offset of each CPU's copy of per-CPU variables. */
import type { Btf } from "../../btf/btf.ts";
import { place, struct } from "../../btf/struct.ts";
import type { GuestMemory } from "../memory/memory.ts";
import { type Pointer, pointer } from "../memory/pointer.ts";
import { requireSymbol, type Symbols } from "./symbols.ts";

const CPUMASK = struct("cpumask", { bits: place });
/** CONFIG_NR_CPUS is at most 8192 on the supported architectures. */
const MAX_CPUS = 8192;

/** A CPU that can be online, and `__per_cpu_offset[cpu]`. */
export interface PerCpuArea {
  readonly cpu: number;
  readonly offset: Pointer;
}

export interface Cpus {
  /** `cpu_possible_mask`, ascending. */
  readonly possible: readonly number[];
  readonly onlineCount: number;
  /** The possible CPUs that have an area, from which per-CPU values are read. */
  readonly areas: readonly PerCpuArea[];
  /** Possible CPUs without an area: an offset of 0 for a CPU above 0 was never set. */
  readonly missing: readonly number[];
}

/**
 * Reads `__cpu_possible_mask`, `__cpu_online_mask` and `__per_cpu_offset`. The offsets of CPUs that are not possible are
 * ignored: x86-64 sets them to the boot CPU's initial area (arch/x86/kernel/setup_percpu.c). Throws `GuestFault` or
 * `KtstrError` if they cannot be found.
 */
export function readCpus(memory: GuestMemory, symbols: Symbols, btf: Btf): Cpus {
  const possible = readMask(memory, symbols, btf, "__cpu_possible_mask");
  const table = requireSymbol(symbols, "__per_cpu_offset");
  const areas: PerCpuArea[] = [];
  const missing: number[] = [];
  for (const cpu of possible) {
    const offset = memory.pointer(table.hi, table.lo, 8 * cpu, `__per_cpu_offset[${cpu}]`);
    if (cpu > 0 && (offset.hi | offset.lo) === 0) missing.push(cpu);
    else areas.push({ cpu, offset });
  }
  return {
    possible,
    onlineCount: readMask(memory, symbols, btf, "__cpu_online_mask").length,
    areas,
    missing,
  };
}

/** `per_cpu_ptr(at, cpu)`: the address of a CPU's copy of a per-CPU variable or allocation. */
export function perCpuAddress(at: Pointer, area: PerCpuArea): Pointer {
  const low = (at.lo >>> 0) + (area.offset.lo >>> 0);
  return pointer(at.hi + area.offset.hi + (low >= 2 ** 32 ? 1 : 0), low);
}

/** Returns the set bits of a `struct cpumask`. */
function readMask(memory: GuestMemory, symbols: Symbols, btf: Btf, name: string): number[] {
  const at = requireSymbol(symbols, name);
  const size = Math.min(CPUMASK.resolve(btf).sizeof, MAX_CPUS / 8);
  const bytes = memory.copy(at.hi, at.lo, 0, size, name);
  const cpus: number[] = [];
  for (let at = 0; at < size; at++) {
    // Skips zero words: a mask for 8,192 CPUs is mostly empty.
    for (let left = bytes[at]!, cpu = 8 * at; left !== 0; left >>>= 1, cpu++) if (left & 1) cpus.push(cpu);
  }
  return cpus;
}
