import { KtstrError, UsageError } from "../errors.ts";
import { findingsOf } from "../report/sched-findings.ts";
import { SCHED_SCHEMA_VERSION, schedJson } from "../report/sched-json.ts";
import { viewsOfLog } from "../report/sched-log.ts";
import { writeSched } from "../report/sched-page.ts";
import { type ParsedLog, parseLog } from "../sched-text/parse.ts";
import { type Command, type Context, command } from "./command.ts";
import { countOption } from "./option-values.ts";
import { printJson } from "./print.ts";
import { terminalStyle } from "./terminal.ts";

const DEFAULT_LIMIT = 32;

const explain: Command = command({
  name: "ktstr sched explain",
  description: "Explain a scheduler's dump from a kernel's journal, console log or trace",
  options: ["limit"],
  grammar: "FILE|-",
  examples: [
    "ktstr sched explain stall.log",
    "journalctl -b -u my-scheduler | ktstr sched explain -",
    "ktstr -j sched explain stall.log",
  ],
  async start(context) {
    const { words, options, out } = context;
    const [file, ...rest] = words;
    if (file === undefined) throw new UsageError("sched explain: no FILE given; - is standard input");
    if (rest.length > 0) throw new UsageError(`sched explain: unexpected arguments: ${rest.join(" ")}`);
    if (options.memory.length > 0)
      throw new UsageError("sched explain: it reads a text file, not memory", {
        hint: "`ktstr sched` shows the same for a memory file",
      });
    const limit = countOption(options, "limit") ?? DEFAULT_LIMIT;
    const name = file === "-" ? "standard input" : file;
    const log = parseLog(await readLog(file, name));
    const views = viewsOfLog(log, name);
    if (views.length === 0) throw noDump(log, name);
    if (options.json) {
      printJson(context, {
        schema: "ktstr-sched",
        schema_version: SCHED_SCHEMA_VERSION,
        schedulers: views.map((view) => schedJson(view, findingsOf(view))),
        log: logJson(log),
      });
      return 0;
    }
    views.forEach((view, index) => {
      if (index > 0) out.line("\n");
      writeSched(out, view, findingsOf(view), limit, terminalStyle());
    });
    writeLogNotes(context, log);
    return 0;
  },
});

export default explain;

function logJson(log: ParsedLog) {
  return {
    lines: log.lineCount,
    reversed: log.isReversed,
    unknown_lines: log.unknownCount,
    other_lines: log.outsideCount,
    notices: log.notices.map(({ text, line }) => ({ line, text })),
  };
}

/** Notes go to stderr: they are about the file, not the scheduler. */
function writeLogNotes({ warn }: Context, log: ParsedLog): void {
  const count = log.unknownCount;
  if (count > 0)
    warn(
      count === 1
        ? "1 line of the dumps is from the scheduler or has an unknown format: it is printed unchanged"
        : `${count} lines of the dumps are from the scheduler or have an unknown format: they are printed unchanged`,
    );
}

function noDump(log: ParsedLog, name: string): KtstrError {
  return new KtstrError(`sched explain: ${name}: no scx dump in its ${log.lineCount} lines`, {
    hint: "the scheduler prints it on stderr when it is ejected (journalctl -u UNIT); to request one, enable the tracepoint sched_ext:sched_ext_dump, run `echo D > /proc/sysrq-trigger`, and read the trace",
  });
}

/** Size limit of a log. */
const MAX_LOG_BYTES = 256 * 2 ** 20;

async function readLog(file: string, name: string): Promise<string> {
  try {
    const input = file === "-" ? Bun.stdin : Bun.file(file);
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of input.stream()) {
      size += chunk.length;
      if (size > MAX_LOG_BYTES)
        throw new KtstrError(`sched explain: ${name}: more than 256 MiB`, {
          hint: "pass only the part around `CPU states`",
        });
      chunks.push(chunk);
    }
    return new TextDecoder().decode(Buffer.concat(chunks));
  } catch (error) {
    if (error instanceof KtstrError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new KtstrError(`sched explain: cannot read ${name}: ${why}`);
  }
}
