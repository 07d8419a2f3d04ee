/** The command table, the error boundary and the exit status. */
import { type Command, type CommandTable, command } from "./commands/command.ts";
import { type ErrorFormat, errorFormatOf, parseCommandLine } from "./commands/parse.ts";
import { runLine } from "./commands/run.ts";
import { KtstrError, UsageError } from "./errors.ts";
import { enableDebugLog, log } from "./log.ts";
import { ClosedPipeError, Output, writeError } from "./report/output.ts";

const COMMANDS: CommandTable = {
  inspect: async () => (await import("./commands/inspect.ts")).default,
  map: async () => (await import("./commands/map.ts")).default,
  prog: async () => (await import("./commands/prog.ts")).default,
  link: async () => (await import("./commands/link.ts")).default,
  cgroup: async () => (await import("./commands/cgroup.ts")).default,
  feature: async () => (await import("./commands/feature.ts")).default,
  token: async () => (await import("./commands/token.ts")).default,
  net: async () => (await import("./commands/net.ts")).default,
  perf: async () => (await import("./commands/perf.ts")).default,
  struct_ops: async () => (await import("./commands/struct-ops.ts")).default,
  get: async () => (await import("./commands/get.ts")).default,
  diff: async () => (await import("./commands/diff.ts")).default,
  top: async () => (await import("./commands/top.ts")).default,
  record: async () => (await import("./commands/record.ts")).default,
  sched: async () => (await import("./commands/sched.ts")).default,
  btf: async () => (await import("./commands/btf.ts")).default,
  task: async () => (await import("./commands/task.ts")).default,
  dmesg: async () => (await import("./commands/dmesg.ts")).default,
  symbol: async () => (await import("./commands/symbol.ts")).default,
  metrics: async () => (await import("./commands/metrics.ts")).default,
  report: async () => (await import("./commands/report.ts")).default,
  capture: async () => (await import("./commands/capture.ts")).default,
  pin: async () => (await import("./commands/pin.ts")).default,
  vmlinux: async () => (await import("./commands/vmlinux.ts")).default,
  completions: async () => (await import("./commands/completions.ts")).default,
  batch: async () => (await import("./commands/batch.ts")).default,
  version: async () => (await import("./commands/version.ts")).default,
};

const root: Command = command({
  name: "ktstr",
  description: "The BPF state of a Linux kernel, live or from a frozen machine's memory",
  examples: [
    "ktstr inspect                    # everything, as text",
    "ktstr get nr_enqueued            # one global variable, for scripts",
    "ktstr -j map dump name foo.bss   # bpftool's grammar and JSON",
  ],
  subCommands: COMMANDS,
});

/** Runs one command line. Returns the exit status: 0, 1 for a failure, 2 for wrong usage. */
export async function main(argv: readonly string[]): Promise<number> {
  const out = new Output();
  const format = errorFormatOf(argv);
  if (format.debug) enableDebugLog();
  const warn = (sentence: string): void => log.warn(sentence);
  try {
    const status = await runLine(root, await parseCommandLine(root, argv), out, warn);
    out.flush();
    return status;
  } catch (error) {
    return report(error, out, format);
  }
}

async function report(error: unknown, out: Output, { json, pretty, debug }: ErrorFormat): Promise<number> {
  if (error instanceof ClosedPipeError) return 0;
  if (!(error instanceof KtstrError)) {
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
    writeError(`ktstr: internal error, please report it: ${detail}\n`);
  }
  const { errorJson, sentenceOf } = await import("./commands/failure.ts");
  const sentence = sentenceOf(error);
  let isReported = !(error instanceof KtstrError);
  try {
    // Incomplete JSON is useless to its reader; incomplete text is not.
    if (json && out.rewind(0)) {
      out.line(errorJson(sentence, pretty)).flush();
      isReported = true;
    } else out.flush();
  } catch (late) {
    if (late instanceof ClosedPipeError) return 1;
  }
  if (!isReported) log.error(sentence);
  if (error instanceof KtstrError && debug) writeError(`${error.stack ?? ""}\n`);
  return error instanceof UsageError ? 2 : 1;
}
