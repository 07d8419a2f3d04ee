/** A record as a page: costs over time, and changes. */
import { nsPerCall } from "../../derive.ts";
import { escapeText } from "../../text.ts";
import { MAP_TYPES } from "../../uapi/names.ts";
import { hasFill } from "../inspection.ts";
import { stringify } from "../json.ts";
import type { GlobalSummary, MapSummary, RecordSummary } from "../record-summary.ts";
import { rateText } from "../rows.ts";
import { dateText } from "../text.ts";
import { countText, sizeText, timeText } from "../units.ts";
import { CHARTS, chart } from "./charts.ts";
import { documentOf, type Section } from "./document.ts";
import { html, type Part } from "./markup.ts";
import { type Made, madeText } from "./report.ts";
import { bar, percentText, spark, tableOf } from "./table.ts";

/** Limits on lines of a chart, charts of variables, and rows of a table. */
const MAX_CHART_LINES = 8;
const MAX_CHARTS = 32;
const MAX_ROWS = 2000;
/** Limit on rows with a small line chart. */
const MAX_SPARK_ROWS = 400;

/** `name`: name of the record file. */
export function recordPage(summary: RecordSummary, name: string, made: Made): string {
  const { facts, startUnixMs, lengthMs, rounds, damage } = summary;
  const { release, machine } = facts.kernel;
  const from = dateText(BigInt(Math.floor(startUnixMs / 1000)));
  const about = `${escapeText(name)}: ${escapeText(facts.source)}, ${countText(rounds)} rounds from ${from} on`;
  return documentOf(
    `BPF costs of ${escapeText(release)} ${escapeText(machine)} over ${timeText(lengthMs * 1e6)}`,
    [
      html`<span class="dim">${about}; ${madeText(made)}</span>`,
      ...(damage === "" ? [] : [html`<span class="alarm">${escapeText(damage)}</span>`]),
    ],
    [progsSection(summary), mapsSection(summary), schedSection(summary), ...globalsSection(summary)],
    CHARTS,
  );
}

const secondsOf = ({ steps }: RecordSummary): number[] => steps.map((ms) => ms / 1000);

function progsSection(summary: RecordSummary): Section {
  const { progs, lengthMs } = summary;
  const seconds = Math.max(lengthMs, 1) / 1000;
  const ran = progs.filter(({ total }) => total.count > 0n || total.misses > 0n);
  const all = ran.reduce((sum, { total }) => sum + Number(total.runTimeNs), 0);
  const lines = ran.slice(0, MAX_CHART_LINES).map(({ facts, shares }) => ({
    label: `${facts.id} ${escapeText(facts.name)}`,
    values: shares.map((share) => share * 100),
  }));
  const rows = ran.map(({ facts, total, shares }, index): Part[] => {
    const ns = Number(total.runTimeNs);
    const share = all === 0 ? 0 : ns / all;
    return [
      facts.id,
      escapeText(facts.name),
      escapeText(facts.type),
      bar(share),
      percentText(share),
      `${((100 * ns) / 1e9 / seconds).toFixed(3)}%`,
      rateText(Number(total.count) / seconds),
      countText(total.count),
      timeText(nsPerCall(total)),
      total.misses > 0n && countText(total.misses),
      index < MAX_SPARK_ROWS && spark(shares),
    ];
  });
  const table = tableOf(
    [
      { title: "id", isNumber: true },
      { title: "program" },
      { title: "type" },
      { title: "share of their time" },
      { title: "", isNumber: true },
      { title: "of a CPU", isNumber: true },
      { title: "calls/s", isNumber: true },
      { title: "calls", isNumber: true },
      { title: "each", isNumber: true },
      { title: "misses", isNumber: true },
      { title: "over time" },
    ],
    rows,
    MAX_ROWS,
  );
  return {
    id: "programs",
    title: "Programs",
    about: `${progs.length}, ${ran.length} of them ran, for ${timeText(all)} in all; the chart shows the costliest, in % of a CPU`,
    content:
      rows.length === 0
        ? html`<p class="dim">none ran</p>`
        : html`${chart("costs", "%", secondsOf(summary), lines)}${table}`,
  };
}

function mapsSection({ maps }: RecordSummary): Section {
  const rows = maps.map(({ first, last }): Part[] => {
    const { id, name, type, maxEntries } = last.facts;
    const canFill = hasFill({ type: (MAP_TYPES as readonly string[]).indexOf(type) });
    return [
      id,
      escapeText(name),
      escapeText(type),
      canFill && fromTo(first.entries, last.entries, countText),
      countText(maxEntries),
      fromTo(first.bytes, last.bytes, sizeText),
    ];
  });
  const columns = [
    { title: "id", isNumber: true },
    { title: "map" },
    { title: "type" },
    { title: "entries", isNumber: true },
    { title: "of", isNumber: true },
    { title: "memory", isNumber: true },
  ];
  return {
    id: "maps",
    title: "Maps",
    about: `${maps.length}, ${maps.filter(hasChanged).length} of them changed`,
    content: tableOf(columns, rows, MAX_ROWS),
  };
}

const hasChanged = ({ first, last }: MapSummary): boolean =>
  first.entries !== last.entries || first.bytes !== last.bytes;

function fromTo(
  first: number | undefined,
  last: number | undefined,
  text: (value: number) => string,
): string {
  const of = (value: number | undefined): string => (value === undefined ? "?" : text(value));
  if (first === last) return last === undefined ? "" : text(last);
  return `${of(first)} -> ${of(last)}`;
}

function schedSection({ states, events, lengthMs }: RecordSummary): Section {
  const seconds = Math.max(lengthMs, 1) / 1000;
  const hasState = states.some(({ state }) => state !== "");
  const stateRows = states.map(({ atMs, state, ops }): Part[] => [
    `${(atMs / 1000).toFixed(3)} s`,
    state === "" ? "not known" : escapeText(state),
    escapeText(ops),
  ]);
  const eventRows = events
    .filter(({ count }) => count !== 0n)
    .map(({ name, count }): Part[] => [
      escapeText(name),
      countText(count),
      `${rateText(Number(count) / seconds)}/s`,
    ]);
  const stateColumns = [{ title: "from", isNumber: true }, { title: "sched_ext" }, { title: "scheduler" }];
  const eventColumns = [
    { title: "event" },
    { title: "within the record", isNumber: true },
    { title: "", isNumber: true },
  ];
  const changes = states.length - 1;
  return {
    id: "scheduler",
    title: "Scheduler",
    about: hasState
      ? `${changes} change${changes === 1 ? "" : "s"} of its state`
      : "the kernel has no sched_ext, or the record has no data of it",
    content: html`${hasState && tableOf(stateColumns, stateRows, MAX_ROWS)}${eventRows.length > 0 && tableOf(eventColumns, eventRows, MAX_ROWS)}`,
  };
}

function globalsSection(summary: RecordSummary): Section[] {
  const { globals } = summary;
  if (globals.length === 0) return [];
  // Variables have different units, so each has its own chart.
  const charts = globals
    .filter(({ values }) => values.some((value) => value !== null))
    .slice(0, MAX_CHARTS)
    .map(({ name, values }, index) => {
      const label = escapeText(name);
      return html`<h3>${label}</h3>
${chart(`global-${index}`, "", secondsOf(summary), [{ label, values }])}`;
    });
  const rows = globals.map((each): Part[] => [
    escapeText(each.name),
    valueText(each.first),
    valueText(each.last),
    sparkAboveLowest(each),
  ]);
  const columns = [{ title: "variable" }, { title: "first" }, { title: "last" }, { title: "over time" }];
  return [
    {
      id: "globals",
      title: "Global variables",
      about: `${globals.length}`,
      content: html`${tableOf(columns, rows, MAX_ROWS)}${charts}`,
    },
  ];
}

const MAX_VALUE_TEXT = 200;

function valueText(value: GlobalSummary["first"]): string {
  if (value === undefined) return "not present";
  const text = stringify(value);
  return text.length > MAX_VALUE_TEXT ? `${text.slice(0, MAX_VALUE_TEXT)}...` : text;
}

/** Draws the values of a variable, with its lowest value at the bottom. */
function sparkAboveLowest({ values }: GlobalSummary): Part {
  const numbers = values.filter((value) => value !== null);
  if (numbers.length < 2) return undefined;
  const lowest = numbers.reduce((least, value) => Math.min(least, value));
  return spark(numbers.map((value) => value - lowest));
}
