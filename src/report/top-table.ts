/** Tables of `top`: one column takes the remaining width, the others have a fixed width. */
import { escapeText } from "../text.ts";
import { type History, type MapRate, type ProgRate, sparkline } from "./rates.ts";
import { rateText } from "./rows.ts";
import { countText, sizeText } from "./units.ts";

export interface Column<T> {
  readonly title: string;
  /** Width in columns; 0: the remaining width, at least `least`. */
  readonly width: number;
  readonly least?: number;
  readonly isText?: boolean;
  cell(item: T, width: number): string;
  /** Sort key: numbers in descending, text in ascending order. undefined: the table cannot be sorted by this column. */
  readonly key?: ((item: T) => number | string) | undefined;
}

export const percentText = (share: number): string =>
  share === 0 ? "0" : share < 0.0995 ? (share * 100).toFixed(2) : (share * 100).toFixed(1);

/** Cuts and pads text to exactly `width` columns of a terminal. */
export function fit(text: string, width: number, isLeft: boolean): string {
  let cut = text;
  if (Bun.stringWidth(cut) > width) {
    // A character may take two columns.
    while (cut !== "" && Bun.stringWidth(cut) > width - 1) cut = [...cut].slice(0, -1).join("");
    cut += width > 0 ? "\u2026" : "";
  }
  const rest = " ".repeat(Math.max(0, width - Bun.stringWidth(cut)));
  return isLeft ? cut + rest : rest + cut;
}

/** Formats one line: cells separated by a blank. `columns`: width of the screen. */
export function tableLine<T>(
  table: readonly Column<T>[],
  columns: number,
  cell: (column: Column<T>, width: number) => string,
): string {
  const fixed = table.reduce((sum, { width }) => sum + width + 1, -1);
  return table
    .map((column) => {
      const width = column.width === 0 ? Math.max(column.least ?? 1, columns - fixed) : column.width;
      return fit(cell(column, width), width, column.isText === true);
    })
    .join(" ");
}

/** Sorts by a column. Equal items keep their order. */
export function sorted<T>(items: readonly T[], key: (item: T) => number | string, isReversed: boolean): T[] {
  const compare = (a: T, b: T): number => {
    const [x, y] = [key(a), key(b)];
    if (typeof x === "string" || typeof y === "string") return String(x) < String(y) ? -1 : x === y ? 0 : 1;
    return y - x;
  };
  return [...items].sort((a, b) => (isReversed ? -compare(a, b) : compare(a, b)));
}

const HISTORY_COLUMNS = 10;

/** Columns of both programs and maps. */
function identity<
  T extends { readonly facts: { readonly id: number; readonly type: string; readonly name: string } },
>(): Column<T>[] {
  return [
    // Ids go up to 2^31.
    { title: "ID", width: 8, cell: ({ facts }) => String(facts.id), key: ({ facts }) => -facts.id },
    {
      title: "TYPE",
      width: 10,
      isText: true,
      cell: ({ facts }) => escapeText(facts.type),
      key: ({ facts }) => facts.type,
    },
    {
      title: "NAME",
      width: 0,
      least: 8,
      isText: true,
      cell: ({ facts }) => escapeText(facts.name),
      key: ({ facts }) => facts.name,
    },
  ];
}

export function progColumns(history: Pick<History, "ofProg">): Column<ProgRate>[] {
  return [
    ...identity(),
    {
      title: "CPU%",
      width: 6,
      cell: ({ cpuShare }) => percentText(cpuShare),
      key: ({ cpuShare }) => cpuShare,
    },
    {
      title: "CALLS/S",
      width: 9,
      cell: ({ callsPerSecond }) => rateText(callsPerSecond),
      key: ({ callsPerSecond }) => callsPerSecond,
    },
    {
      title: "NS/CALL",
      width: 8,
      cell: ({ nsPerCall }) => (nsPerCall === undefined ? "-" : rateText(nsPerCall)),
      key: ({ nsPerCall }) => nsPerCall ?? -1,
    },
    {
      title: "PAST",
      width: HISTORY_COLUMNS,
      cell: ({ facts }) => sparkline(history.ofProg(facts).nsPerCall, HISTORY_COLUMNS),
    },
    {
      title: "MISS/S",
      width: 6,
      cell: ({ missesPerSecond }) => rateText(missesPerSecond),
      key: ({ missesPerSecond }) => missesPerSecond,
    },
  ];
}

export function mapColumns(history: Pick<History, "ofMap">): Column<MapRate>[] {
  return [
    ...identity(),
    {
      title: "ENTRIES",
      width: 9,
      cell: ({ entries }) => (entries === undefined ? "?" : countText(entries)),
      key: ({ entries }) => entries ?? -1,
    },
    {
      title: "FILL%",
      width: 6,
      cell: ({ fill }) => (fill === undefined ? "-" : percentText(fill)),
      key: ({ fill }) => fill ?? -1,
    },
    {
      title: "GROWTH/S",
      width: 9,
      cell: ({ growthPerSecond }) => (growthPerSecond === undefined ? "-" : rateText(growthPerSecond)),
      key: ({ growthPerSecond }) => growthPerSecond ?? 0,
    },
    {
      title: "PAST",
      width: HISTORY_COLUMNS,
      cell: ({ facts }) => sparkline(history.ofMap(facts), HISTORY_COLUMNS),
    },
    {
      title: "MEMORY",
      width: 9,
      cell: ({ bytes }) => (bytes === undefined ? "?" : sizeText(bytes)),
      key: ({ bytes }) => bytes ?? -1,
    },
  ];
}
