import { KtstrError, UsageError } from "../errors.ts";
import { queryRecords } from "../report/record-query.ts";
import { TASK_FIELDS, tasksJson, taskText } from "../report/task-list.ts";
import type { TaskInfo } from "../sched-state.ts";
import { type Command, command } from "./command.ts";
import { printJson } from "./print.ts";
import { queryOf } from "./query.ts";
import { openKernelMemory, warnAll } from "./source.ts";

const show: Command = command({
  name: "ktstr task show",
  description: "List tasks: class, policy, state, cgroup, wait on sched_ext",
  options: ["filter", "sort", "limit"],
  grammar: "[pid N|name X]",
  examples: [
    "ktstr task show",
    "ktstr task show name worker --memory mem",
    "ktstr task show --filter 'wait_ms >= 1000' --sort -wait_ms --limit 10",
  ],
  async start(context) {
    const { out, options, words } = context;
    const wanted = selectorOf(words);
    const query = queryRecords(TASK_FIELDS, queryOf(options));
    using source = await openKernelMemory(options);
    const { state } = source;
    let matched = 0;
    const found = query(chosen());
    if (options.json) printJson(context, tasksJson(found));
    else for (const task of found) out.line(taskText(task));
    warnAll(context, state);
    if (matched === 0 && words.length > 0) throw new KtstrError(`task show: no task has ${words.join(" ")}`);
    return 0;

    function* chosen(): Generator<TaskInfo> {
      for (const task of state.tasks()) {
        if (!wanted(task)) continue;
        matched++;
        yield task;
      }
    }
  },
});

export default show;

function selectorOf(words: readonly string[]): (task: TaskInfo) => boolean {
  const [keyword, value, ...rest] = words;
  if (keyword === undefined) return () => true;
  if (value === undefined || rest.length > 0 || (keyword !== "pid" && keyword !== "name"))
    throw new UsageError(`task show: ${words.join(" ")}: which task?`, { hint: "pid N, or name X" });
  if (keyword === "name") return ({ comm }) => comm === value;
  if (!/^\d{1,7}$/.test(value)) throw new UsageError(`task show: ${JSON.stringify(value)} is not a pid`);
  return ({ pid }) => pid === Number(value);
}
