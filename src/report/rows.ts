/** Rows of cells for people, and rates. */
import type { Output } from "./output.ts";
import { countText } from "./units.ts";

export type Row = readonly string[];

/** Four digits are enough for a rate. */
export const rateText = (rate: number): string =>
  Math.abs(rate) >= 1000 ? countText(Math.round(rate)) : String(Number(rate.toPrecision(4)));

/** Columns are as wide as their longest, at most 48. */
export function writeRows(out: Output, rows: readonly Row[]): void {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, column) => {
      if (column < row.length - 1) widths[column] = Math.min(48, Math.max(widths[column] ?? 0, cell.length));
    });
  for (const row of rows)
    out.line(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
}
