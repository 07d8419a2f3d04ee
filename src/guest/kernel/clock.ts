/** Reads the guest's clocks at the time of the freeze. */
import type { Btf } from "../../btf/btf.ts";
import { at, i64, place, struct, u32, u64 } from "../../btf/struct.ts";
import type { GuestMemory } from "../memory/memory.ts";
import type { Pointer } from "../memory/pointer.ts";
import type { Symbols } from "./symbols.ts";

const TIMEKEEPER = struct("timekeeper", {
  offs_real: i64,
  offs_boot: i64,
  base: at(i64, "tkr_mono.base"),
  xtimeNsec: at(u64, "tkr_mono.xtime_nsec"),
  shift: at(u32, "tkr_mono.shift"),
});
const TK_DATA = struct("tk_data", { timekeeper: place });
/**
 * Before 6.13 the timekeeper is in an anonymous struct, after a sequence counter of 4 bytes and padding
 * (kernel/time/timekeeping.c, tk_core).
 */
const UNNAMED_TIMEKEEPER = 8;
/** Limit on a plausible time: a clock that was never set counts from 1970, and nanoseconds in a s64 end in 2262. */
const MAX_NS = 2n ** 63n;

/** Reads members of the core `struct timekeeper`, `start` bytes after `base`; undefined if they are not in the image. */
class Timekeeper {
  readonly #memory: GuestMemory;
  readonly #base: Pointer;
  readonly #start: number;

  constructor(memory: GuestMemory, base: Pointer, start: number) {
    this.#memory = memory;
    this.#base = base;
    this.#start = start;
  }

  signed(offset: number): bigint | undefined {
    const at = this.#locate(offset, 8);
    return at < 0 ? undefined : this.#memory.view.getBigInt64(at, true);
  }

  u32(offset: number): number | undefined {
    const at = this.#locate(offset, 4);
    return at < 0 ? undefined : this.#memory.view.getUint32(at, true);
  }

  #locate(offset: number, size: number): number {
    return this.#memory.locate(this.#base.hi, this.#base.lo, this.#start + offset, size);
  }
}

export interface Clocks {
  /** `getboottime64()`: `offs_real - offs_boot`, Unix time of boot in nanoseconds; undefined if it is not plausible. */
  readonly bootTimeUnixNs: bigint | undefined;
  /**
   * CLOCK_BOOTTIME in nanoseconds at the last tick: `ktime_get_boottime()` without the clock source's count since then
   * (kernel/time/timekeeping.c). Undefined if it is not plausible.
   */
  readonly uptimeNs: bigint | undefined;
}

/** Reads the core timekeeper. Both clocks are undefined if this kernel stores it differently. */
export function clocks(memory: GuestMemory, symbols: Symbols, btf: Btf): Clocks {
  const named = symbols.address("timekeeper_data") ?? symbols.address("tk_core");
  const offsets = TIMEKEEPER.resolveIfPresent(btf);
  if (named === undefined || offsets === undefined) return { bootTimeUnixNs: undefined, uptimeNs: undefined };
  const start = TK_DATA.resolveIfPresent(btf)?.timekeeper ?? UNNAMED_TIMEKEEPER;
  const keeper = new Timekeeper(memory, named, start);
  const real = keeper.signed(offsets.offs_real);
  const sinceBoot = keeper.signed(offsets.offs_boot);
  const base = keeper.signed(offsets.base);
  const fraction = keeper.signed(offsets.xtimeNsec);
  const shift = keeper.u32(offsets.shift);
  const boot = real === undefined || sinceBoot === undefined ? undefined : real - sinceBoot;
  return { bootTimeUnixNs: plausible(boot), uptimeNs: plausible(uptime()) };

  function uptime(): bigint | undefined {
    if (base === undefined || sinceBoot === undefined || fraction === undefined || shift === undefined)
      return undefined;
    // A shift is at most 32 (kernel/time/clocksource.c, clocks_calc_mult_shift).
    return shift > 32 ? undefined : base + (BigInt.asUintN(64, fraction) >> BigInt(shift)) + sinceBoot;
  }
}

function plausible(ns: bigint | undefined): bigint | undefined {
  return ns !== undefined && ns >= 0n && ns < MAX_NS ? ns : undefined;
}
