/** Aligned rows of text cells, and the format of rates. */
import type { Output } from "./output.ts";
import { countText } from "./units.ts";

export type Row = readonly string[];

/** Formats a rate: as an integer from 1000 on ("12,345"), else with four significant digits ("1.234"). */
export const rateText = (rate: number): string =>
  Math.abs(rate) >= 1000 ? countText(Math.round(rate)) : String(Number(rate.toPrecision(4)));

/** Prints rows with columns as wide as their longest cell, at most 48. */
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
