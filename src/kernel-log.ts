/** The kernel's log: what both data paths read of it. */

/** One message: a `struct printk_info` and its text. */
export interface LogRecord {
  /** Counts from 0 at boot. */
  readonly seq: bigint;
  /** `local_clock()` in nanoseconds; /dev/kmsg gives whole microseconds. */
  readonly timeNs: bigint;
  /** 0 (emerg) to 7 (debug). */
  readonly level: number;
  /** A syslog facility: 0 is the kernel, others were written through /dev/kmsg. */
  readonly facility: number;
  /** "T123": the task, "C2": the CPU in an interrupt; "" where the kernel does not tell (CONFIG_PRINTK_CALLER is off). */
  readonly caller: string;
  /** May have several lines, and any bytes. */
  readonly text: Uint8Array;
  /** `dev_printk_info`: "pci" and "+pci:0000:00:01.0"; empty for messages that are of no device. */
  readonly subsystem: Uint8Array;
  readonly device: Uint8Array;
}

export interface KernelLog {
  /** By ascending `seq`. */
  readonly records: readonly LogRecord[];
  /** Records that exist and have no text to show, by reason ("not finalized"). */
  readonly torn: ReadonlyMap<string, number>;
  /** Records whose place was used again before they were read, as far as gaps between sequence numbers tell. */
  readonly overwritten: bigint;
}

export interface LogAccessor {
  /** Throws `KtstrError` where the log cannot be read at all. */
  log(): KernelLog;
}

/** include/linux/kern_levels.h, in util-linux's words. */
export const LOG_LEVELS = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"] as const;

/** include/uapi/linux/syslog.h's callers use the facilities of syslog(3). */
const FACILITIES = [
  ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"],
  ["local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"],
] as const;
const FIRST_LOCAL = 16;

/** "kern", "daemon"; the number where syslog(3) has no name for it. */
export function facilityName(facility: number): string {
  const [named, local] = FACILITIES;
  return named[facility] ?? local[facility - FIRST_LOCAL] ?? String(facility);
}

/** Collects what a walk over the ring finds. */
export class LogBuilder {
  readonly #records: LogRecord[] = [];
  readonly #torn: Map<string, number> = new Map();

  add(record: LogRecord): void {
    this.#records.push(record);
  }

  tear(reason: string): void {
    this.#torn.set(reason, (this.#torn.get(reason) ?? 0) + 1);
  }

  /** The first record of a ring that lost none has the sequence number 0. */
  finish(): KernelLog {
    return {
      records: this.#records,
      torn: this.#torn,
      overwritten: this.#records[0]?.seq ?? 0n,
    };
  }
}
