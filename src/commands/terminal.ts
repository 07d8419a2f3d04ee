import type { Style } from "../report/inspection-text.ts";

const STDOUT = 1;
/** Of what is no terminal. */
const USUAL_COLUMNS = 120;

/** Colour is for a terminal, and for people who did not say no (https://no-color.org: any value but empty). */
export function coloured(): boolean {
  return (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb" && isTerminal();
}

/** How many columns a line of this standard output has. */
export const terminalWidth = (): number =>
  (isTerminal() ? process.stdout.columns : undefined) ?? USUAL_COLUMNS;

/** A pipe, a file and /dev/null are told by their inodes: `process.stdout` loads all streams of the runtime, in 8 ms. */
function isTerminal(): boolean {
  const { fstatSync, statSync } = process.getBuiltinModule("node:fs");
  try {
    const file = fstatSync(STDOUT);
    if (!file.isCharacterDevice() || file.rdev === statSync("/dev/null").rdev) return false;
  } catch {
    return false; // It is closed, or the system has no /dev/null.
  }
  return process.stdout.isTTY === true;
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
