/** Properties of standard output as a terminal. */
import type { Style } from "../report/inspection-text.ts";

/** True on a terminal, unless TERM is "dumb", or NO_COLOR is set (https://no-color.org: any value but empty). */
export function coloured(): boolean {
  return (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb" && isTerminal();
}

/** Width in columns; 120 if the output is not a terminal. */
export const terminalWidth = (): number => (isTerminal() ? process.stdout.columns : undefined) ?? 120;

/** Width at which lines of a page are cut; unlimited if the output is not a terminal. */
export const cutWidth = (): number =>
  (isTerminal() ? process.stdout.columns : undefined) || Number.POSITIVE_INFINITY;

/** Checks the descriptor first: the first access to `process.stdout` takes 7 ms, and most output is not a terminal. */
function isTerminal(): boolean {
  try {
    const { fstatSync, statSync } = process.getBuiltinModule("node:fs");
    const file = fstatSync(1);
    if (!file.isCharacterDevice() || file.rdev === statSync("/dev/null").rdev) return false;
    return process.stdout.isTTY === true;
  } catch {
    return false; // it is closed
  }
}

/** Style of headings and alarms on standard output. */
export const terminalStyle = (): Style => (coloured() ? COLOURED : PLAIN);

const same = (text: string): string => text;
export const PLAIN: Style = { heading: same, dim: same, alarm: same };
const COLOURED: Style = {
  heading: (text) => `\u001b[1m${text}\u001b[22m`,
  dim: (text) => `\u001b[2m${text}\u001b[22m`,
  alarm: (text) => `\u001b[31m${text}\u001b[39m`,
};
