/**
 * Messages on stderr, one sentence per line. Uses only the core of consola: its terminal reporters take more start-up time
 * than everything else together, print information to stdout, and spread a sentence over three lines. The core is loaded with
 * the first message, because most commands print none.
 */
import type { ConsolaInstance } from "consola/core";
import { writeError } from "./report/output.ts";
import { escapeSentence } from "./text.ts";

let isDebug = false;
let consola: ConsolaInstance | undefined;

function open(): ConsolaInstance {
  const { createConsola, LogLevels } = require("consola/core") as typeof import("consola/core");
  return createConsola({
    level: isDebug ? LogLevels.debug : LogLevels.info,
    throttle: 0,
    reporters: [
      {
        log: ({ type, args }) => writeError(`ktstr: ${type}: ${escapeSentence(args.join(" "))}\n`),
      },
    ],
  });
}

function print(type: "error" | "warn" | "info" | "debug", sentence: string): void {
  consola ??= open();
  consola[type](sentence);
}

export const log = {
  error: (sentence: string): void => print("error", sentence),
  warn: (sentence: string): void => print("warn", sentence),
  info: (sentence: string): void => print("info", sentence),
  debug: (sentence: string): void => {
    if (isDebug) print("debug", sentence);
  },
};

/** Enables debug messages. Call it before the first message. */
export function enableDebugLog(): void {
  isDebug = true;
}
