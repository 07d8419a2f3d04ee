import { Fd } from "../ffi.ts";
import { BPF_STATS_RUN_TIME, ENABLE_STATS_ATTR } from "../uapi/bpf.ts";
import { Attr } from "./attr.ts";
import { bpfOrThrow, realSys, type Sys } from "./sys.ts";

/**
 * Enables run-time statistics (`BPF_ENABLE_STATS`) until the returned descriptor is closed or this process ends. Throws
 * `SyscallError`. Needs CAP_SYS_ADMIN and Linux 5.8.
 */
export function enableStats(sys: Sys = realSys): Fd {
  const attr = new Attr(ENABLE_STATS_ATTR, { type: BPF_STATS_RUN_TIME });
  return new Fd(bpfOrThrow(sys, "BPF_ENABLE_STATS", attr, ""), "run-time statistics", sys.close);
}

/** Returns `kernel.bpf_stats_enabled`. Descriptors of `enableStats` do not change it. */
export function statsSwitchedOn(sys: Sys): boolean | undefined {
  const bytes = sys.readFile("/proc/sys/kernel/bpf_stats_enabled");
  return bytes === undefined ? undefined : bytes[0] === 0x31;
}
