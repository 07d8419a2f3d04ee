import { UsageError } from "../errors.ts";
import { stringify } from "../report/json.ts";
import type { FrameLines } from "../report/symbol.ts";
import { stackJson, stackLines } from "../report/task-stack.ts";
import type { BpfState } from "../state.ts";
import type { TaskStack } from "../task-stack.ts";
import { type Command, command } from "./command.ts";
import { indentOf } from "./print.ts";
import { fromKernelMemory, openSource, warnAll } from "./source.ts";

const MAX_PID = 2 ** 22;

const stack: Command = command({
  name: "ktstr task stack",
  description: "Print a task's kernel stack",
  options: ["lines"],
  grammar: "pid PID",
  examples: [
    "ktstr task stack pid 1",
    "ktstr task stack pid 1 --memory mem",
    "ktstr task stack pid 17 --lines --memory mem",
    "ktstr -j task stack pid 17 --memory mem",
  ],
  async start(context) {
    const { out, options, words } = context;
    const pid = pidOf(words);
    const lines = options.own["lines"] === true ? await import("../report/symbol.ts") : undefined;
    const withLines = (state: BpfState, stack: TaskStack): StackWithLines => ({
      stack,
      lines: lines && new lines.PlaceNames(state).linesOfFrames(stack.frames.map(({ symbol }) => symbol)),
    });
    const found = await fromKernelMemory(
      options,
      ({ state }) => {
        const found = withLines(state, state.stack(pid));
        warnAll(context, state);
        return found;
      },
      async (why) => {
        const [{ readProcStack }, { realSys }] = await Promise.all([
          import("../live/task-stack.ts"),
          import("../live/sys.ts"),
        ]);
        const stack = readProcStack(realSys, pid, why);
        if (lines === undefined) return { stack, lines };
        using source = await openSource(options, () => false);
        const found = withLines(source.state, stack);
        warnAll(context, source.state);
        return found;
      },
    );
    if (options.json) out.line(stringify(stackJson(found.stack, found.lines), indentOf(context)));
    else for (const line of stackLines(found.stack, found.lines)) out.line(line);
    return found.stack.stopped === "" ? 0 : 1;
  },
});

export default stack;

interface StackWithLines {
  readonly stack: TaskStack;
  /** Undefined without `--lines`. */
  readonly lines: FrameLines | undefined;
}

function pidOf(words: readonly string[]): number {
  const [keyword, text = "", ...rest] = words;
  if (keyword !== "pid") throw new UsageError("task stack: no task given", { hint: "pid PID" });
  if (rest.length > 0) throw new UsageError(`task stack: unexpected arguments: ${rest.join(" ")}`);
  const pid = Number(text);
  if (!/^\d+$/.test(text) || pid === 0 || pid > MAX_PID)
    throw new UsageError(`task stack: ${JSON.stringify(text)} is not a pid`);
  return pid;
}
