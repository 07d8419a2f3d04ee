import { UsageError } from "../errors.ts";
import type { Inspection } from "../report/inspection.ts";
import { type Command, type Context, command } from "./command.ts";
import { countOption } from "./option-values.ts";
import { indentOf } from "./print.ts";
import { openSource } from "./source.ts";
import { withStats } from "./stats.ts";
import { cutWidth, terminalStyle, terminalWidth } from "./terminal.ts";

const DEFAULT_LIMIT = 8;

const inspect: Command = command({
  name: "ktstr inspect",
  description: "Show everything: kernel, scheduler, programs, maps with contents",
  options: ["limit", "stats"],
  examples: [
    "ktstr inspect",
    "ktstr inspect --stats 1   # with the run-time costs of one second",
    "ktstr -j inspect",
  ],
  async start(context) {
    if (context.words.length > 0)
      throw new UsageError(`inspect: unexpected arguments: ${context.words.join(" ")}`);
    const limit = countOption(context.options, "limit") ?? DEFAULT_LIMIT;
    const interval = await withStats(context);
    // Loads the report's code while a capture is decompressed.
    const [source, { buildInspection }, print] = await Promise.all([
      openSource(context.options, () => true),
      import("../report/inspection.ts"),
      printer(context),
      context.options.memory.length > 0 ? loadGuestCode() : undefined,
    ]);
    using _ = source;
    print(buildInspection(source.state, limit, interval));
    return 0;
  },
});

export default inspect;

/** Loads modules in advance. Otherwise guest.ts loads each of them at its first use, while nothing else runs. */
async function loadGuestCode(): Promise<void> {
  await Promise.all([
    import("../guest/bpf/cgroup-progs.ts"),
    import("../guest/bpf/networks.ts"),
    import("../guest/bpf/perf-fds.ts"),
    import("../guest/bpf/pins.ts"),
    import("../guest/image/core.ts"),
    import("../guest/sched/report.ts"),
    import("../guest/task/orc.ts"),
    import("../report/arena-objects.ts"),
  ]);
}

async function printer(context: Context): Promise<(inspection: Inspection) => void> {
  const { out, options } = context;
  if (!options.json) {
    const { writeInspection } = await import("../report/inspection-text.ts");
    out.columns = cutWidth();
    return (inspection) => writeInspection(out, inspection, terminalStyle(), terminalWidth());
  }
  const { inspectionJson } = await import("../report/inspection-json.ts");
  const { stringify } = await import("../report/json.ts");
  return (inspection) => void out.line(stringify(inspectionJson(inspection), indentOf(context)));
}
