/** Pages of `top` without a table: one program, the scheduler, the help. Lines are escaped and of any width. */
import type { LinkFacts, ProgFacts } from "../round.ts";
import { escapeText } from "../text.ts";
import { stringify } from "./json.ts";
import { type History, type Rates, sparkline } from "./rates.ts";
import { rateText } from "./rows.ts";
import { percentText } from "./top-table.ts";
import { countText, sizeText, timeText } from "./units.ts";

const WIDEST_HISTORY = 60;

const counted = (count: number, noun: string): string =>
  `${countText(count)} ${noun}${count === 1 ? "" : "s"}`;

/** `prog`: the opened program, which may have been unloaded since. */
export function progPage(
  rates: Rates,
  prog: ProgFacts | undefined,
  history: History,
  columns: number,
  places?: readonly string[] | undefined,
): string[] {
  if (prog === undefined) return ["No program is open."];
  const rate = rates.progs.find(({ facts }) => facts === prog);
  const title = `Program ${prog.id}  ${escapeText(prog.name)}  ${escapeText(prog.type)}  tag ${escapeText(prog.tag)}`;
  const loaded = `Loaded     ${timeText(Number(prog.loadTimeNs))} after boot`;
  if (rate === undefined) return [title, loaded, "", "The program was unloaded."];
  const { counters } = rate;
  const past = history.ofProg(prog);
  const width = Math.max(1, Math.min(WIDEST_HISTORY, columns - 24));
  const row = (name: string, now: string, values: readonly number[]): string =>
    `${name.padEnd(10)} ${now.padStart(11)} ${sparkline(values, width)}`;
  const maps = new Map(rates.maps.map((map) => [map.facts.id, map]));
  const links = rates.links.filter(({ progId }) => progId === prog.id);
  return [
    title,
    loaded,
    counters === undefined
      ? "Counters   cannot be read"
      : `Total      ${countText(counters.count)} calls, ${timeText(Number(counters.runTimeNs))}, ${countText(counters.misses)} misses`,
    "",
    row("CPU%", percentText(rate.cpuShare), past.cpuShare),
    row("Calls/s", rateText(rate.callsPerSecond), past.callsPerSecond),
    row("ns/call", rate.nsPerCall === undefined ? "-" : rateText(rate.nsPerCall), past.nsPerCall),
    row("Misses/s", rateText(rate.missesPerSecond), past.missesPerSecond),
    "",
    ...attached(links, places),
    "",
    `Uses ${counted(prog.mapIds.length, "map")}`,
    ...prog.mapIds.map((id) => {
      const map = maps.get(id);
      if (map === undefined) return `  map ${id}`;
      const { facts, entries, bytes, growthPerSecond } = map;
      const held = entries === undefined ? "?" : countText(entries);
      const growth =
        growthPerSecond === undefined || growthPerSecond === 0 ? "" : `, ${rateText(growthPerSecond)}/s`;
      return `  map ${id}  ${escapeText(facts.name)}  ${escapeText(facts.type)}  ${held} of ${countText(facts.maxEntries)} entries${growth}${bytes === undefined ? "" : `, ${sizeText(bytes)}`}`;
    }),
  ];
}

/** Describes the program's attachments: all `places` if they are known, else its links. */
function attached(links: readonly LinkFacts[], places: readonly string[] | undefined): string[] {
  if (places !== undefined)
    return places.length === 0 ? ["No attachment found"] : places.map((place) => `Run ${place}`);
  if (links.length === 0) return ["No link attaches it"];
  return links.map(({ id, type, place }) => `Run by link ${id} (${escapeText(type)}) ${escapeText(place)}`);
}

export function schedPage({ sched, globals }: Rates, names: readonly string[]): string[] {
  const variables =
    names.length === 0
      ? []
      : [
          "",
          "Variables",
          ...names.map((name, index) => {
            const value = globals[index];
            const text =
              value === undefined ? "not present" : typeof value === "string" ? value : stringify(value);
            return `  ${escapeText(name)} = ${escapeText(text)}`;
          }),
        ];
  if (sched === undefined)
    return ["This kernel has no sched_ext, or does not expose its state.", ...variables];
  const { events, queues, waits } = sched;
  return [
    `Scheduler  ${sched.ops === "" ? "none" : escapeText(sched.ops)}  ${escapeText(sched.state)}`,
    "",
    events.length === 0
      ? "No event counters (kernels have them since 6.15)"
      : "EVENTS/S         TOTAL  EVENT",
    ...events.map(
      ({ name, count, perSecond }) =>
        `${rateText(perSecond).padStart(8)}  ${countText(count).padStart(12)}  ${escapeText(name)}`,
    ),
    "",
    ...(queues === undefined
      ? ["Dispatch queues are read from memory only: --vm, or --memory /proc/kcore"]
      : [
          `Dispatch queues that hold tasks: ${countText(queues.length)}`,
          ...queues.map(({ name, length }) => `${countText(length).padStart(8)}  ${escapeText(name)}`),
        ]),
    "",
    ...(waits === undefined
      ? ["Waits of tasks are read from memory only"]
      : [
          `Longest waits${waits.length === 0 ? ": none" : ""}`,
          ...waits.map(
            ({ pid, comm, cpu, waitMs }) =>
              `${`${waitMs} ms`.padStart(10)}  ${escapeText(comm)} (${pid}) on CPU ${cpu}`,
          ),
        ]),
    ...variables,
  ];
}

export function helpLines(isReplay: boolean): string[] {
  return [
    "Keys",
    "  p, m, s        programs, maps, the scheduler",
    "  up, down, j, k, PgUp, PgDn, Home, End   select a row, or scroll",
    "  Enter          open the selected program's page: history, attachments, maps",
    "  Esc            go back; in a list, remove the filter",
    "  /              show only rows with a text in name or type, or with an id",
    "  <, > or left, right   sort by another column; * marks it",
    "  r              reverse the order",
    ...(isReplay ? ["  [, ]           previous round, next round"] : []),
    "  space          pause; the next round covers the whole pause",
    "  Ctrl-L         redraw",
    "  q, Ctrl-C      quit",
    "",
    "CPU%: share of one CPU.",
    "PAST: ns/call, or entries, of the last rounds, scaled to the highest value.",
    "MISS/S: calls skipped because the program was already running on that CPU.",
    "?: not counted. Live, hash tables of more than 4,096 entries are not counted.",
  ];
}
