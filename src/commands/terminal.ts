/** Colour is for a terminal, and for people who did not say no (https://no-color.org: any value but empty). */
export function coloured(): boolean {
  return (
    process.stdout.isTTY === true && (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb"
  );
}
