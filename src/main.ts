/** The command table, the error boundary and the exit status. */
import { type Command, type CommandTable, command, described } from "./commands/command.ts";
import { type ErrorFormat, errorFormatOf, parseCommandLine } from "./commands/parse.ts";
import { runLine } from "./commands/run.ts";
import { KtstrError, UsageError } from "./errors.ts";
import { enableDebugLog, log } from "./log.ts";
import { ClosedPipeError, Output, writeError } from "./report/output.ts";

/** The descriptions are repeated here, so that `--help` and completions load no command. A test compares them. */
const COMMANDS: CommandTable = {
  inspect: described(
    "Show everything: kernel, scheduler, programs, maps with contents",
    async () => (await import("./commands/inspect.ts")).default,
  ),
  map: described("Maps: attributes and contents", async () => (await import("./commands/map.ts")).default),
  prog: described(
    "Programs: attributes, run-time costs and instructions",
    async () => (await import("./commands/prog.ts")).default,
  ),
  link: described("Links: attachments of programs", async () => (await import("./commands/link.ts")).default),
  cgroup: described(
    "Programs that are attached to cgroups, by a link or without",
    async () => (await import("./commands/cgroup.ts")).default,
  ),
  feature: described(
    "BPF features of the kernel",
    async () => (await import("./commands/feature.ts")).default,
  ),
  token: described(
    "File systems that BPF tokens can be created from",
    async () => (await import("./commands/token.ts")).default,
  ),
  net: described(
    "Programs on network devices and in network namespaces, by a link or without",
    async () => (await import("./commands/net.ts")).default,
  ),
  perf: described(
    "Programs on perf events: tracepoints, kprobes, uprobes",
    async () => (await import("./commands/perf.ts")).default,
  ),
  struct_ops: described(
    "struct_ops maps: kernel structs whose functions are BPF programs",
    async () => (await import("./commands/struct-ops.ts")).default,
  ),
  get: described(
    "Print a global variable, or a part of one",
    async () => (await import("./commands/get.ts")).default,
  ),
  diff: described(
    "Show what changed between two snapshots: costs as rates, globals, maps, schedulers",
    async () => (await import("./commands/diff.ts")).default,
  ),
  top: described(
    "Watch programs' costs, maps and the scheduler",
    async () => (await import("./commands/top.ts")).default,
  ),
  record: described(
    "Record programs' costs, maps and the scheduler over time, until Ctrl-C",
    async () => (await import("./commands/record.ts")).default,
  ),
  sched: described(
    "sched_ext: why tasks wait, dispatch queues, CPUs, events",
    async () => (await import("./commands/sched.ts")).default,
  ),
  btf: described(
    "BTF: the types of the kernel and of BPF objects",
    async () => (await import("./commands/btf.ts")).default,
  ),
  task: described("Tasks, and their kernel stacks", async () => (await import("./commands/task.ts")).default),
  dmesg: described("Print the kernel's log", async () => (await import("./commands/dmesg.ts")).default),
  symbol: described(
    "Print the symbol at an address, and the source line of a BPF program's machine code",
    async () => (await import("./commands/symbol.ts")).default,
  ),
  metrics: described(
    "Serve costs of programs, maps and events of sched_ext to Prometheus",
    async () => (await import("./commands/metrics.ts")).default,
  ),
  report: described(
    "Write everything to one HTML page, for a bug report or a mail",
    async () => (await import("./commands/report.ts")).default,
  ),
  capture: described(
    "Save all BPF state of a frozen machine to one small file",
    async () => (await import("./commands/capture.ts")).default,
  ),
  pin: described(
    "Hold a map open by name, so that it outlives its owner",
    async () => (await import("./commands/pin.ts")).default,
  ),
  vmlinux: described(
    "Find the vmlinux (symbols and types) of a kernel image",
    async () => (await import("./commands/vmlinux.ts")).default,
  ),
  completions: described(
    "Print a shell's completion script",
    async () => (await import("./commands/completions.ts")).default,
  ),
  batch: described(
    "Run the commands of a file, one per line, until one fails",
    async () => (await import("./commands/batch.ts")).default,
  ),
  version: described(
    "Print the version, or the licenses of the code that ktstr contains",
    async () => (await import("./commands/version.ts")).default,
  ),
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
