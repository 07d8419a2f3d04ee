/** Help text of commands. */
import { type ArgsDef, type CommandDef, defineCommand, renderUsage } from "citty";
import type { Command } from "./command.ts";
import { coloured } from "./terminal.ts";

const ANSI = /\u001b\[\d+m/g;

/** Returns citty's usage of a command with grammar and examples. Coloured only on a terminal. */
export async function helpText(command: Command, parents: readonly Command[]): Promise<string> {
  // citty does not know operands, so its usage line ends with the options.
  const line = `${command.name} [OPTIONS]`;
  const whole = command.grammar === "" ? line : `${command.name} ${command.grammar} [OPTIONS]`;
  const usage = (await renderUsage(cittyCommand(command))).replace(line, () => whole).replace(/ +$/gm, "");
  const examples = command.examples.map((line) => `  ${line}`).join("\n");
  const status =
    parents.length === 0
      ? "\nExit status: 0, 1 on a failure or an incomplete answer, 2 on wrong usage.\n"
      : "";
  const text = `${usage}\n\nEXAMPLES\n\n${examples}\n${status}`.replace(/\n{3,}/g, "\n\n");
  return coloured() ? text : text.replace(ANSI, "").replace(/ +$/gm, "");
}

function cittyCommand(command: Command): CommandDef<ArgsDef> {
  const { name, description, alias, version, args, subCommands } = command;
  const meta = { name, description, ...(alias && { alias }), ...(version && { version }) };
  const children = Object.entries(subCommands).map(([word, load]) => [
    word,
    async () =>
      load.description === undefined
        ? cittyCommand(await load())
        : defineCommand({ meta: { name: word, description: load.description } }),
  ]);
  return defineCommand<ArgsDef>({
    meta,
    args,
    ...(children.length > 0 && { subCommands: Object.fromEntries(children) }),
  });
}
