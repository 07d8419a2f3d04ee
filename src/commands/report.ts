import pkg from "../../package.json" with { type: "json" };
import { KtstrError, UsageError } from "../errors.ts";
import type { KernelLog } from "../kernel-log.ts";
import { type Made, reportPage } from "../report/html/report.ts";
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
  description: "Write everything to one HTML page, for a bug report or a mail",
  options: ["output", "limit", "stats"],
  grammar: "[RECORD | A B]",
  examples: [
    "ktstr report -o page.html               # the running kernel",
    "ktstr report --memory mem -o page.html",
    "ktstr report run.ktstr -o page.html     # a record: costs over time",
    "ktstr report before.json after.json -o page.html",
    "ktstr report --sample -o - | gzip > page.html.gz",
  ],
  async start(context) {
    const { options, words } = context;
    const [first, second, ...rest] = words;
    if (rest.length > 0) throw new UsageError(`report: unexpected arguments: ${rest.join(" ")}`);
    const path = textOption(options, "output");
    if (path === undefined || path === "")
      throw new UsageError("report: no output file given: -o FILE", { hint: "`-o -` is standard output" });
    if (first !== undefined) refuseMachineOptions(context);
    const page =
      first === undefined
        ? await pageOfMachine(context)
        : second === undefined
          ? await pageOfRecord(first)
          : await pageOfDiff(context, first, second);
    writePage(context, path, page);
    return 0;
  },
});

export default report;

/** For saved files. Throws `UsageError` if an option selects a machine, or the data to read from it. */
function refuseMachineOptions({ options }: Context): void {
  if (options.memory.length > 0)
    throw new UsageError("report: --memory cannot be combined with files to report on", {
      hint: "ktstr report RECORD, or ktstr report A B, without --memory",
    });
  for (const name of ["limit", "stats"] as const)
    if (options.own[name] !== undefined)
      throw new UsageError(`report: --${name} applies to a machine, and not to saved files`);
}

const made = (): Made => ({ unixSeconds: BigInt(Math.floor(Date.now() / 1000)), version: pkg.version });

/** File name without directories, which the page must not disclose. */
const nameOf = (path: string): string => path.replace(/^.*\//, "");

async function pageOfRecord(path: string): Promise<string> {
  const [{ openRecord }, { summarizeRecord }, { recordPage }] = await Promise.all([
    import("../report/record-read.ts"),
    import("../report/record-summary.ts"),
    import("../report/html/record.ts"),
  ]);
  return recordPage(summarizeRecord(openRecord(path)), nameOf(path), made());
}

async function pageOfDiff(context: Context, a: string, b: string): Promise<string> {
  const [{ snapshotOf }, { buildDiff }, { diffPage }] = await Promise.all([
    import("./snapshot.ts"),
    import("../report/diff.ts"),
    import("../report/html/diff.ts"),
  ]);
  const before = await snapshotOf(context, a);
  const after = await snapshotOf(context, b);
  return diffPage(
    buildDiff(before.snapshot, after.snapshot),
    [nameOf(before.source), nameOf(after.source)],
    made(),
  );
}

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
    origin: context.options.memory.map(nameOf).join(" ") || "the running kernel",
    made: made(),
  });
}

/** Reads the pages that `sched` prints; empty with a warning if they cannot be read. */
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

/** An existing file is replaced only after the page is complete. */
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
