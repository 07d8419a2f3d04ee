/** `sched dump --json`: the dump's lines as data (schema/sched-dump.schema.json). */
import type { SchedulerDumps } from "../sched-state.ts";
import type { ScxDump } from "../sched-text/dump.ts";
import { type Json, JsonList } from "./json.ts";
import { cpuJson, taskJson } from "./sched-json.ts";

/** Incremented if a member is removed or changes its meaning, not if members are added. */
const SCHED_DUMP_SCHEMA_VERSION = 1;

export function schedDumpsJson({ dumps, callbacks, missing }: SchedulerDumps): Json {
  return {
    schema: "ktstr-sched-dump",
    schema_version: SCHED_DUMP_SCHEMA_VERSION,
    dumps: dumps.map(dumpJson),
    callbacks,
    missing,
  };
}

function dumpJson({ opsName, scheduler, cgroupPath, trigger, cpus, events }: ScxDump): Json {
  return {
    ops: opsName,
    place: scheduler,
    cgroup: cgroupPath,
    trigger: trigger.reason,
    cpus: cpus.map((cpu) => ({
      ...cpuJson(cpu),
      tasks: new JsonList(() => cpu.tasks.values().map((task) => taskJson({ ...task, cpu: cpu.cpu }))),
    })),
    events: Object.fromEntries(events.map(({ name, count }) => [name, count])),
  };
}
