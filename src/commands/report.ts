import pkg from "../../package.json" with { type: "json" };
import { KtstrError, UsageError } from "../errors.ts";
import type { KernelLog } from "../kernel-log.ts";
import { reportPage } from "../report/html/report.ts";
import { type InspectedSched, schedViews } from "../report/inspect-sched.ts";
import { buildInspection } from "../report/inspection.ts";
import { stringify } from "../report/json.ts";
import { findingsOf } from "../report/sched-findings.ts";
import { sizeText } from "../report/units.ts";
import type { SchedAccessor } from "../sched-state.ts";
import { escapeText } from "../text.ts";
import { type Command, type Context, command } from "./command.ts";
import { countOption, textOption } from "./option-values.ts";
import { indentOf } from "./print.ts";
import { readSchedViews } from "./sched-views.ts";
import { openSource, Progress, type Source } from "./source.ts";
import { withStats } from "./stats.ts";
import { writeWholeFile } from "./whole-file.ts";

const DEFAULT_LIMIT = 8;

const report: Command = command({
  name: "ktstr report",
  description: "Write everything as one HTML page, to hand around",
  options: ["output", "limit", "stats"],
  grammar: "",
  examples: [
    "ktstr report -o page.html               # the running kernel",
    "ktstr report --memory mem -o page.html",
    "ktstr report --sample -o - | gzip > page.html.gz",
  ],
  async start(context) {
    const { options, words } = context;
    if (words.length > 0) throw new UsageError(`report: too much: ${words.join(" ")}`);
    const path = textOption(options, "output");
    if (path === undefined || path === "")
      throw new UsageError("report: into which file? -o FILE", { hint: "`-o -` is standard output" });
    writePage(context, path, await pageOfMachine(context));
    return 0;
  },
});

export default report;

async function pageOfMachine(context: Context): Promise<string> {
  const limit = countOption(context.options, "limit") ?? DEFAULT_LIMIT;
  const interval = await withStats(context);
  using source = await openSource(context.options, () => true);
  const { state } = source;
  const inspection = (() => {
    using progress = new Progress();
    return buildInspection(state, limit, interval, (done, total) =>
      progress.count("reading maps", done, total),
    );
  })();
  return reportPage({
    inspection,
    scheds: await schedsOf(context, source),
    log: logOf(source),
    origin: pageOrigin(context),
    made: { unixSeconds: BigInt(Math.floor(Date.now() / 1000)), version: pkg.version },
  });
}

/** Files by their names alone: where they lay is nobody's business who is given the page. */
const pageOrigin = ({ options }: Context): string =>
  options.memory.map((path) => path.replace(/^.*\//, "")).join(" ") || "the running kernel";

/** The pages that `sched` prints; none where they cannot be read, which is said. */
async function schedsOf(context: Context, { state, live }: Source): Promise<InspectedSched[]> {
  try {
    const { views } =
      live === undefined
        ? schedViews(state as typeof state & SchedAccessor, "")
        : await readSchedViews(context);
    return views.map((view) => ({ view, findings: findingsOf(view) }));
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
    context.warn(`sched_ext is not in the page: ${error.message}`);
    return [];
  }
}

function logOf({ state }: Source): KernelLog | string {
  try {
    return state.log();
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
    return error.message;
  }
}

/** A file that is there is replaced once the page is whole. */
function writePage(context: Context, path: string, page: string): void {
  const { out, options } = context;
  if (path === "-") {
    out.text(page);
    return;
  }
  const bytes = Buffer.from(page);
  writeWholeFile(path, [bytes], true);
  if (options.json) out.line(stringify({ file: path, file_bytes: bytes.length }, indentOf(context)));
  else out.line(`${escapeText(path)}: ${sizeText(bytes.length)}`);
}
