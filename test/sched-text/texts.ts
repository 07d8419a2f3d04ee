/** Dumps that kernels of the lab printed into their trace: by `echo D > /proc/sysrq-trigger`, and at an ejection. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export const TEXTS = [
  "6.16-simple",
  "6.17-starved",
  "6.18-flatcg",
  "6.19-starved",
  "7.0-starved",
  "7.1-starved",
  "7.2-central",
  "7.2-lost-comm",
  "7.2-lost-dsq",
  "7.2-lost-comm-ejected",
  "7.2-pinned",
  "7.3-sdt",
] as const;

export const tracePath = (name: string): string => join(import.meta.dir, "texts", `${name}.trace`);

/** Reads the trace as tracefs returned it. */
export const trace = (name: string): string => readFileSync(tracePath(name), "utf8");

/** Returns the kernel's own lines, without the prefix up to the event's name. */
export function plain(name: string): string[] {
  return trace(name)
    .split("\n")
    .flatMap((line) =>
      line.includes(" sched_ext_dump: ") ? [line.replace(/^.*? sched_ext_dump: /, "")] : [],
    );
}

/**
 * The form of 6.12, which no kernel of the lab has: from the format strings of its `scx_dump_state` and `scx_dump_task`
 * (kernel/sched/ext.c), with values of a 7.2 guest and masks as printed with 33 possible CPUs.
 */
export const FORM_OF_6_12: readonly string[] = [
  "kworker/u8:1[29] triggered exit kind 1026:",
  "  runnable task stall (victim-1[134] failed to run for 6.332s)",
  "",
  "Backtrace:",
  "  scx_watchdog_workfn+0x18e/0x240",
  "",
  "CPU states",
  "----------",
  "",
  "CPU 0   : nr_run=1 flags=0x1 cpu_rel=0 pnt_seq=13490",
  "          curr=swapper/0[0] class=idle_sched_class",
  "  cpus_to_kick   : 1,00000002",
  "",
  "  R victim-1[134] -6332ms",
  "      scx_state/flags=3/0x9 dsq_flags=0x0 ops_state/qseq=2/1",
  "      sticky/holding_cpu=-1/-1 dsq_id=(n/a) dsq_vtime=77",
  "      cpus=0,00000003",
  "",
  "    vfs_read+0x3e5/0x490",
  "    ksys_read+0xcf/0x110",
];
