/** Types that both data paths return for the kernel's log. */

/** One message: `struct printk_info` and its text. */
export interface LogRecord {
  /** Sequence number since boot, from 0. */
  readonly seq: bigint;
  /** `local_clock()` in nanoseconds. /dev/kmsg has a resolution of microseconds. */
  readonly timeNs: bigint;
  /** 0 (emerg) to 7 (debug). */
  readonly level: number;
  /** The syslog facility. 0 is the kernel; others were written through /dev/kmsg. */
  readonly facility: number;
  /** "T123" for a task, "C2" for a CPU in an interrupt; "" if the kernel does not record it (CONFIG_PRINTK_CALLER is off). */
  readonly caller: string;
  /** Can contain several lines and arbitrary bytes. */
  readonly text: Uint8Array;
  /** `dev_printk_info`: "pci" and "+pci:0000:00:01.0"; empty for messages without a device. */
  readonly subsystem: Uint8Array;
  readonly device: Uint8Array;
}

export interface KernelLog {
  /** By ascending `seq`. */
  readonly records: readonly LogRecord[];
  /** Number of records without readable text, by reason ("not finalized"). */
  readonly torn: ReadonlyMap<string, number>;
  /** Number of records that were overwritten before they were read, computed from gaps in the sequence numbers. */
  readonly overwritten: bigint;
}

export interface LogAccessor {
  /** Throws `KtstrError` if the log cannot be read. */
  log(): KernelLog;
}

/** include/linux/kern_levels.h, with the names of util-linux. */
export const LOG_LEVELS = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"] as const;

/** The facilities of syslog(3). */
const FACILITIES = [
  ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"],
  ["local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"],
] as const;
const FIRST_LOCAL = 16;

/** Returns "kern", "daemon" and so on, or the number if syslog(3) has no name for it. */
export function facilityName(facility: number): string {
  const [named, local] = FACILITIES;
  return named[facility] ?? local[facility - FIRST_LOCAL] ?? String(facility);
}

/** Collects the results of a walk over the ring buffer. */
export class LogBuilder {
  readonly #records: LogRecord[] = [];
  readonly #torn: Map<string, number> = new Map();

  add(record: LogRecord): void {
    this.#records.push(record);
  }

  tear(reason: string): void {
    this.#torn.set(reason, (this.#torn.get(reason) ?? 0) + 1);
  }

  /** Returns the log. Sequence numbers start at 0, so the first record's number is the number of overwritten records. */
  finish(): KernelLog {
    return {
      records: this.#records,
      torn: this.#torn,
      overwritten: this.#records[0]?.seq ?? 0n,
    };
  }
}
