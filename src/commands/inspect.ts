import { UsageError } from "../errors.ts";
import { buildInspection } from "../report/inspection.ts";
import { inspectionJson } from "../report/inspection-json.ts";
import { writeInspection } from "../report/inspection-text.ts";
import { stringify } from "../report/json.ts";
import { type Command, command } from "./command.ts";
import { indentOf } from "./print.ts";
import { countOption } from "./query.ts";
import { openSource } from "./source.ts";
import { withStats } from "./stats.ts";
import { terminalStyle, terminalWidth } from "./terminal.ts";

const DEFAULT_LIMIT = 8;

const inspect: Command = command({
  name: "ktstr inspect",
  description: "Show everything: kernel, scheduler, programs, maps with contents",
  options: ["limit", "stats"],
  examples: [
    "ktstr inspect",
    "ktstr inspect --stats 1   # with one second's run-time costs",
    "ktstr -j inspect",
  ],
  async start(context) {
    if (context.words.length > 0) throw new UsageError(`inspect: too much: ${context.words.join(" ")}`);
    const limit = countOption(context.options, "limit") ?? DEFAULT_LIMIT;
    await withStats(context);
    using source = await openSource(context.options, () => true);
    const inspection = buildInspection(source.state, limit);
    const { out, options } = context;
    if (options.json) out.line(stringify(inspectionJson(inspection), indentOf(context)));
    else writeInspection(out, inspection, terminalStyle(), terminalWidth());
    return 0;
  },
});

export default inspect;
