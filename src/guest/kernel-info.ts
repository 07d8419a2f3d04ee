/** What `uname`, `/proc` and `/sys` tell about a machine, from the variables behind them. */
import { at, bytes, i32, i64, place, struct, u64 } from "../btf/struct.ts";
import type { KernelInfo } from "../state.ts";
import { cutAtNul } from "../uapi/layout.ts";
import type { GuestKernel } from "./kernel.ts";
import { add, type Pointer } from "./pointer.ts";

const UTS_BYTES = 65;
const UTS = struct("uts_namespace", {
  release: at(bytes(UTS_BYTES), "name.release"),
  version: at(bytes(UTS_BYTES), "name.version"),
  machine: at(bytes(UTS_BYTES), "name.machine"),
});
const CPUMASK = struct("cpumask", { bits: place });
const STATIC_KEY = struct("static_key", { enabled: at(i32, "enabled.counter") });
/** CLOCK_REALTIME is CLOCK_MONOTONIC + offs_real, CLOCK_BOOTTIME is CLOCK_MONOTONIC + offs_boot. */
const TIMEKEEPER = struct("timekeeper", { offs_real: i64, offs_boot: i64 });
/** Since 6.13 (a nameless struct before): what holds the timekeeper. */
const TK_DATA = struct("tk_data", { timekeeper: place });

/** CONFIG_NR_CPUS goes up to 8192 on the architectures that are read. */
const MAX_CPU_BYTES = 1024;

/** Throws `GuestFault` where `init_uts_ns` or the CPU masks cannot be read. */
export function readKernelInfo(kernel: GuestKernel): KernelInfo {
  const { memory, btf } = kernel;
  const uts = UTS.resolve(btf);
  const names = kernel.expect("init_uts_ns");
  const text = (offset: number, member: string): string =>
    Buffer.from(cutAtNul(memory.copy(names.hi, names.lo, offset, UTS_BYTES, `init_uts_ns.name.${member}`))).toString(
      "utf8",
    );
  return {
    release: text(uts.release, "release"),
    version: text(uts.version, "version"),
    machine: text(uts.machine, "machine"),
    possibleCpus: countCpus(kernel, "__cpu_possible_mask"),
    onlineCpus: countCpus(kernel, "__cpu_online_mask"),
    pageSize: 1 << memory.tables.mode.pageShift,
    statsEnabled: readStatsEnabled(kernel),
    bootTimeUnixNs: readBootTime(kernel),
  };
}
