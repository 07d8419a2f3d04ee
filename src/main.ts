/** The command table, the error boundary and the exit status; nothing else. */
import pkg from "../package.json" with { type: "json" };
import { type Command, type CommandTable, command } from "./commands/command.ts";
import { parseCommandLine, wantsDebug } from "./commands/parse.ts";
import { KtstrError, UsageError } from "./errors.ts";
import { log, logEverything } from "./log.ts";
import { ClosedPipeError, Output, writeError } from "./report/output.ts";

const COMMANDS: CommandTable = {
  inspect: async () => (await import("./commands/inspect.ts")).default,
  map: async () => (await import("./commands/map.ts")).default,
  prog: async () => (await import("./commands/prog.ts")).default,
  link: async () => (await import("./commands/link.ts")).default,
  get: async () => (await import("./commands/get.ts")).default,
  diff: async () => (await import("./commands/diff.ts")).default,
  sched: async () => (await import("./commands/sched.ts")).default,
  btf: async () => (await import("./commands/btf.ts")).default,
  task: async () => (await import("./commands/task.ts")).default,
  dmesg: async () => (await import("./commands/dmesg.ts")).default,
  capture: async () => (await import("./commands/capture.ts")).default,
  pin: async () => (await import("./commands/pin.ts")).default,
  vmlinux: async () => (await import("./commands/vmlinux.ts")).default,
  completions: async () => (await import("./commands/completions.ts")).default,
};

const root: Command = command({
  name: "ktstr",
  version: pkg.version,
  description: "The BPF state of a Linux kernel, live or from a frozen machine's memory",
  options: ["version"],
  examples: [
    "ktstr inspect                    # everything, for people",
    "ktstr get nr_enqueued            # one global variable, for scripts",
    "ktstr -j map dump name foo.bss   # bpftool's words, bpftool's JSON",
  ],
  subCommands: COMMANDS,
});

/** Runs one command line; answers with its exit status: 0, 1 on a failure, 2 on wrong usage. */
export async function main(argv: readonly string[]): Promise<number> {
  const out = new Output();
  if (wantsDebug(argv)) logEverything();
  const warn = (sentence: string): void => log.warn(sentence);
  try {
    const {
      command: chosen,
      parents,
      options,
      words,
      tail,
      help,
      version,
    } = await parseCommandLine(root, argv);
    let status = 0;
    if (version) out.line(pkg.version);
    else if (help) out.text(await (await import("./commands/help.ts")).helpText(chosen, parents));
    else status = (await chosen.start?.({ root, words, tail, options, out, warn })) ?? 0;
    out.flush();
    return status;
  } catch (error) {
    return report(error, out, wantsDebug(argv));
  }
}

function report(error: unknown, out: Output, debug: boolean): number {
  if (error instanceof ClosedPipeError) return 0;
  try {
    out.flush(); // what was printed before the failure is still true
  } catch (late) {
    if (late instanceof ClosedPipeError) return 1;
  }
  if (!(error instanceof KtstrError)) {
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
    writeError(`ktstr: internal error, please report it: ${detail}\n`);
    return 1;
  }
  // One line: what, then what to do.
  log.error(error.hint === "" ? error.message : `${error.message}. ${capital(error.hint)}`);
  if (debug) writeError(`${error.stack ?? ""}\n`);
  return error instanceof UsageError ? 2 : 1;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
