/** `sched --json`: ktstr's own schema, versioned (schema/sched.schema.json). */

import { exitKindText } from "../sched-text/exit-kinds.ts";
import { flagNames, nameIn, type ScxEnums } from "../scx-enums.ts";
import { type Json, JsonList } from "./json.ts";
import type { Finding } from "./sched-findings.ts";
import { hexId } from "./sched-findings.ts";
import type { SchedCpu, SchedQueue, SchedTask, SchedView } from "./sched-view.ts";
import { lineJson } from "./symbol.ts";

/** Incremented if a member is removed or changes its meaning, not if members are added. */
export const SCHED_SCHEMA_VERSION = 1;

/** One scheduler at one moment, to print with `writeJson`. Unknown members are omitted; `dsq_id` of a task that is in no queue is null. */
export function schedJson(view: SchedView, findings: readonly Finding[]): Json {
  return {
    origin: view.origin,
    ...headJson(view, findings),
    others_idle: view.othersIdle,
    idle_cpus: view.idleCpus,
    cpus: view.cpus.map((cpu) => cpuJson(cpu, view.enums)),
    queues: view.queues.map((queue) => ({
      ...queueJson(queue, view),
      pids: queue.tasks.map(({ pid }) => pid),
    })),
    tasks: new JsonList(() => view.tasks.values().map((task) => taskJson(task, view.enums))),
    events: eventsJson(view),
    unknown: view.unknown,
    frame_lines:
      view.frameLines === undefined
        ? undefined
        : Object.fromEntries([...view.frameLines].map(([frame, source]) => [frame, lineJson(source)])),
    not_told: view.notAvailable,
  };
}

/** The page's first lines, queue lengths and events, which `inspect` includes and `diff` compares. */
export function schedSummaryJson(view: SchedView, findings: readonly Finding[]): Json {
  return {
    ...headJson(view, findings),
    queues: view.queues.map((queue) => queueJson(queue, view)),
    events: eventsJson(view),
  };
}

function headJson(view: SchedView, findings: readonly Finding[]) {
  const { exit, watchdog } = view;
  return {
    ops: view.opsName,
    place: view.place,
    parent: view.parent,
    cgroup: view.cgroupPath,
    state: view.state === "" ? undefined : view.state,
    enabled_ms: view.enabledMs,
    disabled_ms: view.disabledMs,
    mode: view.mode,
    nr_rejected: view.counts?.nrRejected,
    hotplug_seq: view.counts?.hotplugSeq,
    enable_seq: view.counts?.enableSeq,
    trigger: view.trigger === "" ? undefined : view.trigger,
    exit:
      exit === undefined
        ? undefined
        : {
            kind: exit.kind,
            kind_name: exit.kindName ?? (exit.kind === undefined ? undefined : exitKindText(exit.kind)),
            code: exit.code,
            reason: exit.reason,
            message: exit.message,
            comm: exit.pid === undefined ? undefined : exit.comm,
            pid: exit.pid,
            cpu: exit.cpu,
            backtrace: exit.backtrace,
          },
    watchdog:
      watchdog === undefined
        ? undefined
        : {
            timeout_ms: watchdog.timeoutMs,
            last_check_ms: watchdog.lastCheckMs,
            next_pid: watchdog.next?.pid,
            next_in_ms: watchdog.next?.inMs,
          },
    findings: findings.map(findingJson),
  };
}

export function findingJson(finding: Finding): { readonly [key: string]: Json } {
  const { kind, summary, details, pids, cpus, dsqId, waitMs } = finding;
  return {
    kind,
    summary,
    details,
    pids,
    cpus,
    dsq_id: dsqId === undefined ? undefined : hexId(dsqId),
    wait_ms: waitMs,
  };
}

const eventsJson = ({ events }: SchedView): Record<string, bigint> =>
  Object.fromEntries(events.map(({ name, count }) => [name, count]));

function queueJson({ id, kind, cpu, length }: SchedQueue, { dsqNames }: SchedView) {
  return { id: hexId(id), name: dsqNames?.get(id), kind, cpu, length };
}

/** `enums`: if the kernel's enums are known, names of flags are added. */
export function cpuJson(cpu: SchedCpu, enums?: ScxEnums): Record<string, Json | undefined> {
  return {
    cpu: cpu.cpu,
    nr_running: cpu.nrRunning,
    nr_all: cpu.nrAll,
    nr_fair: cpu.nrFair,
    nr_rt: cpu.nrRealtime,
    nr_dl: cpu.nrDeadline,
    flags: cpu.flags,
    flag_names:
      enums === undefined || cpu.flags === undefined ? undefined : flagNames(enums.rqFlags, cpu.flags),
    cpu_released: cpu.cpuReleased,
    sequences: Object.fromEntries(cpu.sequences.map(({ name, value }) => [name, value])),
    rescue: cpu.rescue,
    curr:
      cpu.currPid === undefined
        ? undefined
        : { comm: cpu.currComm, pid: cpu.currPid, class: cpu.currClass, since_ns: cpu.currSinceNs },
    kicks: Object.fromEntries(cpu.kicks.map(({ name, cpus }) => [name, cpus])),
    clock_ns: cpu.clockNs,
    interrupts_off: cpu.areInterruptsOff,
    stack: cpu.stack,
    stack_stopped: cpu.stackStopped || undefined,
    unknown: cpu.unknown,
  };
}

export function taskJson(task: SchedTask, enums?: ScxEnums): Json {
  return {
    pid: task.pid,
    comm: task.comm,
    state: task.state,
    current: task.isCurrent,
    cpu: task.cpu < 0 ? undefined : task.cpu,
    wait_ms: task.waitMs,
    scheduler: task.scheduler,
    scx_state: task.scxState,
    flags: task.flags,
    dsq_flags: task.dsqFlags,
    ops_state: task.opsState,
    ...(enums === undefined ? {} : taskNames(task, enums)),
    qseq: task.qseq,
    sticky_cpu: task.stickyCpu,
    holding_cpu: task.holdingCpu,
    dsq_id: task.dsqId === undefined || task.dsqId === null ? task.dsqId : hexId(task.dsqId),
    dsq_vtime: task.vtime,
    slice_ns: task.sliceNs,
    weight: task.weight,
    cpus: task.cpus,
    no_mig: task.migrationDisabled,
    stack: task.stack,
    unknown: task.unknown,
  };
}

function taskNames({ scxState, flags, dsqFlags, opsState }: SchedTask, enums: ScxEnums) {
  return {
    scx_state_name: scxState === undefined ? undefined : nameIn(enums.taskStates, scxState),
    flag_names: flags === undefined ? undefined : flagNames(enums.taskFlags, flags),
    dsq_flag_names: dsqFlags === undefined ? undefined : flagNames(enums.dsqFlags, dsqFlags),
    ops_state_name: opsState === undefined ? undefined : nameIn(enums.opsStates, opsState),
  };
}
