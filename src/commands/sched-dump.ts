import { UsageError } from "../errors.ts";
import { schedDumpsJson } from "../report/sched-dump-json.ts";
import { dumpLines } from "../sched-text/format.ts";
import { escapeText } from "../text.ts";
import { type Command, command } from "./command.ts";
import { printJson } from "./print.ts";
import { openKernelMemory, warnAll } from "./source.ts";

const dump: Command = command({
  name: "ktstr sched dump",
  description: "Print the kernel's own dump of a scheduler (SysRq-D), from memory",
  examples: [
    "ktstr sched dump",
    "ktstr sched dump --memory mem",
    "ktstr -j sched dump --memory mem",
    "ktstr sched dump --memory mem | ktstr sched explain -",
  ],
  async start(context) {
    const { words, options, out, warn } = context;
    if (words.length > 0) throw new UsageError(`sched dump: unexpected arguments: ${words.join(" ")}`);
    using source = await openKernelMemory(options);
    const found = source.state.schedulerDumps();
    if (options.json) printJson(context, schedDumpsJson(found));
    else
      for (const one of found.dumps)
        for (const line of dumpLines(one, found.cpuCount)) out.line(escapeText(line));
    if (found.callbacks.length > 0)
      warn(
        `the scheduler's callbacks ${found.callbacks.map((name) => `ops.${name}`).join(", ")} are not run, so their lines are missing`,
      );
    for (const sentence of found.missing) warn(sentence);
    warnAll(context, source.state);
    return 0;
  },
});

export default dump;
