import type { Style } from "../report/inspection-text.ts";

/** Colour is for a terminal, and for people who did not say no (https://no-color.org: any value but empty). */
export function coloured(): boolean {
  return (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb" && isTerminal();
}

/** In columns; what is no terminal is as wide as a wide one. */
export const terminalWidth = (): number => (isTerminal() ? process.stdout.columns : undefined) ?? 120;

/** Where lines of a page are cut: at a terminal's width; elsewhere nowhere. */
export const cutWidth = (): number =>
  (isTerminal() ? process.stdout.columns : undefined) || Number.POSITIVE_INFINITY;

/** The descriptor is asked first: the first touch of `process.stdout` takes 7 ms, and most output goes elsewhere. */
function isTerminal(): boolean {
  try {
    const { fstatSync, statSync } = process.getBuiltinModule("node:fs");
    const file = fstatSync(1);
    if (!file.isCharacterDevice() || file.rdev === statSync("/dev/null").rdev) return false;
    return process.stdout.isTTY === true;
  } catch {
    return false; // it is closed, or there is no /dev/null
  }
}

/** How headings and alarms look on this standard output. */
export const terminalStyle = (): Style => (coloured() ? COLOURED : PLAIN);

const same = (text: string): string => text;
export const PLAIN: Style = { heading: same, dim: same, alarm: same };
const COLOURED: Style = {
  heading: (text) => `\u001b[1m${text}\u001b[22m`,
  dim: (text) => `\u001b[2m${text}\u001b[22m`,
  alarm: (text) => `\u001b[31m${text}\u001b[39m`,
};
