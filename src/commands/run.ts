import type { Output } from "../report/output.ts";
import type { Command, Context, ExitStatus } from "./command.ts";
import type { CommandLine } from "./parse.ts";

/** Runs a parsed command line. Throws the command's errors. */
export async function runLine(
  root: Command,
  line: CommandLine,
  out: Output,
  warn: Context["warn"],
): Promise<ExitStatus> {
  const { command, parents, options, words, tail } = line;
  const context: Context = { root, words, tail, options, out, warn };
  if (line.version) return (await import("./version.ts")).printVersion(context);
  if (line.help) {
    out.text(await (await import("./help.ts")).helpText(command, parents));
    return 0;
  }
  return (await command.start?.(context)) ?? 0;
}
