import { KtstrError, UsageError } from "../errors.ts";
import { stringify } from "../report/json.ts";
import {
  type LogQuery,
  logJson,
  parseLevels,
  recordLines,
  selectRecords,
  tornSentence,
} from "../report/log.ts";
import { type Command, command, type Options } from "./command.ts";
import { textOption } from "./option-values.ts";
import { indentOf } from "./print.ts";
import { openSource, warnAll } from "./source.ts";

const dmesg: Command = command({
  name: "ktstr dmesg",
  description: "Print the kernel's log",
  options: ["level", "since"],
  examples: [
    "ktstr dmesg --memory mem                    # the log until the machine froze",
    "ktstr dmesg --memory mem --level warn+ --since -30",
    "ktstr -j dmesg                              # the running kernel's, from /dev/kmsg",
  ],
  async start(context) {
    const { out, options, words } = context;
    if (words.length > 0) throw new UsageError(`dmesg: unexpected arguments: ${words.join(" ")}`);
    const query = queryOf(options);
    using source = await openSource(options, () => false);
    const log = source.state.log();
    const records = selectRecords(log, query);
    if (options.json) out.line(stringify(logJson(log, records), indentOf(context)));
    else for (const record of records) for (const line of recordLines(record)) out.line(line);
    const torn = tornSentence(log);
    if (torn !== "") context.warn(`dmesg: ${torn}`);
    warnAll(context, source.state);
    return 0;
  },
});

export default dmesg;

function queryOf(options: Options): LogQuery {
  const level = textOption(options, "level");
  const since = textOption(options, "since");
  return {
    levels: level === undefined ? undefined : levelsOf(level),
    sinceNs: since === undefined ? undefined : nanosecondsOf(since),
  };
}

function levelsOf(text: string): boolean[] {
  try {
    return parseLevels(text);
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
    throw new UsageError(`--level ${text}: ${error.message}`, { hint: error.hint });
  }
}

/** Converts a number of seconds such as "120.5" to nanoseconds, exactly. */
function nanosecondsOf(text: string): bigint {
  const [, sign, whole, fraction = ""] = /^(-?)(\d{1,12})(?:\.(\d{1,9}))?$/.exec(text) ?? [];
  if (whole === undefined)
    throw new UsageError(`--since ${JSON.stringify(text)}: not a number of seconds`, {
      hint: "120.5: from this time of the log on; -30: the 30 seconds before the newest record",
    });
  const ns = BigInt(whole) * 1_000_000_000n + BigInt(fraction.padEnd(9, "0"));
  return sign === "-" ? -ns : ns;
}
