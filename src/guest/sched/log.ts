/** Reads when schedulers were enabled and disabled from the kernel's log. */
import { struct, u64 } from "../../btf/struct.ts";
import type { LogRecord } from "../../kernel-log.ts";
import type { SchedulerState } from "../../sched-state.ts";
import { exitKindOf, exitKindText } from "../../sched-text/exit-kinds.ts";
import { readNotices, type SchedNotice } from "../../sched-text/notices.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { perCpuAddress } from "../kernel/percpu.ts";
import { readPrintk } from "../kernel/printk.ts";
import { requireSymbol } from "../kernel/symbols.ts";

const RQ = struct("rq", { clock: u64 });

interface Line {
  readonly text: string;
  readonly record: LogRecord;
}

/**
 * Adds the times in the log to the schedulers, by name. If `schedulers` is empty, returns the last scheduler that the log
 * reports as disabled. Throws `KtstrError` if the log or the clock cannot be read.
 */
export function withTimes(kernel: GuestKernel, schedulers: readonly SchedulerState[]): SchedulerState[] {
  const notices = schedNotices(kernel);
  const now = schedClockNs(kernel);
  const sinceMs = (notice: SchedNotice<Line> | undefined): number | undefined =>
    notice === undefined ? undefined : Math.round(Number(now - notice.line.record.timeNs) / 1e6);
  if (schedulers.length === 0) {
    const last = notices.at(-1);
    if (last === undefined || last.isEnabled || last.isSub) return [];
    const enabled = notices.findLast(({ isEnabled, opsName }) => isEnabled && opsName === last.opsName);
    return [{ ...schedulerOf(last), enabledMs: sinceMs(enabled), disabledMs: sinceMs(last) }];
  }
  return schedulers.map((scheduler) => {
    const own = notices.filter(
      ({ opsName, isSub }) => opsName === scheduler.opsName && isSub === scheduler.level > 0,
    );
    const disabled = scheduler.isLoaded ? undefined : own.findLast(({ isEnabled }) => !isEnabled);
    return {
      ...scheduler,
      enabledMs: sinceMs(own.findLast(({ isEnabled }) => isEnabled)),
      disabledMs: sinceMs(disabled),
    };
  });
}

function schedulerOf({ opsName, reason, message, backtrace }: SchedNotice<Line>): SchedulerState {
  const kind = exitKindOf(reason);
  const kindName = kind === undefined ? undefined : exitKindText(kind);
  return {
    opsName,
    isLoaded: false,
    enabledMs: undefined,
    mapId: undefined,
    disabledMs: undefined,
    level: 0,
    place: "root",
    parent: undefined,
    cgroupPath: undefined,
    cgroupId: undefined,
    flags: undefined,
    flagNames: [],
    bypassDepth: undefined,
    exit: { kind, kindName, code: undefined, reason, message, cpu: undefined, backtrace, dump: "" },
    events: [],
  };
}

/** Returns the notices ordered by time. Throws `KtstrError` if the log cannot be read. */
function schedNotices(kernel: GuestKernel): SchedNotice<Line>[] {
  // The lines of one caller are in order, but lines of other callers can be between them.
  const byCaller = new Map<string, Line[]>();
  for (const record of readPrintk(kernel).records) {
    const line = { text: Buffer.from(record.text).toString("utf8"), record };
    const lines = byCaller.get(record.caller);
    if (lines === undefined) byCaller.set(record.caller, [line]);
    else lines.push(line);
  }
  const found = [...byCaller.values()].flatMap((lines) => readNotices(lines));
  return found.sort((a, b) => (a.line.record.seq < b.line.record.seq ? -1 : 1));
}

/**
 * Returns the latest `rq->clock` of all CPUs, in nanoseconds: the scheduler's clock at its last event before the freeze. It
 * is `sched_clock_cpu()`, like the log's times (`local_clock()`). Throws `GuestFault`.
 */
function schedClockNs(kernel: GuestKernel): bigint {
  const { memory, btf, symbols, cpus } = kernel;
  const runqueues = requireSymbol(symbols, "runqueues");
  const { clock } = RQ.resolve(btf);
  let latest = 0n;
  for (const area of cpus.areas) {
    const { hi, lo } = perCpuAddress(runqueues, area);
    const at = memory.u64(hi, lo, clock, "rq->clock");
    if (at > latest) latest = at;
  }
  return latest;
}
