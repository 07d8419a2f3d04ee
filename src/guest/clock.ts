/** The guest's clocks, as they stood when it froze. */
import type { Btf } from "../btf/btf.ts";
import { i64, place, struct } from "../btf/struct.ts";
import type { GuestMemory } from "./memory.ts";
import type { Pointer } from "./pointer.ts";
import type { Symbols } from "./symbols.ts";

const TIMEKEEPER = struct("timekeeper", { offs_real: i64, offs_boot: i64 });
const TK_DATA = struct("tk_data", { timekeeper: place });
/**
 * Before 6.13 the timekeeper lies in a struct without a name, behind a sequence counter of 4 bytes that its own
 * alignment rounds up (kernel/time/timekeeping.c, tk_core).
 */
const UNNAMED_TIMEKEEPER = 8;
/** A clock that was never set counts from 1970; one beyond 2262 does not fit the kernel's nanoseconds. */
const MAX_BOOT_NS = 2n ** 63n;

/**
 * `getboottime64()`: `offs_real - offs_boot` of the core timekeeper, Unix time of boot in nanoseconds; undefined
 * where this kernel keeps it elsewhere or the bytes cannot be.
 */
export function bootTimeUnixNs(memory: GuestMemory, symbols: Symbols, btf: Btf): bigint | undefined {
  const named = symbols.address("timekeeper_data") ?? symbols.address("tk_core");
  const offsets = TIMEKEEPER.resolveIfPresent(btf);
  if (named === undefined || offsets === undefined) return undefined;
  const start = TK_DATA.resolveIfPresent(btf)?.timekeeper ?? UNNAMED_TIMEKEEPER;
  const real = signed(memory, named, start + offsets.offs_real);
  const sinceBoot = signed(memory, named, start + offsets.offs_boot);
  if (real === undefined || sinceBoot === undefined) return undefined;
  const boot = real - sinceBoot;
  return boot >= 0n && boot < MAX_BOOT_NS ? boot : undefined;
}

function signed(memory: GuestMemory, { hi, lo }: Pointer, offset: number): bigint | undefined {
  const at = memory.locate(hi, lo, offset, 8);
  return at < 0 ? undefined : memory.view.getBigInt64(at, true);
}
