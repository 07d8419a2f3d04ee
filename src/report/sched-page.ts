/** `sched` for people: findings first, then what they follow from. */
import { exitKindText } from "../sched-text/exit-kinds.ts";
import { escapeText } from "../text.ts";
import { cpuList } from "./cpu-list.ts";
import type { Style } from "./inspection-text.ts";
import type { Output } from "./output.ts";
import { type Finding, hexId, secondsText } from "./sched-findings.ts";
import type { SchedCpu, SchedExit, SchedQueue, SchedTask, SchedView } from "./sched-view.ts";
import { countText } from "./units.ts";

/** `limit`: so many tasks and queues are shown at most. */
export function writeSched(
  out: Output,
  view: SchedView,
  findings: readonly Finding[],
  limit: number,
  style: Style,
): void {
  if (view.origin !== "") out.line(`${style.heading("Source")}     ${escapeText(view.origin)}`);
  writeScheduler(out, view, style);
  for (const { summary, details } of findings) {
    out.line(`${style.alarm("finding")}    ${escapeText(summary)}.`);
    for (const detail of details) out.line(`           ${escapeText(detail)}`);
  }
  if (findings.length === 0) out.line(`${style.heading("Findings")}   none`);
  if (view.cpus.length > 0) {
    writeCpus(out, view, style);
    writeQueues(out, view, limit, style);
    writeTasks(out, view, limit, style);
  }
  writeEvents(out, view, style);
  writeLines(out, "Lines that are not the kernel's, or not known", view.unknown, style);
  if (view.notTold.length > 0) {
    out.line(`\n${style.heading("Not told")}`);
    for (const each of view.notTold) out.line(style.dim(`  ${escapeText(each)}`));
  }
}

function writeScheduler(out: Output, view: SchedView, style: Style): void {
  const { opsName, place, cgroupPath, trigger, exit, watchdog } = view;
  const parts = [opsName ?? "(its name is not told)"];
  if (place !== undefined && place !== "root") parts.push(`${place} ${cgroupPath ?? ""}`.trim());
  const state = stateText(view);
  if (state !== "") parts.push(state);
  if (trigger !== "") parts.push(`dump on request (${trigger})`);
  out.line(`${style.heading("Scheduler")}  ${escapeText(parts.join("  "))}`);
  const mode = view.mode ?? [];
  if (mode.length > 0) out.line(`${style.heading("Mode")}       ${mode.map(escapeText).join(", ")}`);
  if (watchdog !== undefined) {
    const last =
      watchdog.lastCheckMs === undefined ? "" : `, it last looked ${secondsText(watchdog.lastCheckMs)} ago`;
    const { next } = watchdog;
    const strikes =
      next === undefined
        ? ""
        : `; it would strike ${next.comm}[${next.pid}] first, ${next.inMs < 0 ? "now" : `in ${secondsText(next.inMs)}`}`;
    out.line(
      `${style.heading("Watchdog")}   timeout ${secondsText(watchdog.timeoutMs)}${last}${escapeText(strikes)}`,
    );
  }
  if (exit !== undefined) writeExit(out, exit, style);
}

/** "enabled for 34.120 s", "disabled 2.755 s ago, after 33.894 s". */
function stateText({ state, enabledMs, disabledMs }: SchedView): string {
  if (disabledMs === undefined)
    return enabledMs === undefined ? state : `${state} for ${secondsText(enabledMs)}`;
  const after = enabledMs === undefined ? "" : `, after ${secondsText(enabledMs - disabledMs)}`;
  return `${state} ${secondsText(disabledMs)} ago${after}`;
}

function writeExit(out: Output, exit: SchedExit, style: Style): void {
  const kind = exit.kind === undefined ? "" : `${exit.kindName ?? exitKindText(exit.kind)}  `;
  const message = exit.message === "" ? "" : `: ${exit.message}`;
  const code =
    exit.code === undefined || exit.code === 0n ? "" : `  code ${hexId(BigInt.asUintN(64, exit.code))}`;
  out.line(`${style.heading("Exit")}       ${escapeText(`${kind}${exit.reason}${message}${code}`)}`);
  for (const frame of exit.backtrace) out.line(style.dim(`             ${escapeText(frame)}`));
}

function writeCpus(out: Output, view: SchedView, style: Style): void {
  const { cpus, othersIdle } = view;
  const about = othersIdle ? "CPUs that are idle are not in the dump" : "";
  out.line(`\n${style.heading(`CPUs (${cpus.length})`)}  ${style.dim(about)}`.trimEnd());
  for (const cpu of cpus) out.line(cpuText(cpu));
}

function cpuText(cpu: SchedCpu): string {
  const { currComm, currPid, currClass, nrRunning, flags } = cpu;
  const runs =
    currPid === undefined
      ? "what runs is not told"
      : `${escapeText(currComm)}[${currPid}] ${escapeText(currClass.replace(/_sched_class$/, ""))}`;
  const rest = [`nr_running ${nrRunning ?? "?"}`];
  if (flags !== undefined) rest.push(flagsText(flags));
  if ((cpu.cpuReleased ?? 0) !== 0) rest.push("cpu_released");
  for (const { name, cpus } of cpu.kicks) rest.push(`${name} ${cpuList(cpus)}`);
  for (const { name, value } of cpu.sequences) rest.push(`${name} ${value}`);
  if (cpu.rescue !== undefined) rest.push(escapeText(cpu.rescue));
  return [
    `  CPU ${String(cpu.cpu).padEnd(4)} ${runs}  ${rest.join("  ")}`,
    ...said(cpu.unknown, "    "),
  ].join("\n");
}

/** `SCX_RQ_*` of kernel/sched/sched.h; bit 3 was moved in and out between 6.12 and 7.2, and is shown as a number. */
const RQ_FLAGS: readonly (readonly [number, string])[] = [
  [1 << 0, "ONLINE"],
  [1 << 1, "CAN_STOP_TICK"],
  [1 << 5, "CLK_VALID"],
  [1 << 16, "IN_WAKEUP"],
  [1 << 17, "IN_BALANCE"],
];

function flagsText(flags: number): string {
  const names = RQ_FLAGS.filter(([bit]) => (flags & bit) !== 0);
  const rest = names.reduce((left, [bit]) => left - bit, flags);
  const words = names.map(([, name]) => name);
  if (rest !== 0 || words.length === 0) words.push(`0x${rest.toString(16)}`);
  return `flags ${words.join("|")}`;
}

function writeQueues(out: Output, { queues }: SchedView, limit: number, style: Style): void {
  if (queues.length === 0) return;
  out.line(`\n${style.heading(`Dispatch queues with tasks (${queues.length})`)}`);
  for (const queue of queues.slice(0, limit)) out.line(`  ${queueText(queue)}`);
  writeRest(out, queues.length, limit, style);
}

const QUEUE_TASKS = 6;

function queueText({ id, kind, cpu, tasks }: SchedQueue): string {
  const title = kind === "user" ? hexId(id) : cpu === undefined ? kind : `${kind} CPU ${cpu}`;
  const names = tasks.slice(0, QUEUE_TASKS).map(({ comm, pid }) => `${escapeText(comm)}[${pid}]`);
  if (tasks.length > QUEUE_TASKS) names.push(`${countText(tasks.length - QUEUE_TASKS)} more`);
  return `${title}  ${tasks.length} ${tasks.length === 1 ? "task" : "tasks"}: ${names.join(", ")}`;
}

function writeTasks(out: Output, { tasks }: SchedView, limit: number, style: Style): void {
  const about = "runnable on sched_ext, by the time since each became runnable; * runs";
  out.line(`\n${style.heading(`Tasks (${tasks.length})`)}  ${style.dim(about)}`);
  for (const task of tasks.slice(0, limit)) out.line(taskText(task, style));
  writeRest(out, tasks.length, limit, style);
}

/** Runnable since, place, then the kernel's own words for the rest. */
function taskText(task: SchedTask, style: Style): string {
  const { isCurrent, state, comm, pid, cpu, waitMs, cpus, dsqId } = task;
  const where = dsqId === undefined ? "" : `  dsq ${dsqId === null ? "(n/a)" : hexId(dsqId)}`;
  const allowed = cpus === undefined ? "" : `  cpus ${cpuList(cpus)}`;
  const owner = task.scheduler === undefined || task.scheduler === "root" ? "" : `  ${task.scheduler}`;
  const lines = [
    ` ${isCurrent ? "*" : " "}${escapeText(state)} ${secondsText(waitMs).padStart(11)}  ${escapeText(comm)}[${pid}]  CPU ${cpu < 0 ? "?" : cpu}${where}${allowed}${owner}`,
  ];
  const fields = fieldsText(task);
  if (fields !== "") lines.push(style.dim(`                 ${fields}`));
  lines.push(...said(task.unknown, "                 "));
  for (const frame of task.stack) lines.push(style.dim(`                   ${escapeText(frame)}`));
  return lines.join("\n");
}

/** `SCX_SLICE_INF`. */
const SLICE_INFINITE = 0xffffffffffffffffn;

function fieldsText(task: SchedTask): string {
  const pairs: (readonly [string, string | number | bigint | undefined])[] = [
    ["scx_state", task.scxState],
    ["flags", hex(task.flags)],
    ["dsq_flags", hex(task.dsqFlags)],
    ["ops_state", task.opsState],
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

function said(lines: readonly string[], indent: string): string[] {
  return lines.map((line) => `${indent}${escapeText(line.trim())}`);
}

function writeEvents(out: Output, { events }: SchedView, style: Style): void {
  const counted = events.filter(({ count }) => count !== 0n);
  if (events.length === 0) return;
  const zero = events.length - counted.length;
  out.line(`\n${style.heading(`Events (${events.length})`)}  ${style.dim(`${zero} of them 0`)}`);
  for (const { name, count } of counted) out.line(`  ${name}  ${countText(count)}`);
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
