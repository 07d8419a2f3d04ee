/** sched_ext schedulers: mode, variables, CPUs, queues and tasks. */
import { escapeText, printable } from "../../text.ts";
import { cpuList } from "../cpu-list.ts";
import type { InspectedSched } from "../inspect-sched.ts";
import type { Inspection } from "../inspection.ts";
import type { Json } from "../json.ts";
import { queueName, secondsText } from "../sched-findings.ts";
import { schedSummaryJson } from "../sched-json.ts";
import { cpuRest, queueTitle, stateText, taskFields } from "../sched-page.ts";
import type { SchedQueue, SchedTask, SchedView } from "../sched-view.ts";
import { countText } from "../units.ts";
import type { Section } from "./document.ts";
import { type Anchors, facts, mapLink, progLink } from "./facts.ts";
import { changingVariables, variablesTable } from "./maps.ts";
import { type Html, html, NOTHING, type Part } from "./markup.ts";
import { rest } from "./table.ts";

const MAX_TASKS = 256;
const MAX_CPUS = 512;
const MAX_QUEUES = 256;
const MAX_LINES = 200;

/** `views`: one page per scheduler; empty if there is none. */
export function schedSection(
  inspection: Inspection,
  views: readonly InspectedSched[],
  anchors: Anchors,
): Section {
  const { scheduler } = inspection;
  const first = views[0]?.view;
  const about =
    scheduler === undefined
      ? "no sched_ext scheduler is attached"
      : `${escapeText(scheduler.opsName)} ${first === undefined ? escapeText(scheduler.state) : escapeText(stateText(first))}`;
  const content = html`${attachedHtml(inspection, anchors)}${views.map((each) => viewHtml(each, anchors))}`;
  return { id: "scheduler", title: "Scheduler", about, content };
}

function attachedHtml({ scheduler, maps, progs }: Inspection, anchors: Anchors): Html {
  if (scheduler === undefined) return NOTHING;
  const progNames = new Map(progs.map((prog) => [prog.id, printable(prog.fullName)]));
  const mapNames = new Map(maps.map(({ info }) => [info.id, printable(info.name)]));
  const list = (parts: readonly Part[]): Part => parts.map((part, index) => [index > 0 && ", ", part]);
  const own = maps.filter(
    (map) => scheduler.mapIds.includes(map.info.id) && changingVariables(map).length > 0,
  );
  return html`${facts({ ops: scheduler.opsName, object: scheduler.objectPrefix, state: scheduler.state }, anchors)}<p>programs ${list(scheduler.progIds.map((id) => progLink(id, anchors, progNames.get(id))))}</p>
<p>maps ${list(scheduler.mapIds.map((id) => mapLink(id, anchors, mapNames.get(id))))}</p>
${own.map(
  (
    map,
  ) => html`<h3>${printable(map.info.name)} <small>global variables, map ${mapLink(map.info.id, anchors)}</small></h3>
${variablesTable(map)}`,
)}`;
}

function viewHtml({ view, findings }: InspectedSched, anchors: Anchors): Html {
  const json = schedSummaryJson(view, findings) as { [key: string]: Json };
  const title = `${view.opsName ?? "(name not known)"}${view.place === undefined ? "" : `, ${view.place}`}`;
  return html`<h3>${escapeText(title)}</h3>
${facts(json, anchors, ["queues", "events", "findings"])}${
  view.origin !== "" && html`<p class="dim">${escapeText(view.origin)}</p>`
}${(view.subSchedulers ?? []).map(({ opsName, place, cgroupPath }) => html`<p>sub-scheduler ${escapeText(`${opsName} ${place} ${cgroupPath ?? ""}`)}</p>`)}${cpusHtml(view)}${queuesHtml(view)}${tasksHtml(view)}${eventsHtml(view)}${linesHtml("Unrecognized lines", view.unknown)}${linesHtml("Not available", view.notAvailable)}`;
}

function cpusHtml({ cpus, idleCpus, othersIdle, enums }: SchedView): Part {
  if (cpus.length === 0) return undefined;
  const about = othersIdle
    ? "idle CPUs are not in the dump"
    : idleCpus !== undefined && `offered to the scheduler as idle: ${cpuList(idleCpus) || "none"}`;
  const rows = cpus.slice(0, MAX_CPUS).map(
    (
      cpu,
    ) => html`<tr><td class="n">${cpu.cpu}</td><td>${cpu.currPid === undefined ? "current task not known" : `${escapeText(cpu.currComm)}[${cpu.currPid}]`}</td><td>${escapeText(cpu.currClass.replace(/_sched_class$/, ""))}</td><td>${[...cpuRest(cpu, enums), ...cpu.unknown.map((line) => escapeText(line.trim()))].join("  ")}</td></tr>
`,
  );
  return html`<h3>CPUs <small>${cpus.length}${about && `, ${about}`}</small></h3>
<div class="scroll"><table><tr><th class="n">CPU</th><th>runs</th><th>class</th><th></th></tr>
${rows}</table></div>${rest(cpus.length, rows.length)}`;
}

/** Formats queues with tasks as a table. Empty queues are only listed by name, because there may be many. */
function queuesHtml({ queues, dsqNames }: SchedView): Part {
  if (queues.length === 0) return undefined;
  const filled = queues.filter((queue) => lengthOf(queue) > 0);
  const empty = queues.filter((queue) => lengthOf(queue) === 0);
  const rows = filled.slice(0, MAX_QUEUES).map((queue) => {
    const tasks = queue.tasks.slice(0, MAX_TASKS).map(({ comm, pid }) => `${escapeText(comm)}[${pid}]`);
    return html`<tr><td>0x${queue.id.toString(16)}</td><td>${queueTitle(queue, dsqNames)}</td><td>${queue.kind}</td><td class="n">${lengthOf(queue)}</td><td>${tasks.join(", ")}</td></tr>
`;
  });
  const names = empty.slice(0, MAX_QUEUES).map((queue) => queueTitle(queue, dsqNames));
  return html`<h3>Dispatch queues <small>${queues.length}, ${empty.length} of them empty</small></h3>
${
  rows.length > 0 &&
  html`<div class="scroll"><table><tr><th>id</th><th>queue</th><th>kind</th><th class="n">tasks</th><th></th></tr>
${rows}</table></div>`
}${rest(filled.length, rows.length)}${
  names.length > 0 && html`<p class="facts">empty: ${names.join(", ")}</p>`
}${rest(empty.length, names.length)}`;
}

/** Returns the length of a queue. A dump does not have it; the number of known tasks is returned then. */
const lengthOf = ({ length, tasks }: SchedQueue): number => length ?? tasks.length;

function tasksHtml(view: SchedView): Part {
  const { tasks } = view;
  if (view.cpus.length === 0) return undefined;
  const rows = tasks.slice(0, MAX_TASKS).map((task) => taskHtml(task, view));
  return html`<h3>Tasks <small>${tasks.length}, runnable on sched_ext, longest wait first; * is running</small></h3>
${
  rows.length > 0 &&
  html`<div class="scroll"><table><tr><th></th><th class="n">runnable for</th><th>task</th><th class="n">CPU</th><th>queue</th><th>CPUs</th><th></th></tr>
${rows}</table></div>`
}${rest(tasks.length, rows.length)}`;
}

function taskHtml(task: SchedTask, { enums, dsqNames }: SchedView): Html {
  const { dsqId, cpus, stack, unknown } = task;
  const queue = dsqId === undefined ? "" : dsqId === null ? "(n/a)" : escapeText(queueName(dsqId, dsqNames));
  const owner =
    task.scheduler === undefined || task.scheduler === "root" ? "" : `  ${escapeText(task.scheduler)}`;
  const lines = [...unknown, ...stack].slice(0, MAX_LINES).map((line) => escapeText(line));
  return html`<tr><td class="n">${task.isCurrent && "*"}${escapeText(task.state)}</td><td class="n">${secondsText(task.waitMs)}</td><td>${escapeText(task.comm)}[${task.pid}]${owner}</td><td class="n">${task.cpu < 0 ? "?" : task.cpu}</td><td>${queue}</td><td>${cpus === undefined ? "" : cpuList(cpus)}</td><td class="dim">${taskFields(task, enums)}${
    lines.length > 0 && html`<details><summary>stack</summary><pre>${lines.join("\n")}</pre></details>`
  }</td></tr>
`;
}

function eventsHtml({ events }: SchedView): Part {
  if (events.length === 0) return undefined;
  const shown = events.slice(0, MAX_LINES);
  const zero = shown.filter(({ count }) => count === 0n).map(({ name }) => escapeText(name));
  const rows = shown
    .filter(({ count }) => count !== 0n)
    .map(
      ({ name, count }) => html`<tr><td>${escapeText(name)}</td><td class="n">${countText(count)}</td></tr>
`,
    );
  return html`<h3>Events <small>${events.length}</small></h3>
<table>${rows}</table>${zero.length > 0 && html`<p class="facts">0 of: ${zero.join(", ")}</p>`}`;
}

function linesHtml(title: string, lines: readonly string[]): Part {
  if (lines.length === 0) return undefined;
  return html`<h3>${title} <small>${lines.length}</small></h3>
<pre class="dim">${lines
    .slice(0, MAX_LINES)
    .map((line) => escapeText(line.trim()))
    .join("\n")}</pre>${rest(lines.length, Math.min(lines.length, MAX_LINES))}`;
}
