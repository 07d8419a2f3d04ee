/** The screen of `top` as lines of text, and its reaction to keys. No I/O: the command draws the lines. */
import type { ProgFacts, SeriesFacts } from "../round.ts";
import { escapeText } from "../text.ts";
import type { Style } from "./inspection-text.ts";
import { History, type MapRate, type ProgRate, type Rates } from "./rates.ts";
import { helpLines, progPage, schedPage } from "./top-pages.ts";
import { type Column, fit, mapColumns, percentText, progColumns, sorted, tableLine } from "./top-table.ts";
import { countText, totalSizeText } from "./units.ts";

export type Action = "quit" | "suspend" | "back" | "forward" | "redraw" | "opened";

type Page = "programs" | "maps" | "scheduler" | "program" | "help";

interface List<T> {
  readonly columns: readonly Column<T>[];
  readonly factsOf: (item: T) => { readonly id: number; readonly type: string; readonly name: string };
  /** Index of the sort column. */
  sortedBy: number;
  isReversed: boolean;
  filter: string;
  /** Id of the selected row. */
  selected: number | undefined;
  top: number;
}

export interface TopOptions {
  readonly facts: SeriesFacts;
  readonly intervalMs: number;
  readonly style: Style;
  /** Whether a file is replayed. The keys that step through it are then shown. */
  readonly isReplay: boolean;
}

const MAX_FILTER = 64;
const CPU_COLUMN = 3;
const FILL_COLUMN = 4;

export class TopView {
  isPaused = false;
  /** Line below the title and the summary: the newest message, or the position in a replay; "" if there is neither. */
  status = "";
  history: History = new History();
  /** Attachments of the opened program, as text; undefined: only its links are known. */
  places: readonly string[] | undefined;
  readonly #options: TopOptions;
  readonly #progs: List<ProgRate>;
  readonly #maps: List<MapRate>;
  #rates: Rates | undefined;
  #page: Page = "programs";
  #before: Page = "programs";
  /** Program whose page is open. */
  opened: ProgFacts | undefined;
  #scroll = 0;
  #isTyping = false;
  #rows = 24;

  constructor(options: TopOptions) {
    this.#options = options;
    // Columns read the current history. A replay that steps back replaces it.
    const history = {
      ofProg: (facts: ProgFacts) => this.history.ofProg(facts),
      ofMap: (facts: MapRate["facts"]) => this.history.ofMap(facts),
    };
    this.#progs = list(progColumns(history), CPU_COLUMN);
    this.#maps = list(mapColumns(history), FILL_COLUMN);
  }

  /** Sets the rates to show. */
  show(rates: Rates): void {
    this.#rates = rates;
  }

  /** Handles a key (keys.ts). Returns undefined if only the screen changed. */
  key(key: string): Action | undefined {
    if (key === "ctrl-c") return "quit";
    if (key === "ctrl-z") return "suspend";
    if (key === "ctrl-l") return "redraw";
    if (this.#isTyping) return void this.#type(key);
    switch (key) {
      case "q":
        return "quit";
      case " ":
        this.isPaused = !this.isPaused;
        return undefined;
      case "[":
        return "back";
      case "]":
        return "forward";
      case "?":
      case "h":
        return void this.#go("help");
      case "m":
        return void this.#go("maps");
      case "s":
        return void this.#go("scheduler");
      case "p":
        return void this.#go("programs");
      case "escape":
      case "backspace":
        return void this.#leave();
      default:
        if (this.#page === "programs") return this.#listKey(key, this.#progs, this.#shownProgs());
        if (this.#page === "maps") return this.#listKey(key, this.#maps, this.#shownMaps());
        this.#scroll = Math.max(0, this.#scroll + this.#step(key, Number.MAX_SAFE_INTEGER));
        return undefined;
    }
  }

  #go(page: Page): void {
    if (page === "help" || page === "program") this.#before = this.#page === "help" ? "programs" : this.#page;
    this.#page = page;
    this.#scroll = 0;
  }

  /** Goes back from a page, or removes the filter of a list. */
  #leave(): void {
    if (this.#page === "programs" || this.#page === "maps") this.#list().filter = "";
    else this.#go(this.#page === "help" && this.#before !== "program" ? this.#before : "programs");
  }

  #list(): List<ProgRate> | List<MapRate> {
    return this.#page === "maps" ? this.#maps : this.#progs;
  }

  #type(key: string): void {
    const shown = this.#list();
    if (key === "enter") this.#isTyping = false;
    else if (key === "escape") {
      this.#isTyping = false;
      shown.filter = "";
    } else if (key === "backspace") shown.filter = [...shown.filter].slice(0, -1).join("");
    else if ([...key].length === 1 && shown.filter.length < MAX_FILTER) shown.filter += key;
    shown.top = 0;
    shown.selected = undefined;
  }

  #step(key: string, all: number): number {
    const page = Math.max(1, this.#rows - 6);
    const steps: Readonly<Record<string, number>> = {
      up: -1,
      k: -1,
      down: 1,
      j: 1,
      pageup: -page,
      pagedown: page,
      home: -all,
      end: all,
    };
    return steps[key] ?? 0;
  }

  #listKey<T extends ProgRate | MapRate>(
    key: string,
    shown: List<T>,
    items: readonly T[],
  ): Action | undefined {
    const sortable = shown.columns.flatMap(({ key: by }, index) => (by === undefined ? [] : [index]));
    const at = sortable.indexOf(shown.sortedBy);
    if (key === "/") this.#isTyping = true;
    else if (key === "r") shown.isReversed = !shown.isReversed;
    else if (key === "right" || key === ">")
      shown.sortedBy = sortable[Math.min(at + 1, sortable.length - 1)] ?? 0;
    else if (key === "left" || key === "<") shown.sortedBy = sortable[Math.max(at - 1, 0)] ?? 0;
    else {
      const ids = items.map((item) => shown.factsOf(item).id);
      const index = Math.max(0, ids.indexOf(shown.selected ?? -1));
      const step = this.#step(key, ids.length);
      shown.selected = ids[Math.min(Math.max(index + step, 0), ids.length - 1)];
      if (key === "enter" && this.#page === "programs" && items.length > 0) {
        this.opened = (items as readonly ProgRate[])[index]?.facts;
        this.#go("program");
        return "opened";
      }
    }
    return undefined;
  }

  #shownProgs(): ProgRate[] {
    return shownOf(this.#progs, this.#rates?.progs ?? []);
  }

  #shownMaps(): MapRate[] {
    return shownOf(this.#maps, this.#rates?.maps ?? []);
  }

  /** Returns exactly `rows` lines of at most `columns` columns. */
  lines(columns: number, rows: number): string[] {
    this.#rows = rows;
    const { style } = this.#options;
    const head = [style.heading(fit(this.#title(), columns, true)), fit(this.#summary(), columns, true)];
    if (this.status !== "") head.push(fit(this.status, columns, true));
    const foot = style.dim(fit(this.#hints(), columns, true));
    const room = Math.max(0, rows - head.length - 1);
    const body = this.#body(columns, room).slice(0, room);
    while (body.length < room) body.push("");
    return [...head, ...body, foot].slice(0, rows);
  }

  #title(): string {
    const { facts, intervalMs } = this.#options;
    const { release, machine } = facts.kernel;
    const time = this.#rates === undefined ? "" : `  ${clock(this.#rates.unixMs)}`;
    const paused = this.isPaused ? "  PAUSED" : "";
    return `ktstr top${time}${paused}  ${escapeText(release)} ${escapeText(machine)}  ${escapeText(facts.source)}  every ${intervalMs / 1000} s`;
  }

  #summary(): string {
    const rates = this.#rates;
    if (rates === undefined) return "reading";
    const { progs, maps, sched, seconds, pauseMs } = rates;
    const sum = (of: (prog: ProgRate) => number): number => progs.reduce((all, prog) => all + of(prog), 0);
    const ran = progs.filter(({ callsPerSecond }) => callsPerSecond > 0).length;
    const memory = totalSizeText(maps.map(({ bytes }) => bytes));
    const parts = [
      `${countText(progs.length)} programs, ${countText(ran)} ran`,
      `CPU ${percentText(sum(({ cpuShare }) => cpuShare))}%`,
      `${countText(maps.length)} maps, ${memory}`,
      ...(sched === undefined ? [] : [`sched_ext ${escapeText(`${sched.state} ${sched.ops}`.trim())}`]),
    ];
    if (pauseMs !== undefined)
      parts.unshift(
        `paused ${pauseMs.toFixed(1)} ms${seconds === 0 ? "" : ` (${percentText(pauseMs / (seconds * 1000 + pauseMs))}%)`}`,
      );
    return parts.join("  ");
  }

  #hints(): string {
    if (this.#isTyping) return "Enter keeps the filter, Esc removes it";
    const replay = this.#options.isReplay ? "[ ] step  " : "";
    const common = `${replay}space ${this.isPaused ? "resume" : "pause"}  ? help  q`;
    if (this.#page === "programs") return `Enter open  / filter  < > sort  m maps  s sched  ${common}`;
    if (this.#page === "maps") return `/ filter  < > sort  p programs  s sched  ${common}`;
    return `Esc back  p programs  m maps  s scheduler  ${common}`;
  }

  #body(columns: number, room: number): string[] {
    const rates = this.#rates;
    if (this.#page === "help") return this.#scrolled(helpLines(this.#options.isReplay), columns, room);
    if (rates === undefined) return [];
    if (this.#page === "programs")
      return this.#table(this.#progs, this.#shownProgs(), "Programs", columns, room);
    if (this.#page === "maps") return this.#table(this.#maps, this.#shownMaps(), "Maps", columns, room);
    if (this.#page === "scheduler")
      return this.#scrolled(schedPage(rates, this.#options.facts.globals), columns, room);
    return this.#scrolled(progPage(rates, this.opened, this.history, columns, this.places), columns, room);
  }

  #scrolled(lines: readonly string[], columns: number, room: number): string[] {
    this.#scroll = Math.max(0, Math.min(this.#scroll, lines.length - room));
    return lines.slice(this.#scroll, this.#scroll + room).map((line) => fit(line, columns, true));
  }

  #table<T extends ProgRate | MapRate>(
    shown: List<T>,
    items: readonly T[],
    title: string,
    columns: number,
    room: number,
  ): string[] {
    const { style } = this.#options;
    const { sortedBy, isReversed, filter } = shown;
    const by = shown.columns[sortedBy]?.title ?? "";
    const how = `${title} by ${by}${isReversed ? ", reversed" : ""}`;
    const filtered = this.#isTyping
      ? `  /${escapeText(filter)}_`
      : filter === ""
        ? ""
        : `  with "${escapeText(filter)}"`;
    const counted = filter === "" ? "" : `: ${countText(items.length)}`;
    const head = tableLine(shown.columns, columns - 2, ({ title: word }) =>
      word === by ? `*${word}` : word,
    );
    const height = Math.max(0, room - 2);
    const index = Math.max(
      0,
      items.findIndex((item) => shown.factsOf(item).id === shown.selected),
    );
    shown.top = Math.max(0, Math.min(shown.top, items.length - height, index));
    if (index >= shown.top + height) shown.top = index - height + 1;
    const rows = items.slice(shown.top, shown.top + height).map((item, row) => {
      const line = tableLine(shown.columns, columns - 2, (column, width) => column.cell(item, width));
      return shown.top + row === index
        ? style.heading(fit(`> ${line}`, columns, true))
        : fit(`  ${line}`, columns, true);
    });
    return [
      fit(`${how}${filtered}${counted}`, columns, true),
      style.heading(fit(`  ${head}`, columns, true)),
      ...rows,
    ];
  }
}

function list<T extends ProgRate | MapRate>(columns: readonly Column<T>[], sortedBy: number): List<T> {
  return {
    columns,
    factsOf: ({ facts }) => facts,
    sortedBy,
    isReversed: false,
    filter: "",
    selected: undefined,
    top: 0,
  };
}

/** Returns the items whose name or type contains the filter's text, or whose id is equal to it, in the selected order. */
function shownOf<T extends ProgRate | MapRate>(
  { columns, sortedBy, isReversed, filter, factsOf }: List<T>,
  items: readonly T[],
): T[] {
  const wanted = filter.toLowerCase();
  const matching =
    wanted === ""
      ? items
      : items.filter((item) => {
          const { id, name, type } = factsOf(item);
          return name.toLowerCase().includes(wanted) || type.includes(wanted) || String(id) === wanted;
        });
  const key = columns[sortedBy]?.key;
  return key === undefined ? [...matching] : sorted(matching, key, isReversed);
}

/** Formats the local time of day. */
export function clock(unixMs: number): string {
  const date = new Date(unixMs);
  return [date.getHours(), date.getMinutes(), date.getSeconds()]
    .map((part) => String(part).padStart(2, "0"))
    .join(":");
}
