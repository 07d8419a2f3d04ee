/** Lists all tasks of a frozen machine, with their class, cgroup and sched_ext state. */
import { at, bytes, i32, optional, ptr, struct, u32 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { TaskInfo, TaskState } from "../../sched-state.ts";
import { flagNames, nameIn } from "../../scx-enums.ts";
import { kernfsPath } from "../bpf/maps/storage-owner.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { tasks } from "../kernel/tasks.ts";
import { isNull, type Pointer } from "../memory/pointer.ts";
import { readJiffies } from "./jiffies.ts";
import { ScxNames } from "./names.ts";
import { enableStateAt } from "./sched-ext.ts";
import { ScxTasks, stateLetter } from "./scx-task.ts";

const TASK = struct("task_struct", {
  policy: u32,
  rt_priority: u32,
  sched_class: ptr,
  // A long before 5.14; its lower half holds all of the bits.
  state: at(bytes(4), "__state", "state"),
  exit_state: i32,
  cgroups: optional(ptr, "with CONFIG_CGROUPS"),
});
const CSS_SET = struct("css_set", { dfl_cgrp: ptr });
const CGROUP = struct("cgroup", { kn: ptr });

/** Yields the tasks in the kernel's order, without the idle tasks. Throws `GuestFault` if a list is damaged. */
export function* listTasks(kernel: GuestKernel): Generator<TaskInfo> {
  const { btf } = kernel;
  const offsets = TASK.resolve(btf);
  const hasScx = enableStateAt(kernel) !== undefined;
  const scx = new ScxTasks(kernel, hasScx ? readJiffies(kernel) : { hz: 0, toMs: () => 0, sinceMs: () => 0 });
  const paths = new Map<string, string>();
  for (const { at: task, pid, tgid, comm } of tasks(kernel)) {
    yield {
      pid,
      tgid,
      comm,
      state: stateLetter(task.u32(offsets.state, "__state"), task.i32(offsets.exit_state, "exit_state")),
      policy: task.u32(offsets.policy, "policy"),
      rtPriority: task.u32(offsets.rt_priority, "rt_priority"),
      schedClass: scx.className(task.pointer(offsets.sched_class, "sched_class")),
      cgroupPath:
        offsets.cgroups === undefined
          ? undefined
          : orNone(() => path(task.pointer(offsets.cgroups!, "cgroups"))),
      ...ofScx(hasScx ? orNone(() => scx.at(task.at)) : undefined),
    };
  }

  function ofScx(own: TaskState | undefined): Pick<TaskInfo, "scx" | "scxState" | "scxFlags"> {
    const { taskStates, taskFlags } = ScxNames.of(btf).enums;
    return {
      scx: own,
      scxState: own?.scxState === undefined ? undefined : nameIn(taskStates, own.scxState),
      scxFlags: own?.flags === undefined ? [] : flagNames(taskFlags, own.flags),
    };
  }

  /** Returns the path of `task_css_set(task)->dfl_cgrp`. Tasks of one cgroup share their `struct css_set`. */
  function path(set: Pointer): string | undefined {
    if (isNull(set)) return undefined;
    const key = `${set.hi},${set.lo}`;
    const before = paths.get(key);
    if (before !== undefined) return before;
    const { memory } = kernel;
    const group = memory.pointer(set.hi, set.lo, CSS_SET.resolve(btf).dfl_cgrp, "css_set.dfl_cgrp");
    const node = memory.pointer(group.hi, group.lo, CGROUP.resolve(btf).kn, "cgroup.kn");
    const found = Buffer.from(kernfsPath(kernel, node)).toString("utf8");
    paths.set(key, found);
    return found;
  }
}

function orNone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof KtstrError) return undefined;
    throw error;
  }
}
