/** Reads the number of a map's elements from its own counters, which is faster than a walk. */
import { LayoutError, optional, ptr, struct } from "../../../btf/struct.ts";
import { isArrayMap, isHashMap, isPerCpuHashMap, MapType } from "../../../uapi/names.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { perCpuAddress } from "../../kernel/percpu.ts";
import { GuestFault } from "../../memory/fault.ts";
import { isNull } from "../../memory/pointer.ts";
import type { GuestMap } from "./walk.ts";

/** Returns undefined if only a walk can count the elements. */
export function elementCount(kernel: GuestKernel, map: GuestMap): number | undefined {
  const { type, maxEntries } = map.info;
  if (isArrayMap(type)) return maxEntries;
  const isHash = isHashMap(type) || isPerCpuHashMap(type) || type === MapType.hash_of_maps;
  return isHash ? hashCount(kernel, map) : undefined;
}

const BPF_MAP = struct("bpf_map", { elem_count: optional(ptr, "`s64 __percpu *`, since 6.6") });

/**
 * `bpf_map_sum_elem_count` (kernel/bpf/map_iter.c): each CPU counts additions minus removals. Undefined if the kernel does not
 * count, or if the counters are not in the image or not plausible.
 */
function hashCount(kernel: GuestKernel, { info, at: { hi, lo } }: GuestMap): number | undefined {
  const { memory, btf, cpus } = kernel;
  const path = `map ${info.id}.elem_count`;
  try {
    const offset = BPF_MAP.resolve(btf).elem_count;
    if (offset === undefined) return undefined;
    const counts = memory.pointer(hi, lo, offset, path);
    if (isNull(counts)) return undefined;
    let sum = 0n;
    for (const area of cpus.areas) {
      const at = perCpuAddress(counts, area);
      sum += BigInt.asIntN(64, memory.u64(at.hi, at.lo, 0, path));
    }
    return sum >= 0n && sum <= BigInt(info.maxEntries) ? Number(sum) : undefined;
  } catch (error) {
    if (error instanceof GuestFault || error instanceof LayoutError) return undefined;
    throw error;
  }
}
