import { UsageError } from "../errors.ts";
import { stringify } from "../report/json.ts";
import { stackJson, stackLines } from "../report/task-stack.ts";
import { type Command, command } from "./command.ts";
import { indentOf } from "./print.ts";
import { fromKernelMemory, warnAll } from "./source.ts";

const MAX_PID = 2 ** 22;

const stack: Command = command({
  name: "ktstr task stack",
  description: "Print a task's kernel stack",
  grammar: "pid PID",
  examples: [
    "ktstr task stack pid 1",
    "ktstr task stack pid 1 --memory mem",
    "ktstr -j task stack pid 17 --memory mem",
  ],
  async start(context) {
    const { out, options, words } = context;
    const pid = pidOf(words);
    const found = await fromKernelMemory(
      options,
      ({ state }) => {
        const stack = state.stack(pid);
        warnAll(context, state);
        return stack;
      },
      async (why) => {
        const [{ readProcStack }, { realSys }] = await Promise.all([
          import("../live/task-stack.ts"),
          import("../live/sys.ts"),
        ]);
        return readProcStack(realSys, pid, why);
      },
    );
    if (options.json) out.line(stringify(stackJson(found), indentOf(context)));
    else for (const line of stackLines(found)) out.line(line);
    return found.stopped === "" ? 0 : 1;
  },
});

export default stack;

function pidOf(words: readonly string[]): number {
  const [keyword, text = "", ...rest] = words;
  if (keyword !== "pid") throw new UsageError("task stack: of which task?", { hint: "pid PID" });
  if (rest.length > 0) throw new UsageError(`task stack: too much: ${rest.join(" ")}`);
  const pid = Number(text);
  if (!/^\d+$/.test(text) || pid === 0 || pid > MAX_PID)
    throw new UsageError(`task stack: ${JSON.stringify(text)} is no pid`);
  return pid;
}
