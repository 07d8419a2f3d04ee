/** Reads a program's run-time counters by CPU: `struct bpf_prog_stats`, which stats.ts sums. */
import { at, optional, struct, u64 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { CpuStats, ProgInfo } from "../../state.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { perCpuAddress } from "../kernel/percpu.ts";
import { StructAt } from "../kernel/struct-at.ts";
import { fromBigInt, isNull } from "../memory/pointer.ts";
import { statsOf } from "./progs.ts";

const STATS = struct("bpf_prog_stats", {
  count: at(u64, "cnt"),
  runTimeNs: at(u64, "nsecs"),
  misses: optional(u64, "since 5.12"),
});

/** Returns counters by ascending CPU. Throws `KtstrError` if there are none, `GuestFault` if a CPU's counters cannot be read. */
export function readCpuStats(kernel: GuestKernel, prog: ProgInfo): CpuStats[] {
  const { memory, btf, cpus } = kernel;
  const from = statsOf(kernel, fromBigInt(prog.address ?? 0n));
  if (isNull(from)) throw new KtstrError("the program has no counters");
  const layout = STATS.resolve(btf);
  return cpus.areas.map((area) => {
    const own = new StructAt(memory, perCpuAddress(from, area), `bpf_prog.stats of CPU ${area.cpu}->`);
    return {
      cpu: area.cpu,
      count: own.u64(layout.count, "cnt"),
      runTimeNs: own.u64(layout.runTimeNs, "nsecs"),
      misses: layout.misses === undefined ? 0n : own.u64(layout.misses, "misses"),
    };
  });
}
