/** Full-screen output on a terminal: alternate screen and raw mode, restored whenever the process ends. */
import { writeSync } from "node:fs";
import { writeError } from "../report/output.ts";
import { keysIn } from "./keys.ts";

const ENTER = "\u001b[?1049h\u001b[?25l";
const LEAVE = "\u001b[0m\u001b[?25h\u001b[?1049l";
const HOME = "\u001b[H";
const CLEAR = "\u001b[2J";
const TO_LINE_END = "\u001b[K";

export interface ScreenEvents {
  readonly onKey: (key: string) => void;
  /** Called after a change of size or a return from the background: everything must be drawn again. */
  readonly onRedraw: () => void;
  /** Called if the terminal is gone. */
  readonly onEnd: () => void;
}

export class Screen implements Disposable {
  readonly #events: ScreenEvents;
  #isOurs = false;
  #drawn: readonly string[] = [];

  constructor(events: ScreenEvents) {
    this.#events = events;
    process.stdin.setEncoding("utf8");
    process.stdin.on("data", this.#onData);
    process.stdin.on("end", events.onEnd);
    process.stdin.on("error", events.onEnd);
    process.stdout.on("resize", this.#onResize);
    process.on("SIGTSTP", this.suspend);
    process.on("SIGCONT", this.#onContinue);
    // Called when the process exits. Signals that would end it without this event are handled by the caller (`Ending`).
    process.on("exit", this.#leave);
    process.on("uncaughtException", this.#onError);
    process.on("unhandledRejection", this.#onError);
    this.#enter();
  }

  get columns(): number {
    return process.stdout.columns || 80;
  }

  get rows(): number {
    return process.stdout.rows || 24;
  }

  /** Writes only the lines that changed, for slow connections. */
  draw(lines: readonly string[]): void {
    if (!this.#isOurs) return;
    let text = "";
    for (const [index, line] of lines.entries())
      if (line !== this.#drawn[index]) text += `\u001b[${index + 1};1H${line}${TO_LINE_END}`;
    this.#drawn = [...lines];
    if (text !== "") write(text);
  }

  /** Makes the next `draw` write all lines. */
  forget(): void {
    this.#drawn = [];
    if (this.#isOurs) write(`${CLEAR}${HOME}`);
  }

  /** Restores the terminal and stops, as SIGTSTP does; `#onContinue` continues. */
  readonly suspend = (): void => {
    this.#leave();
    process.kill(process.pid, "SIGSTOP");
  };

  readonly #onContinue = (): void => {
    this.#enter();
    this.#events.onRedraw();
  };

  readonly #onResize = (): void => {
    this.forget();
    this.#events.onRedraw();
  };

  readonly #onData = (chunk: string | Buffer): void => {
    for (const key of keysIn(chunk.toString())) this.#events.onKey(key);
  };

  #enter(): void {
    process.stdin.setRawMode(true);
    process.stdin.resume();
    if (!this.#isOurs) write(ENTER);
    this.#isOurs = true;
    this.forget();
  }

  /** Leaves the alternate screen first, because it would hide the error. */
  readonly #onError = (error: unknown): never => {
    this.#leave();
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
    writeError(`ktstr: internal error, please report it: ${detail}\n`);
    process.exit(1);
  };

  readonly #leave = (): void => {
    if (!this.#isOurs) return;
    this.#isOurs = false;
    write(LEAVE);
    try {
      process.stdin.setRawMode(false);
    } catch {
      // The terminal is gone.
    }
  };

  [Symbol.dispose](): void {
    this.#leave();
    process.stdin.off("data", this.#onData);
    process.stdin.off("end", this.#events.onEnd);
    process.stdin.off("error", this.#events.onEnd);
    process.stdin.pause();
    process.stdout.off("resize", this.#onResize);
    process.off("SIGTSTP", this.suspend);
    process.off("SIGCONT", this.#onContinue);
    process.off("exit", this.#leave);
    process.off("uncaughtException", this.#onError);
    process.off("unhandledRejection", this.#onError);
  }
}

/**
 * Writes at once, and leaves to `later` the bytes that a full non-blocking terminal does not take. Ignores errors of a terminal
 * that is gone.
 *
 * @public A test passes its own `now` and `later`.
 */
export function write(
  text: string,
  now = (bytes: Uint8Array): number => writeSync(1, bytes),
  later = (bytes: Uint8Array): unknown => process.stdout.write(bytes),
): void {
  let rest: Uint8Array = Buffer.from(text);
  try {
    while (rest.length > 0) rest = rest.subarray(now(rest));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") later(rest);
  }
}
