import type { Style } from "../report/inspection-text.ts";

/** Colour is for a terminal, and for people who did not say no (https://no-color.org: any value but empty). */
export function coloured(): boolean {
  return (
    process.stdout.isTTY === true && (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb"
  );
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
