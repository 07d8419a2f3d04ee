import { KtstrError, UsageError } from "../errors.ts";
import { stringify } from "../report/json.ts";
import { secondsText } from "../report/sched-findings.ts";
import type { TaskInfo } from "../sched-state.ts";
import { escapeText } from "../text.ts";
import { type Command, command } from "./command.ts";
import { countOption } from "./option-values.ts";
import { indentOf } from "./print.ts";
import { openKernelMemory, warnAll } from "./source.ts";

const show: Command = command({
  name: "ktstr task show",
  description: "List tasks: class, policy, state, cgroup, wait on sched_ext",
  options: ["limit"],
  grammar: "[pid N|name X]",
  examples: ["ktstr task show", "ktstr task show name worker --memory mem"],
  async start(context) {
    const { out, options, words } = context;
    const wanted = selectorOf(words);
    const limit = countOption(options, "limit") ?? Number.POSITIVE_INFINITY;
    using source = await openKernelMemory(options);
    const { state } = source;
    const found: TaskInfo[] = [];
    for (const task of state.tasks()) {
      if (found.length >= limit) break;
      if (wanted(task)) found.push(task);
    }
    if (options.json) out.line(stringify(found.map(taskJson), indentOf(context)));
    else for (const task of found) out.line(taskText(task));
    warnAll(context, state);
    if (found.length === 0 && words.length > 0)
      throw new KtstrError(`task show: no task has ${words.join(" ")}`);
    return 0;
  },
});

export default show;

function selectorOf(words: readonly string[]): (task: TaskInfo) => boolean {
  const [keyword, value, ...rest] = words;
  if (keyword === undefined) return () => true;
  if (value === undefined || rest.length > 0 || (keyword !== "pid" && keyword !== "name"))
    throw new UsageError(`task show: ${words.join(" ")}: which task?`, { hint: "pid N, or name X" });
  if (keyword === "name") return ({ comm }) => comm === value;
  if (!/^\d{1,7}$/.test(value)) throw new UsageError(`task show: ${JSON.stringify(value)} is no pid`);
  return ({ pid }) => pid === Number(value);
}

/** `SCX_TASK_QUEUED`: it is on a run queue of sched_ext. */
const QUEUED = 1;

const waitOf = ({ state, scx }: TaskInfo): number | undefined =>
  scx === undefined || state !== "R" || ((scx.flags ?? 0) & QUEUED) === 0 ? undefined : scx.waitMs;

/** `SCHED_*` of include/uapi/linux/sched.h. */
const POLICIES = ["NORMAL", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE", "EXT"];

function taskText(task: TaskInfo): string {
  const { pid, tgid, comm, state, schedClass, policy, cgroupPath, scx } = task;
  const wait = waitOf(task);
  const parts = [
    `${pid}: ${escapeText(comm)}`,
    `tgid ${tgid}`,
    state,
    schedClass.replace(/_sched_class$/, ""),
    POLICIES[policy] ?? `policy ${policy}`,
    ...(scx === undefined || scx.cpu < 0 ? [] : [`CPU ${scx.cpu}`]),
    ...(task.scxState === undefined ? [] : [`scx ${[task.scxState, ...task.scxFlags].join("|")}`]),
    ...(wait === undefined ? [] : [`since ${secondsText(wait)} runnable`]),
    ...(cgroupPath === undefined ? [] : [escapeText(cgroupPath)]),
  ];
  return parts.join("  ");
}

function taskJson(task: TaskInfo) {
  const { pid, tgid, comm, state, schedClass, policy, cgroupPath, scx } = task;
  return {
    pid,
    tgid,
    comm: escapeText(comm),
    state,
    class: schedClass,
    policy: POLICIES[policy] ?? String(policy),
    cgroup: cgroupPath === undefined ? undefined : escapeText(cgroupPath),
    cpu: scx === undefined || scx.cpu < 0 ? undefined : scx.cpu,
    scx_state: scx?.scxState,
    scx_state_name: task.scxState,
    flags: scx?.flags,
    flag_names: scx === undefined ? undefined : task.scxFlags,
    wait_ms: waitOf(task),
  };
}
