/** `diff` as text: only changes. Costs and dispatch queues are sorted, the largest first. */
import { escapeText } from "../text.ts";
import { MAP_TYPES } from "../uapi/names.ts";
import type { Change } from "./changes.ts";
import {
  type ChangedGlobals,
  type ChangedVariable,
  type Diff,
  isKnownToDiffer,
  type ObjectChanges,
  type SchedulerChange,
} from "./diff.ts";
import type { Cost } from "./diff-costs.ts";
import { writeSched } from "./diff-sched-text.ts";
import { hasFill } from "./inspection.ts";
import type { Style } from "./inspection-text.ts";
import { stringify } from "./json.ts";
import type { Output } from "./output.ts";
import type { ParsedJson } from "./parse-json.ts";
import { type Row, rateText, writeRows } from "./rows.ts";
import type { SnapshotLink, SnapshotMap, SnapshotScheduler } from "./snapshot.ts";
import { callsText, countText, sizeText, timeText } from "./units.ts";

/** `names`: sources of A and B, as given by the user. */
export function writeDiff(out: Output, diff: Diff, names: readonly [string, string], style: Style): void {
  writeSides(out, diff, names, style);
  out.line(`${style.heading("Scheduler")}  ${schedulerSentence(diff.scheduler)}`);
  for (const note of diff.notes) out.line(`${style.heading("Note")}       ${escapeText(note)}`);
  for (const warning of diff.warnings.onlyB)
    out.line(`${style.alarm("warning")}  only in B: ${escapeText(warning)}`);
  for (const warning of diff.warnings.onlyA)
    out.line(`${style.dim("warning")}  only in A: ${escapeText(warning)}`);
  writeCosts(out, diff, style);
  writeSched(out, diff, style);
  const same = (): string[] => [];
  writeObjects(out, "Programs", diff.progs, namedColumns, same, [], style);
  writeObjects(out, "Links", diff.links, linkColumns, changedLink, diff.changedLinks, style);
  writeObjects(out, "Maps", diff.maps, namedColumns, changedMap, diff.changedMaps, style);
  writeGlobals(out, diff, style);
  if (isUnchanged(diff)) out.line("\nNothing changed.");
}

export function isUnchanged(diff: Diff): boolean {
  const { scheduler, warnings, costs, progs, links, changedLinks, maps, changedMaps, globals, sched } = diff;
  if (scheduler.kind !== "none" && (scheduler.kind !== "same" || scheduler.a?.state !== scheduler.b?.state))
    return false;
  const objects = [progs, links, maps].flatMap(({ appeared, gone }) => [...appeared, ...gone]);
  const changes = [
    costs,
    sched.events,
    sched.queues,
    changedLinks,
    changedMaps,
    globals,
    warnings.onlyA,
    warnings.onlyB,
  ].flat();
  return objects.length + changes.length === 0;
}

function writeSides(out: Output, diff: Diff, names: readonly string[], style: Style): void {
  const sides = sideSentences(diff);
  for (const [index, label] of ["A", "B"].entries())
    out.line(`${style.heading(label)}          ${escapeText(names[index] ?? "")}  ${sides[index]}`);
}

/** Describes the machine of each side. */
export function sideSentences({ a, b, sameBoot, elapsedNs }: Diff): readonly [string, string] {
  const machine = ({ kernel }: Diff["a"]): string => {
    const up = kernel.uptimeNs === undefined ? "" : `, up ${timeText(Number(kernel.uptimeNs))}`;
    return `${escapeText(kernel.release)} ${escapeText(kernel.machine)}${up}`;
  };
  const later = elapsedNs === undefined ? "" : `, ${timeText(Number(elapsedNs))} later`;
  return [machine(a), sameBoot ? `the same boot${later}` : machine(b)];
}

export function schedulerSentence({ kind, a, b }: SchedulerChange): string {
  const name = (scheduler: SnapshotScheduler | undefined): string => escapeText(scheduler?.ops ?? "none");
  const state = a?.state === b?.state ? "" : `  ${escapeText(`${a?.state || "?"} -> ${b?.state || "?"}`)}`;
  return {
    none: () => "no sched_ext scheduler is attached in either",
    same: () => `${name(b)}${state}`,
    attached: () => `none -> ${name(b)}`,
    detached: () => `${name(a)} -> none`,
    reloaded: () => `${name(b)}  reloaded${state}`,
    replaced: () => `${name(a)} -> ${name(b)}${state}`,
  }[kind]();
}

function writeCosts(out: Output, { costs, sameBoot, elapsedNs }: Diff, style: Style): void {
  if (costs.length === 0) return;
  const total = costs.reduce((sum, { between }) => sum + (between?.runTimeNs ?? 0n), 0n);
  const time = elapsedNs === undefined ? "" : ` in ${timeText(Number(elapsedNs))}`;
  const about = sameBoot
    ? `${timeText(Number(total))}${time}, the costliest first`
    : "totals since each was loaded";
  out.line(`\n${style.heading(`Costs (${costs.length})`)}  ${style.dim(about)}`);
  const rows = costs.map((cost) => [
    String(cost.prog.id).padStart(6),
    escapeText(cost.prog.name),
    escapeText(cost.prog.type),
    sameBoot ? costBetween(cost) : costOfEach(cost),
  ]);
  writeRows(out, rows);
}

/** Describes a program's cost between A and B. */
export function costBetween({ a, between }: Cost): string {
  if (between === undefined) return "";
  const { calls, misses, share, callsPerSecond, nsPerSecond, reset } = between;
  const rate = callsPerSecond === undefined ? "" : ` (${rateText(callsPerSecond)}/s)`;
  const before = a === undefined || a.calls === 0n ? "" : ` (${timeText(a.nsPerCall)} before)`;
  const cpu = nsPerSecond === undefined ? "" : `, ${((100 * nsPerSecond) / 1e9).toFixed(3)}% of a CPU`;
  const missed = misses === 0n ? "" : `, ${countText(misses)} misses`;
  const again = reset ? ", counters restarted" : "";
  return `${percent(share).padStart(6)}  ${callsText(calls)}${rate}, ${timeText(between.nsPerCall)} each${before}${cpu}${missed}${again}`;
}

/** Describes a program's cost in each side, for different boots. */
export function costOfEach({ a, b }: Cost): string {
  const one = (spent: Cost["a"]): string =>
    spent === undefined
      ? "none"
      : `${percent(spent.share)} ${callsText(spent.calls)}, ${timeText(spent.nsPerCall)} each`;
  return `${one(a)} -> ${one(b)}`;
}

function writeObjects<T extends { readonly id: number }>(
  out: Output,
  title: string,
  { gone, appeared, replaced }: ObjectChanges<T>,
  columns: (object: T) => Row,
  changed: (a: T, b: T) => Row,
  changes: readonly (readonly [T, T])[],
  style: Style,
): void {
  if (gone.length + appeared.length + changes.length === 0) return;
  const about = `${appeared.length} new, ${gone.length} gone${changes.length === 0 ? "" : `, ${changes.length} changed`}`;
  out.line(`\n${style.heading(title)}  ${style.dim(about)}`);
  const row = (mark: string, { id }: T): string => `${mark}${String(id).padStart(5)}`;
  const instead = (id: number | undefined): string => (id === undefined ? "new" : `new, replaces ${id}`);
  writeRows(out, [
    ...appeared.map((object) => [row("+", object), ...columns(object), instead(replaced.get(object.id))]),
    ...gone.map((object) => [row("-", object), ...columns(object), "gone"]),
    ...changes.map(([a, b]) => [row(" ", b), ...columns(b), ...changed(a, b)]),
  ]);
}

const linkColumns = ({ type, progId, mapId }: SnapshotLink): Row => [
  escapeText(type),
  progId === 0 && mapId !== undefined ? `map ${mapId}` : `prog ${progId}`,
];
const changedLink = (a: SnapshotLink, b: SnapshotLink): Row => [`prog ${a.progId} -> ${b.progId}`];
/** All strings are escaped, including types: a saved report is untrusted. */
const namedColumns = ({ name, type }: { readonly name: string; readonly type: string }): Row => [
  escapeText(name),
  escapeText(type),
];

/** Describes how a map changed. */
export function changedMap(a: SnapshotMap, b: SnapshotMap): Row {
  const parts: string[] = [];
  const count = ({ count, countIsWhole }: SnapshotMap): string =>
    `${countIsWhole ? "" : "over "}${countText(count)}`;
  if (a.count !== b.count || a.countIsWhole !== b.countIsWhole) {
    const fill = canFill(b) ? ` of ${countText(b.maxEntries)} (${fillText(a)} -> ${fillText(b)})` : "";
    parts.push(`${count(a)} -> ${count(b)}${fill}`);
  }
  if (a.maxEntries !== b.maxEntries)
    parts.push(`max_entries ${countText(a.maxEntries)} -> ${countText(b.maxEntries)}`);
  if (a.memlockBytes !== b.memlockBytes)
    parts.push(`${optionalSize(a.memlockBytes)} -> ${optionalSize(b.memlockBytes)}`);
  if (isKnownToDiffer(a.frozen, b.frozen)) parts.push(b.frozen ? "frozen now" : "no longer frozen");
  return [parts.join(", ")];
}

const canFill = ({ type }: SnapshotMap): boolean => hasFill({ type: MAP_TYPES.indexOf(type as "hash") });
const fillText = ({ count, maxEntries }: SnapshotMap): string =>
  maxEntries === 0 ? "?" : percent(count / maxEntries);
const optionalSize = (bytes: number | undefined): string => (bytes === undefined ? "?" : sizeText(bytes));

/** Limit on printed changes per variable. JSON has all. */
const SHOWN_CHANGES = 16;

function writeGlobals(out: Output, { globals, elapsedNs }: Diff, style: Style): void {
  if (globals.length === 0) return;
  const count = globals.reduce((sum, { variables }) => sum + variables.length, 0);
  out.line(`\n${style.heading(`Global variables (${count} changed)`)}`);
  for (const { a, b, variables } of globals) {
    const ids = a.id === b.id ? String(b.id) : `${a.id} -> ${b.id}`;
    out.line(`  ${escapeText(b.name)} ${style.dim(`(map ${ids})`)}`);
    writeVariables(out, variables, elapsedNs, style);
  }
}

function writeVariables(
  out: Output,
  variables: ChangedGlobals["variables"],
  elapsedNs: bigint | undefined,
  style: Style,
): void {
  for (const variable of variables) {
    for (const change of variable.changes.slice(0, SHOWN_CHANGES))
      out.line(`    ${changeText(variable, change, elapsedNs, style)}`);
    const rest = variable.changes.length - SHOWN_CHANGES;
    if (rest > 0) out.line(style.dim(`    ... ${countText(rest)} more in ${escapeText(variable.name)}`));
  }
}

function changeText(
  variable: ChangedVariable,
  change: Change,
  elapsedNs: bigint | undefined,
  style: Style,
): string {
  const { path, before, after, by } = changeParts(variable, change, elapsedNs);
  const delta = by === "" ? "" : style.dim(`  (${by})`);
  return `${path}: ${style.dim(escapeText(variable.type))}  ${before} -> ${after}${delta}`;
}

/** Formats one change. `by`: the difference, with its rate per second; "" if the values are not integers. */
export function changeParts(
  { type }: ChangedVariable,
  { path, a, b }: Change,
  elapsedNs: bigint | undefined,
): { readonly path: string; readonly before: string; readonly after: string; readonly by: string } {
  const isAddress = /\*\s*(const|volatile|\s)*$/.test(type);
  const by = isInteger(a) && isInteger(b) && !isAddress ? BigInt(b) - BigInt(a) : 0n;
  const rate =
    elapsedNs === undefined || elapsedNs === 0n
      ? ""
      : `, ${rateText(Number(by) / (Number(elapsedNs) / 1e9))}/s`;
  return {
    path: escapeText(path),
    before: valueText(a, isAddress),
    after: valueText(b, isAddress),
    by: by === 0n ? "" : `${by > 0n ? "+" : ""}${by}${rate}`,
  };
}

const isInteger = (value: ParsedJson | undefined): value is number | bigint =>
  typeof value === "bigint" || Number.isSafeInteger(value);

const MAX_VALUE_TEXT = 60;

function valueText(value: ParsedJson | undefined, isAddress: boolean): string {
  if (value === undefined) return "none";
  if (isAddress && isInteger(value)) return `0x${value.toString(16)}`;
  const text = stringify(value);
  return text.length > MAX_VALUE_TEXT ? `${text.slice(0, MAX_VALUE_TEXT)}...` : text;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)}%`;
