import { UsageError } from "../errors.ts";
import { findingsOf } from "../report/sched-findings.ts";
import { SCHED_SCHEMA_VERSION, schedJson } from "../report/sched-json.ts";
import { writeSched } from "../report/sched-page.ts";
import { type Command, command, described } from "./command.ts";
import { countOption } from "./option-values.ts";
import { printJson } from "./print.ts";
import { readSchedViews } from "./sched-views.ts";
import { terminalStyle } from "./terminal.ts";

const DEFAULT_LIMIT = 32;

const sched: Command = command({
  name: "ktstr sched",
  description: "sched_ext: why tasks wait, dispatch queues, CPUs, events",
  options: ["limit", "lines"],
  examples: [
    "ktstr sched",
    "ktstr --memory mem sched",
    "ktstr -j --memory mem sched",
    "ktstr sched --lines --memory mem",
    "ktstr sched dump --memory mem",
    "ktstr sched explain stall.log",
  ],
  subCommands: {
    dump: described(
      "Print the kernel's own dump of a scheduler (SysRq-D), from memory",
      async () => (await import("./sched-dump.ts")).default,
    ),
    explain: described(
      "Explain a scheduler's dump from a kernel's journal, console log or trace",
      async () => (await import("./sched-explain.ts")).default,
    ),
  },
  async start(context) {
    const { words, options, out } = context;
    if (words.length > 0) throw new UsageError(`sched: unexpected arguments: ${words.join(" ")}`);
    const { views, state } = await readSchedViews(context);
    const limit = countOption(options, "limit") ?? DEFAULT_LIMIT;
    if (options.json) {
      const schedulers = views.map((view) => schedJson(view, findingsOf(view)));
      const all = { schema: "ktstr-sched", schema_version: SCHED_SCHEMA_VERSION, schedulers };
      printJson(context, all);
    } else if (views.length === 0) out.line(`No scheduler is loaded; sched_ext is ${state}.`);
    (options.json ? [] : views).forEach((view, index) => {
      if (index > 0) out.line("\n");
      writeSched(out, view, findingsOf(view), limit, terminalStyle());
    });
    return 0;
  },
});

export default sched;
