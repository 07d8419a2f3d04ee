/** Converts the kernel's jiffies to milliseconds. */
import { struct, u32 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { requireSymbol } from "../kernel/symbols.ts";

const CLOCKSOURCE = struct("clocksource", { mult: u32, shift: u32 });

export interface Jiffies {
  /** CONFIG_HZ. */
  readonly hz: number;
  /** Time from a value of jiffies to the last tick before the freeze; negative if the value is later. */
  sinceMs(then: bigint): number;
  toMs(count: bigint): number;
}

/**
 * Reads `jiffies`, and HZ from `clocksource_jiffies`, whose `mult >> shift` is TICK_NSEC (kernel/time/jiffies.c). Throws
 * `GuestFault`, and `KtstrError` if the kernel has no such symbol.
 */
export function readJiffies({ memory, btf, symbols }: GuestKernel): Jiffies {
  const at = requireSymbol(symbols, "jiffies");
  const now = memory.u64(at.hi, at.lo, 0, "jiffies");
  const source = requireSymbol(symbols, "clocksource_jiffies");
  const { mult, shift } = CLOCKSOURCE.resolve(btf);
  const shiftBits = memory.u32(source.hi, source.lo, shift, "clocksource_jiffies.shift");
  const tickNs = memory.u32(source.hi, source.lo, mult, "clocksource_jiffies.mult") / 2 ** shiftBits;
  const hz = Math.round(1e9 / tickNs);
  // CONFIG_HZ is at least 24 (alpha's RTC) and at most 1200.
  if (!(hz >= 24 && hz <= 1200)) throw new KtstrError(`clocksource_jiffies: HZ cannot be ${hz}`);
  const toMs = (count: bigint): number => Math.round((Number(BigInt.asIntN(64, count)) * 1000) / hz);
  return { hz, toMs, sinceMs: (then) => toMs(now - then) };
}
