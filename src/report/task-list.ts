/** `task show`: tasks as text, as JSON (schema/task.schema.json), and as fields of filters and orders. */
import type { TaskInfo } from "../sched-state.ts";
import { escapeText } from "../text.ts";
import { type Json, JsonList } from "./json.ts";
import type { Fields } from "./record-query.ts";
import { secondsText } from "./sched-findings.ts";

/** Incremented if a member is removed or changes its meaning, not if members are added. */
const TASK_SCHEMA_VERSION = 1;

/** `SCX_TASK_QUEUED`: the task is on a run queue of sched_ext. */
const QUEUED = 1;

const waitOf = ({ state, scx }: TaskInfo): number | undefined =>
  scx === undefined || state !== "R" || ((scx.flags ?? 0) & QUEUED) === 0 ? undefined : scx.waitMs;

const cpuOf = ({ scx }: TaskInfo): number | undefined =>
  scx === undefined || scx.cpu < 0 ? undefined : scx.cpu;

/** `SCHED_*` of include/uapi/linux/sched.h. */
const POLICIES = ["NORMAL", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE", "EXT"];

const policyOf = ({ policy }: TaskInfo): string => POLICIES[policy] ?? String(policy);
/** Strips the suffix: "ext" for "ext_sched_class". */
const classOf = ({ schedClass }: TaskInfo): string => schedClass.replace(/_sched_class$/, "");

/** Fields, with the names of the JSON keys. */
export const TASK_FIELDS: Fields<TaskInfo> = {
  pid: { kind: "number", read: ({ pid }) => pid },
  tgid: { kind: "number", read: ({ tgid }) => tgid },
  comm: { kind: "text", read: ({ comm }) => comm },
  state: { kind: "text", read: ({ state }) => state },
  class: { kind: "text", read: classOf },
  policy: { kind: "text", read: policyOf },
  rt_priority: { kind: "number", read: ({ rtPriority }) => rtPriority },
  cgroup: { kind: "text", read: ({ cgroupPath }) => cgroupPath },
  cpu: { kind: "number", read: cpuOf },
  scx_state: { kind: "number", read: ({ scx }) => scx?.scxState },
  scx_state_name: { kind: "text", read: ({ scxState }) => scxState },
  flags: { kind: "number", read: ({ scx }) => scx?.flags },
  wait_ms: { kind: "number", read: waitOf },
  weight: { kind: "number", read: ({ scx }) => scx?.weight },
  slice_ns: { kind: "number", read: ({ scx }) => scx?.sliceNs },
  dsq_vtime: { kind: "number", read: ({ scx }) => scx?.vtime },
};

export function taskText(task: TaskInfo): string {
  const { pid, tgid, comm, state, cgroupPath, rtPriority, scxState, scxFlags } = task;
  const wait = waitOf(task);
  const cpu = cpuOf(task);
  const parts = [
    `${pid}: ${escapeText(comm)}`,
    `tgid ${tgid}`,
    state,
    classOf(task),
    rtPriority === 0 ? policyOf(task) : `${policyOf(task)} ${rtPriority}`,
    ...(cpu === undefined ? [] : [`CPU ${cpu}`]),
    ...(scxState === undefined ? [] : [`scx ${[scxState, ...scxFlags].map(escapeText).join("|")}`]),
    ...(wait === undefined ? [] : [`runnable for ${secondsText(wait)}`]),
    ...(cgroupPath === undefined ? [] : [escapeText(cgroupPath)]),
  ];
  return parts.join("  ");
}

/** All tasks, to print with `writeJson`. */
export function tasksJson(tasks: readonly TaskInfo[]): Json {
  return {
    schema: "ktstr-task",
    schema_version: TASK_SCHEMA_VERSION,
    tasks: new JsonList(() => tasks.values().map(taskJson)),
  };
}

function taskJson(task: TaskInfo): Json {
  const { pid, tgid, comm, state, rtPriority, cgroupPath, scx, scxState, scxFlags } = task;
  return {
    pid,
    tgid,
    comm: escapeText(comm),
    state,
    class: classOf(task),
    policy: policyOf(task),
    rt_priority: rtPriority,
    cgroup: cgroupPath === undefined ? undefined : escapeText(cgroupPath),
    cpu: cpuOf(task),
    scx_state: scx?.scxState,
    scx_state_name: scxState,
    flags: scx?.flags,
    flag_names: scx === undefined ? undefined : scxFlags,
    wait_ms: waitOf(task),
    weight: scx?.weight,
    slice_ns: scx?.sliceNs,
    dsq_vtime: scx?.vtime,
  };
}
