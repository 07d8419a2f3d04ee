import { closeSync, constants, fdatasync, fdatasyncSync, openSync, statSync, writeSync } from "node:fs";
import pkg from "../../package.json" with { type: "json" };
import { KtstrError, syscallError, UsageError } from "../errors.ts";
import { stringify } from "../report/json.ts";
import { headerLine, RoundLines } from "../report/record-write.ts";
import { countText, sizeText } from "../report/units.ts";
import { escapeText } from "../text.ts";
import { type Command, command } from "./command.ts";
import { indentOf } from "./print.ts";
import { Ending, globalsOption, intervalOption, onSchedule, openRounds, secondsOption } from "./rounds.ts";

const record: Command = command({
  name: "ktstr record",
  description: "Record programs' costs, maps and the scheduler over time, until Ctrl-C",
  options: ["output", "force", "interval", "for", "get"],
  examples: [
    "ktstr record -o run.ktstr --interval 0.5 --for 600",
    "ktstr record -o run.ktstr --get scx_simple.bss:nr_enqueued",
  ],
  async start(context) {
    const { options, words, out } = context;
    if (words.length > 0) throw new UsageError(`record: unexpected arguments: ${words.join(" ")}`);
    const path = options.own["output"];
    if (typeof path !== "string" || path === "" || path === "-")
      throw new UsageError("record: no output file given: -o FILE");
    const schedule = {
      intervalMs: intervalOption(options),
      forMs: secondsOption(options, "for"),
      rounds: undefined,
    };
    using ending = new Ending();
    using source = await openRounds(options, globalsOption(options));
    using file = new RecordFile(path, options.own["force"] === true);
    file.line(headerLine(source.facts, schedule.intervalMs, pkg.version));
    const lines = new RoundLines();
    let rounds = 0;
    let shownWarnings = 0;
    const missed = await onSchedule(schedule, ending, () => {
      file.line(lines.next(source.round()));
      rounds++;
      for (const sentence of source.warnings.slice(shownWarnings)) context.warn(sentence);
      shownWarnings = source.warnings.length;
    });
    const { bytes } = file;
    if (options.json)
      out.line(
        stringify({ file: path, file_bytes: bytes, rounds, missed_rounds: missed }, indentOf(context)),
      );
    else {
      const late =
        missed === 0 ? "" : `; ${countText(missed)} were missed because earlier ones took too long`;
      out.line(`${escapeText(path)}: ${countText(rounds)} rounds, ${sizeText(bytes)}${late}`);
    }
    return 0;
  },
});

export default record;

/** Writes each line with one write(2), so that a killed process leaves whole lines, and syncs the file in the background. */
class RecordFile implements Disposable {
  bytes = 0;
  readonly #path: string;
  readonly #fd: number;
  #isSyncing = false;

  /**
   * Creates a file that only its owner can read. With `replace`, truncates an existing file, which keeps its mode. Throws
   * `KtstrError` for an existing file without `replace`, and if `path` is not a regular file or cannot be opened.
   */
  constructor(path: string, replace: boolean) {
    this.#path = path;
    const there = statSync(path, { throwIfNoEntry: false });
    if (there !== undefined && !there.isFile())
      throw new KtstrError(`write ${path}: it exists and is not a regular file`, {
        hint: "Give the name of a file.",
      });
    if (there !== undefined && !replace)
      throw new KtstrError(`write ${path}: it exists already`, { hint: "--force replaces it." });
    const { O_WRONLY, O_CREAT, O_TRUNC, O_EXCL, O_APPEND } = constants;
    const flags = O_WRONLY | O_CREAT | O_APPEND | (replace ? O_TRUNC : O_EXCL);
    this.#fd = attempt("open", path, () => openSync(path, flags, 0o600));
  }

  /** Throws `SyscallError`. */
  line(text: string): void {
    const bytes = Buffer.from(`${text}\n`, "utf8");
    for (let done = 0; done < bytes.length; )
      done += attempt("write", this.#path, () => writeSync(this.#fd, bytes, done));
    this.bytes += bytes.length;
    this.#sync();
  }

  /** Syncs asynchronously: a slow disk must not delay rounds. A crash of the machine loses lines that were not synced. */
  #sync(): void {
    if (this.#isSyncing) return;
    this.#isSyncing = true;
    fdatasync(this.#fd, () => {
      this.#isSyncing = false;
    });
  }

  [Symbol.dispose](): void {
    fdatasyncSync(this.#fd);
    closeSync(this.#fd);
  }
}

function attempt<T>(call: string, path: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw syscallError(error, path, (code) => HINTS[code] ?? "", call);
  }
}

const HINTS: Readonly<Record<string, string>> = {
  ENOSPC: "The disk is full. The earlier rounds are in the file.",
  EACCES: "This user may not write there.",
  ENOENT: "That folder does not exist.",
};
