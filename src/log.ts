/**
 * What is said besides the answer: on stderr, one line a sentence. consola's core alone: its terminal reporters cost
 * more start-up time than everything else together, would print information to stdout, and spread a sentence over
 * three lines.
 */
import { type ConsolaInstance, createConsola, LogLevels } from "consola/core";
import { escapeText } from "./text.ts";

export const log: ConsolaInstance = createConsola({
  level: LogLevels.info,
  throttle: 0,
  reporters: [
    { log: ({ type, args }) => void process.stderr.write(`ktstr: ${type}: ${escapeText(args.join(" "))}\n`) },
  ],
});

export function logEverything(): void {
  log.level = LogLevels.debug;
}
