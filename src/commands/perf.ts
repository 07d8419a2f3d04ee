import { UsageError } from "../errors.ts";
import { perfJson, perfText } from "../report/perf.ts";
import { type Command, command } from "./command.ts";
import { printList } from "./print.ts";
import { openSource, warnAll } from "./source.ts";

const show: Command = command({
  name: "ktstr perf show",
  alias: "list",
  description: "List the programs that processes hold on perf events and raw tracepoints",
  examples: ["ktstr perf show", "ktstr -j perf show --memory mem"],
  async start(context) {
    const [word] = context.words;
    if (word !== undefined) throw new UsageError(`perf show: unexpected arguments: ${word}`);
    using source = await openSource(context.options, () => false);
    printList(context, source.state.perfAttachments(), perfJson, perfText, true);
    warnAll(context, source.state);
    return 0;
  },
});

const perf: Command = command({
  name: "ktstr perf",
  description: "Programs on perf events: tracepoints, kprobes, uprobes",
  examples: ["ktstr perf show"],
  subCommands: { show: async () => show },
});

export default perf;
