/** `inspect` as text: kernel and scheduler, warnings, programs by cost, links, and maps with contents. */

import type { TextOptions } from "../btf/text.ts";
import { nsPerCall } from "../derive.ts";
import type { ActiveScheduler, KernelInfo, MapInfo, ProgInfo, ProgStats } from "../state.ts";
import { escapeSentence, escapeText, printable } from "../text.ts";
import { LINK_TYPES, MAP_TYPES, PROG_TYPES } from "../uapi/names.ts";
import type { ArenaObject } from "./arena-objects.ts";
import type { DumpStyle } from "./dump.ts";
import { arenaObjectText, bytesText, recordText } from "./element-text.ts";
import {
  hasFill,
  type InspectedLink,
  type InspectedMap,
  type Inspection,
  type Sample,
  type SampleRecord,
} from "./inspection.ts";
import type { StatsInterval } from "./interval.ts";
import type { Output } from "./output.ts";
import { writeSchedHead } from "./sched-page.ts";
import { type MapTypes, text } from "./typed.ts";
import { callsText, countText, sizeText, timeText, totalSizeText } from "./units.ts";
import { typeText } from "./words.ts";

export interface Style {
  readonly heading: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly alarm: (text: string) => string;
}

/** `width`: columns of the terminal. Bars are drawn if it is at least `WIDE`. */
export function writeInspection(out: Output, inspection: Inspection, style: Style, width: number): void {
  const { kernel, scheduler, sched, progs, maps, links, limit, warnings } = inspection;
  writeKernel(out, kernel, style);
  writeScheduler(out, scheduler, style);
  for (const { view, findings } of sched) writeSchedHead(out, view, findings, style);
  writeGlobals(out, scheduler, maps, style);
  for (const warning of warnings) out.line(`${style.alarm("warning")}  ${escapeSentence(warning)}`);
  writePrograms(out, inspection, style, width);
  writeLinks(out, links, progs, style);
  writeMaps(out, maps, limit, style);
}

function writeLinks(
  out: Output,
  links: readonly InspectedLink[],
  progs: readonly ProgInfo[],
  style: Style,
): void {
  if (links.length === 0) return;
  out.line(`\n${style.heading(`Links (${links.length})`)}`);
  const names = new Map(progs.map((prog) => [prog.id, printable(prog.fullName)]));
  for (const link of links) {
    const prog = link.progId === 0 ? "" : `  prog ${link.progId} ${names.get(link.progId) ?? ""}`;
    const place = link.place === "" ? "" : `  ${link.place}`;
    out.line(`${String(link.id).padStart(6)}  ${typeText(LINK_TYPES, link.type)}${prog}${place}`);
  }
}

function writeMaps(out: Output, maps: readonly InspectedMap[], limit: number, style: Style): void {
  const cost = ({ info }: InspectedMap): number => info.memlockBytes ?? 0;
  const total = totalSizeText(maps.map(({ info }) => info.memlockBytes));
  const sorted = [...maps].sort((a, b) => cost(b) - cost(a) || a.info.id - b.info.id);
  const about = `${total}, the largest first, up to ${limit} entries of each`;
  out.line(`\n${style.heading(`Maps (${maps.length})`)}  ${style.dim(about)}`);
  for (const map of sorted) writeMap(out, map, limit, style);
}

function writeKernel(out: Output, kernel: KernelInfo, style: Style): void {
  const { onlineCpus, possibleCpus } = kernel;
  const cpus =
    onlineCpus === undefined || possibleCpus === undefined
      ? "CPUs not known (/sys is not mounted)"
      : `${onlineCpus} of ${possibleCpus} CPUs online`;
  const version = kernel.version === "" ? "" : `  ${escapeText(kernel.version)}`;
  out.line(
    `${style.heading("Kernel")}     ${escapeText(kernel.release)} ${kernel.machine}, ${cpus}${style.dim(version)}`,
  );
}

function writeScheduler(out: Output, scheduler: ActiveScheduler | undefined, style: Style): void {
  if (scheduler === undefined) {
    out.line(`${style.heading("Scheduler")}  no sched_ext scheduler is attached`);
    return;
  }
  const state = scheduler.state === "" ? "" : `  ${escapeText(scheduler.state)}`;
  const counts = `${scheduler.progIds.length} programs, ${scheduler.mapIds.length} maps`;
  out.line(`${style.heading("Scheduler")}  ${escapeText(scheduler.opsName)}${state}  ${counts}`);
}

function writeGlobals(
  out: Output,
  scheduler: ActiveScheduler | undefined,
  maps: readonly InspectedMap[],
  style: Style,
): void {
  if (scheduler === undefined) return;
  const own = maps.filter(
    ({ info, variables }) => scheduler.mapIds.includes(info.id) && variables !== undefined,
  );
  // Variables first. Constants come last and are limited: vmlinux.h alone adds dozens.
  for (const map of own.sort((a, b) => Number(a.info.frozen ?? false) - Number(b.info.frozen ?? false))) {
    const { info, variables = [] } = map;
    const most = info.frozen ? SHOWN_CONSTANTS : variables.filter(({ name }) => !isReservedName(name)).length;
    out.line(`  ${printable(info.name)}`);
    writeVariables(out, map, "    ", most, style);
  }
}

const SHOWN_CONSTANTS = 12;

/** Matches names that C reserves. They come from headers (`__SCX_SLICE_DFL`, `enqueue.___fmt`) and are printed last. */
const isReservedName = (name: string): boolean => /(^|\.)__/.test(name);

/** Limit on printed places per program, because a callback may be in many elements of a prog array. */
const SHOWN_PLACES = 3;
const BAR_WIDTH = 20;
/** Minimum width in columns for bars. */
const WIDE = 110;

function writePrograms(
  out: Output,
  { progs, kernel, interval, places }: Inspection,
  style: Style,
  width: number,
): void {
  out.line();
  const about =
    interval !== undefined
      ? `  (costs of ${interval.seconds.toFixed(2)} s, and totals)`
      : kernel.statsEnabled === false
        ? "  (statistics are off; --stats SECONDS enables them for this time)"
        : "";
  out.line(`${style.heading(`Programs (${progs.length})`)}${style.dim(about)}`);
  const shown = (prog: ProgInfo): ProgStats | undefined =>
    prog.stats.ok ? (interval?.of(prog) ?? prog.stats.value) : undefined;
  const cost = (prog: ProgInfo): number => Number(shown(prog)?.runTimeNs ?? 0n);
  const total = progs.reduce((sum, prog) => sum + cost(prog), 0);
  const rows = [...progs].sort((a, b) => cost(b) - cost(a) || a.id - b.id);
  const names = rows.map((prog) => printable(prog.fullName));
  const typeWidth = Math.max(16, ...rows.map((prog) => String(typeText(PROG_TYPES, prog.type)).length));
  const nameWidth = Math.min(Math.max(0, ...names.map((name) => name.length)), 32);
  rows.forEach((prog, index) => {
    const head = `${String(prog.id).padStart(6)}  ${(names[index] ?? "").padEnd(nameWidth)}  ${typeText(PROG_TYPES, prog.type).padEnd(typeWidth)}`;
    const stats = shown(prog);
    const costs = stats === undefined ? "" : costText(stats, total, width >= WIDE);
    out.line(`${head}${costs}${totalText(prog, interval)}`.trimEnd());
    const own = places?.get(prog.id) ?? [];
    const more = own.length > SHOWN_PLACES ? `, and ${own.length - SHOWN_PLACES} more` : "";
    const shownPlaces = own.slice(0, SHOWN_PLACES).map(({ text }) => text);
    if (own.length > 0) out.line(style.dim(`          run ${shownPlaces.join(", ")}${more}`));
  });
}

function costText(stats: ProgStats, total: number, withBar: boolean): string {
  if (stats.count === 0n && stats.misses === 0n) return "";
  const share = total === 0 ? 0 : Number(stats.runTimeNs) / total;
  const bar = withBar ? ` ${"#".repeat(Math.round(share * BAR_WIDTH)).padEnd(BAR_WIDTH)}` : "";
  const misses = stats.misses === 0n ? "" : `  ${countText(stats.misses)} misses`;
  return ` ${bar} ${(share * 100).toFixed(1).padStart(5)}%  ${callsText(stats.count)}, ${timeText(nsPerCall(stats))} each${misses}`;
}

/** Returns the total of a program's counted calls if an interval is shown, or the reason why its statistics are not known. */
function totalText(prog: ProgInfo, interval: StatsInterval | undefined): string {
  if (!prog.stats.ok) return `  stats: ${prog.stats.why.detail}`;
  const { count } = prog.stats.value;
  return interval === undefined || count === 0n ? "" : `  (${callsText(count)} in all)`;
}

function writeMap(out: Output, map: InspectedMap, limit: number, style: Style): void {
  const { info, sample, variables } = map;
  const name = info.name.length === 0 ? style.dim("(no name)") : printable(info.name);
  const memory = info.memlockBytes === undefined ? "" : `  ${sizeText(info.memlockBytes)}`;
  out.line(
    `${String(info.id).padStart(6)}  ${name}  ${typeText(MAP_TYPES, info.type)}  ${shapeText(info)}${fillText(info, sample)}${memory}${info.frozen ? "  frozen" : ""}`,
  );
  if (variables !== undefined) writeVariables(out, map, SAMPLE_INDENT, limit, style);
  else writeSample(out, map);
  if (sample.problem !== "")
    out.line(`          ${style.alarm("incomplete")}: ${escapeSentence(sample.problem)}`);
  const shown = sample.entries.length + sample.records.length;
  if (sample.count > shown && variables === undefined) {
    out.line(
      style.dim(
        `${SAMPLE_INDENT}... ${sample.countIsWhole ? "" : "at least "}${countText(sample.count)} in all`,
      ),
    );
  }
}

/** Formats the fill of a map whose type can be partly filled: "  37 / 1,024 (3.6%)". */
function fillText(info: MapInfo, sample: Sample): string {
  if (!hasFill(info) || sample.problem !== "") return "";
  const share = sample.countIsWhole ? ` (${((100 * sample.count) / info.maxEntries).toFixed(1)}%)` : "";
  return `  ${sample.countIsWhole ? "" : "over "}${countText(sample.count)} / ${countText(info.maxEntries)}${share}`;
}

function shapeText(info: MapInfo): string {
  const entries = hasFill(info) || info.maxEntries === 0 ? "" : ` x ${countText(info.maxEntries)}`;
  return `${info.keySize} B -> ${info.valueSize} B${entries}`;
}

function writeVariables(
  out: Output,
  { variables = [], style: shown }: InspectedMap,
  indent: string,
  limit: number,
  style: Style,
): void {
  const ordered = variables.toSorted(
    (a, b) => Number(isReservedName(a.name)) - Number(isReservedName(b.name)),
  );
  const options = { ...shown.text, ...SHORT };
  for (const { name, type, bytes } of ordered.slice(0, limit)) {
    const value = text(type, bytes, options);
    out.line(`${indent}${indented(`${escapeText(name)} = ${value}`, indent)}`);
  }
  if (variables.length > limit) out.line(style.dim(`${indent}... ${variables.length} in all`));
}

const SAMPLE_INDENT = "          ";
const SHORT = { limit: 16, width: 90 };

function writeSample(out: Output, { sample, style }: InspectedMap): void {
  const { types } = style;
  const options = { ...style.text, ...SHORT };
  for (const { key, values, missing } of sample.entries) {
    const shown =
      missing !== ""
        ? `<${missing}>`
        : values.map((value) => shortText(value, types?.value, options)).join(" | ");
    const line = `${shortText(key, types?.key, options)}: ${shown}`;
    out.line(`${SAMPLE_INDENT}${indented(line, SAMPLE_INDENT)}`);
  }
  for (const record of sample.records)
    out.line(`${SAMPLE_INDENT}${indented(sampleRecordText(record, style), SAMPLE_INDENT)}`);
}

const SHOWN_BYTES = 32;

function sampleRecordText(record: SampleRecord, { types, text: options }: DumpStyle): string {
  const { objects, note = "", value } = record;
  if (objects !== undefined) return `${note}:${pageText(value, objects, options)}`;
  if (types !== undefined || value.length <= SHOWN_BYTES)
    return recordText(record, types, { ...options, ...SHORT });
  const start = recordText({ ...record, value: value.subarray(0, SHOWN_BYTES) }, types);
  return `${start} ... (${sizeText(value.length)})`;
}

/** Formats an arena's page: its known objects, or its first nonzero bytes. */
function pageText(
  page: Uint8Array,
  objects: readonly ArenaObject[],
  options: TextOptions | undefined,
): string {
  const lines = objects.map((object) => `\n${arenaObjectText(object, options)}`);
  if (lines.length > 0) return lines.join("").replaceAll("\n", "\n  ");
  let first = 0;
  while (page[first] === 0) first++;
  if (first === page.length) return " zeros";
  const start = first - (first % 8);
  return ` +0x${start.toString(16).padStart(3, "0")}  ${bytesText(undefined, page.subarray(start, start + SHOWN_BYTES))}`;
}

function shortText(bytes: Uint8Array, type: MapTypes["value"] | undefined, options: TextOptions): string {
  if (type !== undefined) return text(type, bytes, options);
  const shown = bytesText(undefined, bytes.subarray(0, SHOWN_BYTES));
  return bytes.length > SHOWN_BYTES ? `${shown} ... (${sizeText(bytes.length)})` : shown;
}

function indented(lines: string, indent: string): string {
  return lines.replaceAll("\n", `\n${indent}`);
}
