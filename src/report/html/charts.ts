/** Charts of a record: uPlot's code, the code that draws with it, and the lines as data. */
import library from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import style from "uplot/dist/uPlot.min.css" with { type: "text" };
import license from "uplot/LICENSE" with { type: "text" };
import { stringify } from "../json.ts";
import type { Extras } from "./document.ts";
import { dataBlock, type Html, html } from "./markup.ts";

export interface Line {
  /** Already escaped by `escapeText`. */
  readonly label: string;
  readonly values: readonly (number | null)[];
}

/** A chart over the time of the record. `unit` is appended to values: "%". Hidden if scripts do not run. */
export function chart(id: string, unit: string, seconds: readonly number[], lines: readonly Line[]): Html {
  const rounded = (value: number | null): number | null =>
    value === null ? null : Number(value.toPrecision(6));
  const data = {
    unit,
    seconds: seconds.map(rounded),
    labels: lines.map(({ label }) => label),
    lines: lines.map(({ values }) => values.map(rounded)),
  };
  return html`<div class="chart" id="${id}" hidden></div>${dataBlock(`${id}-data`, stringify(data))}
`;
}

/** Draws each chart, and again if the window's width or the colour scheme changes. */
const DRAW = `"use strict";
(() => {
  const colours = ["#3b7dd8", "#d9822b", "#2e9d5b", "#b5489e", "#c23b3b", "#1f9aa8", "#8a6fd1", "#8c8c1e"];
  function draw(place) {
    const { unit, seconds, labels, lines } = JSON.parse(document.getElementById(place.id + "-data").textContent);
    const look = getComputedStyle(document.documentElement);
    const [dim, line] = ["--dim", "--line"].map((name) => look.getPropertyValue(name).trim());
    const axis = { stroke: dim, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "11px system-ui" };
    const text = (value) => value == null ? "" : Number(value.toPrecision(4)).toLocaleString("en") + unit;
    place.hidden = false;
    place.replaceChildren();
    new uPlot({
      width: Math.max(240, place.clientWidth), height: 260,
      scales: { x: { time: false } },
      series: [
        { label: "at", value: (_, value) => value == null ? "" : value.toFixed(1) + " s" },
        ...labels.map((label, index) => ({ label, stroke: colours[index % colours.length], width: 1.5, points: { show: false },
          value: (_, value) => text(value) })),
      ],
      axes: [
        { ...axis, values: (_, all) => all.map((value) => value + " s") },
        { ...axis, size: 70, values: (_, all) => all.map(text) },
      ],
    }, [seconds, ...lines], place);
  }
  const all = () => document.querySelectorAll(".chart").forEach(draw);
  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(all, 150); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  all();
})();
`;

const OWN_STYLE = `
.uplot{font-family:inherit}.u-legend{font-size:12px;text-align:left}.u-legend td,.u-legend th{padding:.1em .4em}
`;

export const CHARTS: Extras = {
  styles: [style, OWN_STYLE],
  // The license is kept next to the library's code.
  scripts: [`/*\n${license.replaceAll("*/", "* /")}*/\n${library}`, DRAW],
};
