/** Prints the page of `sched` as text: findings, then CPUs, queues, tasks and events. */
import { exitKindText } from "../sched-text/exit-kinds.ts";
import { type EnumRow, flagNames, nameIn, type ScxEnums } from "../scx-enums.ts";
import { escapeText } from "../text.ts";
import { cpuList } from "./cpu-list.ts";
import type { Style } from "./inspection-text.ts";
import type { Output } from "./output.ts";
import { runningMs } from "./sched-cpus.ts";
import { type Finding, hexId, queueName, secondsText } from "./sched-findings.ts";
import type { SchedCpu, SchedExit, SchedQueue, SchedTask, SchedView } from "./sched-view.ts";
import { lineText } from "./symbol.ts";
import { countText } from "./units.ts";

/** `limit`: limit on the printed tasks, and on the printed queues. */
export function writeSched(
  out: Output,
  view: SchedView,
  findings: readonly Finding[],
  limit: number,
  style: Style,
): void {
  if (view.origin !== "") out.line(`${style.heading("Source")}     ${escapeText(view.origin)}`);
  writeScheduler(out, view, style);
  writeSchedHead(out, view, findings, style);
  if (view.cpus.length > 0) {
    writeCpus(out, view, style);
    writeQueues(out, view, limit, style);
    writeTasks(out, view, limit, style);
  }
  writeEvents(out, view, style);
  writeLines(out, "Unrecognized lines", view.unknown, style);
  if (view.notAvailable.length > 0) {
    out.line(`\n${style.heading("Not available")}`);
    for (const each of view.notAvailable) out.line(style.dim(`  ${escapeText(each)}`));
  }
}

function writeScheduler(out: Output, view: SchedView, style: Style): void {
  const { opsName, place, cgroupPath, trigger } = view;
  const parts = [opsName ?? "(name not known)"];
  if (place !== undefined && place !== "root") parts.push(`${place} ${cgroupPath ?? ""}`.trim());
  const state = stateText(view);
  if (state !== "") parts.push(state);
  if (trigger !== "") parts.push(`dump on request (${trigger})`);
  out.line(`${style.heading("Scheduler")}  ${escapeText(parts.join("  "))}`);
}

/** Prints the lines after the scheduler's name: mode, watchdog, exit, and findings. */
export function writeSchedHead(
  out: Output,
  view: SchedView,
  findings: readonly Finding[],
  style: Style,
): void {
  const { exit, watchdog, cpus, othersIdle } = view;
  const mode = [...(view.mode ?? []), ...countWords(view)];
  if (mode.length > 0) out.line(`${style.heading("Mode")}       ${mode.map(escapeText).join(", ")}`);
  for (const { opsName, place, cgroupPath, level } of view.subSchedulers ?? []) {
    const name = `${"  ".repeat(Math.min(level, 8) - 1)}${opsName}  ${place}  ${cgroupPath ?? ""}`;
    out.line(`${style.heading("Sub")}        ${escapeText(name.trimEnd())}`);
  }
  if (watchdog !== undefined) {
    const last =
      watchdog.lastCheckMs === undefined ? "" : `, last check ${secondsText(watchdog.lastCheckMs)} ago`;
    const { next } = watchdog;
    const first =
      next === undefined
        ? ""
        : `; first to exceed it: ${next.comm}[${next.pid}], ${next.inMs < 0 ? "now" : `in ${secondsText(next.inMs)}`}`;
    out.line(
      `${style.heading("Watchdog")}   timeout ${secondsText(watchdog.timeoutMs)}${last}${escapeText(first)}`,
    );
  }
  if (exit !== undefined) writeExit(out, exit, view, style);
  for (const { summary, details } of findings) {
    out.line(`${style.alarm("finding")}    ${escapeText(summary)}.`);
    for (const detail of details) out.line(`           ${escapeText(detail)}`);
  }
  // Without data of CPUs and tasks no findings were searched for, so "none" is not printed.
  if (findings.length === 0 && (cpus.length > 0 || othersIdle))
    out.line(`${style.heading("Findings")}   none`);
}

/** Returns the count of rejected tasks, if any: most schedulers reject none. */
function countWords({ counts }: SchedView): string[] {
  const rejected = counts?.nrRejected ?? 0n;
  return rejected === 0n ? [] : [`${countText(rejected)} tasks rejected`];
}

/** Formats the state: "enabled for 34.120 s", "disabled 2.755 s ago, after 33.894 s". */
export function stateText({ state, enabledMs, disabledMs }: SchedView): string {
  if (disabledMs === undefined)
    return enabledMs === undefined ? state : `${state} for ${secondsText(enabledMs)}`;
  const after = enabledMs === undefined ? "" : `, after ${secondsText(enabledMs - disabledMs)}`;
  return `${state} ${secondsText(disabledMs)} ago${after}`;
}

/** Returns one line per frame. If lines were requested, a frame in a program's machine code is followed by its source line. */
function stackText(frames: readonly string[], { frameLines }: SchedView, indent: string): string[] {
  return frames.flatMap((frame) => {
    const source = frameLines?.get(frame);
    const name = indent + escapeText(frame);
    return source === undefined ? [name] : [name, `${indent}  ${lineText(source)}`];
  });
}

function writeExit(out: Output, exit: SchedExit, view: SchedView, style: Style): void {
  const kind = exit.kind === undefined ? "" : `${exit.kindName ?? exitKindText(exit.kind)}  `;
  const message = exit.message === "" ? "" : `: ${exit.message}`;
  const code =
    exit.code === undefined || exit.code === 0n ? "" : `  code ${hexId(BigInt.asUintN(64, exit.code))}`;
  out.line(`${style.heading("Exit")}       ${escapeText(`${kind}${exit.reason}${message}${code}`)}`);
  for (const line of stackText(exit.backtrace, view, "             ")) out.line(style.dim(line));
}

function writeCpus(out: Output, view: SchedView, style: Style): void {
  const { cpus, othersIdle, idleCpus } = view;
  const about = othersIdle
    ? "idle CPUs are not in the dump"
    : idleCpus === undefined
      ? ""
      : `offered to the scheduler as idle: ${cpuList(idleCpus) || "none"}`;
  out.line(`\n${style.heading(`CPUs (${cpus.length})`)}  ${style.dim(about)}`.trimEnd());
  for (const cpu of cpus) {
    out.line(cpuText(cpu, view.enums));
    const { stack = [], stackStopped = "" } = cpu;
    for (const line of stackText(stack, view, "             ")) out.line(style.dim(line));
    // An idle CPU without a stack has nothing to explain.
    if (stackStopped !== "" && (stack.length > 0 || cpu.currClass !== "idle_sched_class"))
      out.line(style.dim(`             (${escapeText(stackStopped)})`));
  }
}

function cpuText(cpu: SchedCpu, enums: ScxEnums | undefined): string {
  const { currComm, currPid, currClass } = cpu;
  const runs =
    currPid === undefined
      ? "current task not known"
      : `${escapeText(currComm)}[${currPid}] ${escapeText(currClass.replace(/_sched_class$/, ""))}`;
  return [
    `  CPU ${String(cpu.cpu).padEnd(4)} ${runs}  ${cpuRest(cpu, enums).join("  ")}`,
    ...indentedLines(cpu.unknown, "    "),
  ].join("\n");
}

/** Describes a CPU's state: for how long it has run its task, and everything else but the task's name and class. */
export function cpuRest(cpu: SchedCpu, enums: ScxEnums | undefined): string[] {
  const { nrRunning, flags } = cpu;
  const ranMs = runningMs(cpu);
  const rest = ranMs === undefined ? [] : [`for ${secondsText(ranMs)}`];
  rest.push(`nr_running ${nrRunning ?? "?"}${othersText(cpu)}`);
  if (flags !== undefined) rest.push(`flags ${flagsText(enums?.rqFlags ?? [], flags)}`);
  if ((cpu.cpuReleased ?? 0) !== 0) rest.push("cpu_released");
  if (cpu.areInterruptsOff) rest.push("interrupts off");
  for (const { name, cpus } of cpu.kicks) rest.push(`${name} ${cpuList(cpus)}`);
  for (const { name, value } of cpu.sequences) rest.push(`${name} ${value}`);
  if (cpu.rescue !== undefined) rest.push(escapeText(cpu.rescue));
  return rest;
}

/** Formats the counts of runnable tasks of other scheduling classes, which a sched_ext scheduler does not control. */
function othersText({ nrFair, nrRealtime, nrDeadline }: SchedCpu): string {
  const parts = [
    ["fair", nrFair],
    ["rt", nrRealtime],
    ["dl", nrDeadline],
  ] as const;
  const others = parts.filter(([, count]) => (count ?? 0) > 0).map(([name, count]) => `${name} ${count}`);
  return others.length === 0 ? "" : ` (and ${others.join(", ")})`;
}

const flagsText = (rows: readonly EnumRow[], flags: number): string =>
  flagNames(rows, flags).join("|") || "0x0";

function writeQueues(out: Output, { queues, dsqNames }: SchedView, limit: number, style: Style): void {
  const [filled, empty] = [queues.filter(({ tasks }) => tasks.length > 0), queues.filter(isEmpty)];
  if (filled.length > 0) out.line(`\n${style.heading(`Dispatch queues with tasks (${filled.length})`)}`);
  for (const queue of filled.slice(0, limit)) out.line(`  ${queueText(queue, dsqNames)}`);
  writeRest(out, filled.length, limit, style);
  if (empty.length === 0) return;
  const names = empty.slice(0, EMPTY_NAMED).map((queue) => queueTitle(queue, dsqNames));
  if (empty.length > EMPTY_NAMED) names.push("...");
  const title = style.heading(`Empty dispatch queues (${empty.length})`);
  out.line(`${filled.length === 0 ? "\n" : ""}${title}  ${style.dim(names.join(", "))}`);
}

const isEmpty = ({ tasks }: SchedQueue): boolean => tasks.length === 0;
const EMPTY_NAMED = 12;
const QUEUE_TASKS = 6;

type Names = SchedView["dsqNames"];

export function queueTitle({ id, kind, cpu }: SchedQueue, names: Names): string {
  if (kind === "user") return escapeText(queueName(id, names));
  return cpu === undefined ? kind : `${kind} CPU ${cpu}`;
}

function queueText(queue: SchedQueue, dsqNames: Names): string {
  const { tasks } = queue;
  const names = tasks.slice(0, QUEUE_TASKS).map(({ comm, pid }) => `${escapeText(comm)}[${pid}]`);
  if (tasks.length > QUEUE_TASKS) names.push(`${countText(tasks.length - QUEUE_TASKS)} more`);
  return `${queueTitle(queue, dsqNames)}  ${tasks.length} ${tasks.length === 1 ? "task" : "tasks"}: ${names.join(", ")}`;
}

function writeTasks(out: Output, view: SchedView, limit: number, style: Style): void {
  const { tasks } = view;
  const about = "runnable on sched_ext, by time since each became runnable; * is running";
  out.line(`\n${style.heading(`Tasks (${tasks.length})`)}  ${style.dim(about)}`);
  for (const task of tasks.slice(0, limit)) out.line(taskText(task, view, style));
  writeRest(out, tasks.length, limit, style);
}

/** Formats a task: runnable time, place, and the fields of `taskFields`. */
function taskText(task: SchedTask, view: SchedView, style: Style): string {
  const { enums, dsqNames } = view;
  const { isCurrent, state, comm, pid, cpu, waitMs, cpus, dsqId } = task;
  const where =
    dsqId === undefined ? "" : `  dsq ${dsqId === null ? "(n/a)" : escapeText(queueName(dsqId, dsqNames))}`;
  const allowed = cpus === undefined ? "" : `  cpus ${cpuList(cpus)}`;
  const owner =
    task.scheduler === undefined || task.scheduler === "root" ? "" : `  ${escapeText(task.scheduler)}`;
  const lines = [
    ` ${isCurrent ? "*" : " "}${escapeText(state)} ${secondsText(waitMs).padStart(11)}  ${escapeText(comm)}[${pid}]  CPU ${cpu < 0 ? "?" : cpu}${where}${allowed}${owner}`,
  ];
  const fields = taskFields(task, enums);
  if (fields !== "") lines.push(style.dim(`                 ${fields}`));
  lines.push(...indentedLines(task.unknown, "                 "));
  for (const line of stackText(task.stack, view, "                   ")) lines.push(style.dim(line));
  return lines.join("\n");
}

/** `SCX_SLICE_INF`. */
const SLICE_INFINITE = 0xffffffffffffffffn;

/** Formats the other fields of a task, with the kernel's names. */
export function taskFields(task: SchedTask, enums: ScxEnums | undefined): string {
  const named = (rows: readonly EnumRow[] | undefined, value: number | undefined) =>
    value === undefined || rows === undefined ? value : (nameIn(rows, value) ?? value);
  const flags = (rows: readonly EnumRow[] | undefined, value: number | undefined) =>
    value === undefined || rows === undefined ? hex(value) : flagsText(rows, value);
  const pairs: (readonly [string, string | number | bigint | undefined])[] = [
    ["scx_state", named(enums?.taskStates, task.scxState)],
    ["flags", flags(enums?.taskFlags, task.flags)],
    ["dsq_flags", flags(enums?.dsqFlags, task.dsqFlags)],
    ["ops_state", named(enums?.opsStates, task.opsState)],
    ["qseq", task.qseq],
    ["vtime", task.vtime],
    ["slice", task.sliceNs === SLICE_INFINITE ? "infinite" : task.sliceNs],
    ["weight", task.weight],
    ["sticky_cpu", task.stickyCpu === -1 ? undefined : task.stickyCpu],
    ["holding_cpu", task.holdingCpu === -1 ? undefined : task.holdingCpu],
    ["no_mig", task.migrationDisabled === 0 ? undefined : task.migrationDisabled],
  ];
  return pairs.flatMap(([name, value]) => (value === undefined ? [] : [`${name} ${value}`])).join("  ");
}

const hex = (value: number | undefined): string | undefined =>
  value === undefined ? undefined : `0x${value.toString(16)}`;

function indentedLines(lines: readonly string[], indent: string): string[] {
  return lines.map((line) => `${indent}${escapeText(line.trim())}`);
}

function writeEvents(out: Output, { events }: SchedView, style: Style): void {
  const counted = events.filter(({ count }) => count !== 0n);
  if (events.length === 0) return;
  const zero = events.length - counted.length;
  out.line(`\n${style.heading(`Events (${events.length})`)}  ${style.dim(`${zero} of them 0`)}`);
  for (const { name, count } of counted) out.line(`  ${escapeText(name)}  ${countText(count)}`);
}

const SHOWN_LINES = 40;

function writeLines(out: Output, title: string, lines: readonly string[], style: Style): void {
  if (lines.length === 0) return;
  out.line(`\n${style.heading(`${title} (${lines.length})`)}`);
  for (const line of lines.slice(0, SHOWN_LINES)) out.line(`  ${escapeText(line)}`);
  writeRest(out, lines.length, SHOWN_LINES, style);
}

function writeRest(out: Output, count: number, shown: number, style: Style): void {
  if (count > shown) out.line(style.dim(`  ... ${countText(count)} in all`));
}
