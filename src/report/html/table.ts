/** Tables with searchable rows, and small charts. */
import { countText } from "../units.ts";
import { type Html, html, type Part } from "./markup.ts";

export interface Column {
  readonly title: string;
  /** Numbers are aligned to the right. */
  readonly isNumber?: boolean;
}

/** Prints at most `most` rows, and the number of omitted rows. */
export function tableOf(columns: readonly Column[], rows: readonly (readonly Part[])[], most: number): Html {
  const kind = (index: number): Part => columns[index]?.isNumber === true && html` class="n"`;
  const lines = rows.slice(0, most).map(
    (cells) => html`<tr class="item">${cells.map((cell, index) => html`<td${kind(index)}>${cell}</td>`)}</tr>
`,
  );
  return html`<div class="scroll"><table class="rows"><tr>${columns.map(({ title }, index) => html`<th${kind(index)}>${title}</th>`)}</tr>
${lines}</table></div>${rest(rows.length, lines.length)}`;
}

/** Describes how many items of a list are omitted. */
export function rest(count: number, shown: number): Part {
  return (
    count > shown &&
    html`<p class="dim">... ${countText(count)} in all, ${countText(count - shown)} of them omitted</p>`
  );
}

/** A bar for a share from 0 to 1. */
export function bar(share: number): Html {
  const width = Math.max(0, Math.min(100, share * 100)).toFixed(1);
  return html`<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect width="${width}" height="8"/></svg>`;
}

export const percentText = (share: number): string => `${(100 * share).toFixed(1)}%`;

/** Number of points of a small line chart. */
const SPARKS = 60;

/** A line chart without axes: the highest value is at the top, 0 at the bottom. */
export function spark(values: readonly number[]): Html {
  const count = Math.min(SPARKS, values.length);
  const means = Array.from({ length: count }, (_, point) => {
    const part = values.slice(
      Math.floor((point * values.length) / count),
      Math.floor(((point + 1) * values.length) / count),
    );
    return part.reduce((sum, value) => sum + value, 0) / Math.max(1, part.length);
  });
  const highest = Math.max(...means, Number.MIN_VALUE);
  const points = means.map((value, at) => `${at * 2},${(15 - (14 * value) / highest).toFixed(1)}`).join(" ");
  return html`<svg class="spark" width="${count * 2}" height="16" aria-hidden="true"><polyline points="${points}"/></svg>`;
}
