/** The kernel's log as text and as JSON, and the selection of records. */
import { KtstrError } from "../errors.ts";
import { facilityName, type KernelLog, LOG_LEVELS, type LogRecord } from "../kernel-log.ts";
import { printable } from "../text.ts";
import type { Json } from "./json.ts";

export interface LogQuery {
  /** For each level, whether it is shown; undefined: all are. */
  readonly levels: readonly boolean[] | undefined;
  /** Nanoseconds of the log's clock; negative: relative to its newest record; undefined: from its beginning. */
  readonly sinceNs: bigint | undefined;
}

export function selectRecords({ records }: KernelLog, { levels, sinceNs }: LogQuery): LogRecord[] {
  const newest = records.reduce((latest, { timeNs }) => (timeNs > latest ? timeNs : latest), 0n);
  const from = sinceNs === undefined ? 0n : sinceNs < 0n ? newest + sinceNs : sinceNs;
  return records.filter(({ level, timeNs }) => timeNs >= from && levels?.[level] !== false);
}

/**
 * Parses levels in the grammar of util-linux's dmesg: "err,warn" shows these levels, "err+" this level and more severe
 * ones. Throws `KtstrError` for an unknown level.
 */
export function parseLevels(text: string): boolean[] {
  const shown = LOG_LEVELS.map(() => false);
  for (const word of text.split(",")) {
    const andAbove = word.endsWith("+");
    const name = andAbove ? word.slice(0, -1) : word;
    const level = (LOG_LEVELS as readonly string[]).indexOf(name);
    if (level < 0)
      throw new KtstrError(`${JSON.stringify(name)} is not a level`, {
        hint: `levels are ${LOG_LEVELS.join(", ")}; "err+" is err and more severe levels`,
      });
    for (let each = andAbove ? 0 : level; each <= level; each++) shown[each] = true;
  }
  return shown;
}

const NS = 1_000_000_000n;
const WIDEST_LEVEL = 6;

/** Formats as the kernel's `print_time` does (kernel/printk/printk.c): "[   12.345678]". */
export function timeText(timeNs: bigint): string {
  const micro = String((timeNs % NS) / 1000n).padStart(6, "0");
  return `[${String(timeNs / NS).padStart(5)}.${micro}]`;
}

/** Returns one line per line of the record's text. Like the kernel, repeats the prefix for each line. */
export function recordLines(record: LogRecord): string[] {
  const level = LOG_LEVELS[record.level] ?? String(record.level);
  const source = record.facility === 0 ? level : `${facilityName(record.facility)}.${level}`;
  const caller = record.caller === "" ? "" : ` ${record.caller.padStart(6)}`;
  const start = `${source.padEnd(WIDEST_LEVEL)} ${timeText(record.timeNs)}${caller}  `;
  return linesOf(record.text).map((line) => start + line);
}

const NEWLINE = 0x0a;
const TAB = 0x09;

function linesOf(text: Uint8Array): string[] {
  return split(text, NEWLINE).map((line) => split(line, TAB).map(printable).join("\t"));
}

function split(bytes: Uint8Array, at: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let from = 0;
  for (let end = bytes.indexOf(at); end >= 0; end = bytes.indexOf(at, from)) {
    parts.push(bytes.subarray(from, end));
    from = end + 1;
  }
  parts.push(bytes.subarray(from));
  return parts;
}

/** The log in the form of `schema/dmesg.schema.json`. */
export function logJson(log: KernelLog, records: readonly LogRecord[]): Json {
  return {
    schema: "ktstr-dmesg",
    schema_version: 1,
    records: records.map(recordJson),
    torn: Object.fromEntries(log.torn),
    overwritten: log.overwritten,
  };
}

function recordJson(record: LogRecord): Json {
  const named = (bytes: Uint8Array): string | undefined =>
    bytes.length === 0 ? undefined : printable(bytes);
  return {
    seq: record.seq,
    time_ns: record.timeNs,
    level: LOG_LEVELS[record.level],
    facility: facilityName(record.facility),
    caller: record.caller === "" ? undefined : record.caller,
    text: linesOf(record.text).join("\n"),
    subsystem: named(record.subsystem),
    device: named(record.device),
  };
}

/** Describes records that are not shown because they are damaged or overwritten; "" if there are none. */
export function tornSentence({ torn, overwritten }: KernelLog): string {
  const counts = [...torn].map(([reason, count]) => `${count} × ${reason}`);
  const parts = counts.length === 0 ? [] : [`records without text: ${counts.join(", ")}`];
  if (overwritten > 0n) parts.push(`the first ${overwritten} records were overwritten`);
  return parts.join("; ");
}
