/** Splits a log into lines and strips the prefixes of journal, console, dmesg, tracing and container logs. */

export interface LogLine {
  /** Without the prefix. Leading blanks are kept: they show the indentation. */
  readonly text: string;
  /** The writer of the line: "scx_simple[123]", "kernel"; "" if the log does not name it. */
  readonly source: string;
  /** Line number in the file, from 1. */
  readonly number: number;
}

/** Maximum length of a line; longer lines are cut. The kernel formats a line in `SCX_EXIT_MSG_LEN`, 1,024 bytes. */
const MAX_LINE = 4096;

/** Prefix patterns. Each strips one layer. The group `source` captures the writer if the layer names it. */
const LAYERS: readonly RegExp[] = [
  // tracefs, trace-cmd: `  sh-2145    [000] d..1.    40.140226: sched_ext_dump: TEXT`; perf adds the subsystem
  /^\s{0,20}\S.{0,40}?-\d+\s+(?:\(\s*[-\d]+\)\s+)?\[\d+\]\s+(?:[^\s:]{4,8}\s+)?[\d.]+: (?:\w+:)?(?<source>\w+):(?: |$)/,
  /^\s{0,20}\S.{0,40}?\s+\d+\s+\[\d+\]\s+[\d.]+: (?:\w+:)?(?<source>\w+):(?: |$)/,
  // docker compose; quotes in GitHub issues
  /^[\w.-]+\s*\| /,
  /^> /,
  // ISO time of journalctl -o short-iso and of CI logs: `2026-11-26T12:00:00+0000 host `, `2026-11-26T12:00:00.1Z `
  /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)(?: \S+ (?<source>[^\s:[]+(?:\[\d+\])?):)?(?: |$)/,
  // journalctl -o short, short-precise, short-full, with-unit
  /^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d+)? \S+ (?<source>[^\s:[]+(?:\[\d+\])?):(?: |$)/,
  /^[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? \S+ \S+ (?<source>[^\s:[]+(?:\[\d+\])?):(?: |$)/,
  // journalctl -o short-unix, short-monotonic
  /^(?:\[ *\d+\.\d+\]|\d{9,11}\.\d+) [\w.-]+ (?<source>[^\s:[]+(?:\[\d+\])?):(?: |$)/,
  // dmesg -x, the console's level and time, CONFIG_PRINTK_CALLER, /dev/kmsg
  /^[a-z]+ {0,4} ?:[a-z]+ {0,4} ?: (?=\[)/,
  /^(?:<\d{1,3}>)?\[(?: *\d+\.\d+|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4})\](?:\[ *[TC]\d+\])?(?: |$)/,
  /^\d{1,4},\d+,\d+,[^;]{0,40};/,
];

/** Maximum number of nested prefix layers. */
const MAX_LAYERS = 4;

/**
 * Yields the lines of a log in the order of the file. A byte order mark, carriage returns and terminal colors are removed.
 */
export function* logLines(log: string): Generator<LogLine> {
  let number = 0;
  let start = log.charCodeAt(0) === 0xfeff ? 1 : 0;
  while (start < log.length) {
    let end = log.indexOf("\n", start);
    if (end < 0) end = log.length;
    yield unwrap(log.slice(start, Math.min(end, start + MAX_LINE)), ++number);
    start = end + 1;
  }
}

function unwrap(line: string, number: number): LogLine {
  let text = line.replace(/\u001b\[[\d;]*[mK]/g, "").replace(/\r+$/, "");
  let source = "";
  for (let layer = 0; layer < MAX_LAYERS; layer++) {
    let found: RegExpExecArray | null = null;
    for (const pattern of LAYERS) {
      found = pattern.exec(text);
      if (found !== null) break;
    }
    if (found === null || found[0].length === 0) break;
    source = found.groups?.["source"] ?? source;
    text = text.slice(found[0].length);
  }
  return { text, source, number };
}
