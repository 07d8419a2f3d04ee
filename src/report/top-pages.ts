/** Pages of `top` that are no tables: one program's, the scheduler's, the help. Lines of text, escaped, of any width. */
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

/** `prog`: the one that was opened; it may be gone meanwhile. */
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
  if (rate === undefined) return [title, loaded, "", "It is gone."];
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
      : `In all     ${countText(counters.count)} calls, ${timeText(Number(counters.runTimeNs))}, ${countText(counters.misses)} misses`,
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

/** By what is known without them, links, or by all `places`. */
function attached(links: readonly LinkFacts[], places: readonly string[] | undefined): string[] {
  if (places !== undefined)
    return places.length === 0
      ? ["Nothing that could be found runs it"]
      : places.map((place) => `Run ${place}`);
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
              value === undefined ? "not there" : typeof value === "string" ? value : stringify(value);
            return `  ${escapeText(name)} = ${escapeText(text)}`;
          }),
        ];
  if (sched === undefined) return ["This kernel has no sched_ext, or does not tell of it.", ...variables];
  const { events, queues, waits } = sched;
  return [
    `Scheduler  ${sched.ops === "" ? "none" : escapeText(sched.ops)}  ${escapeText(sched.state)}`,
    "",
    events.length === 0 ? "No event counters (since 6.15)" : "EVENTS/S        IN ALL  EVENT",
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
    "  up, down, j, k, PgUp, PgDn, Home, End   choose a row, or scroll",
    "  Enter          the chosen program's page: history, what runs it, maps",
    "  Esc            back; on a list, without its filter",
    "  /              only rows with this in name or type, or with this id",
    "  <, > or left, right   sort by another column; * marks it",
    "  r              the other way round",
    ...(isReplay ? ["  [, ]           one round back, one on"] : []),
    "  space          pause; the round behind it has all of its time",
    "  Ctrl-L         draw anew",
    "  q, Ctrl-C      end",
    "",
    "CPU% is of one CPU.",
    "PAST: ns/call, or entries, of the last rounds; the highest is a full block.",
    "MISS/S: calls that were left out, as the program ran on that CPU already.",
    "?: not counted, as are hash tables of more than 4,096 entries live.",
  ];
}
