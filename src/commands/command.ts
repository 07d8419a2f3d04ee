/** What a command is here: citty's definition, and what our strict option parser hands it. */
import { type ArgsDef, type CommandDef, defineCommand } from "citty";
import type { Output } from "../report/output.ts";

export interface Options {
  readonly json: boolean;
  readonly pretty: boolean;
  readonly debug: boolean;
  readonly memory: readonly string[];
  readonly vmlinux: string | undefined;
  /** Options that only some commands take, by name. */
  readonly own: Readonly<Record<string, string | boolean>>;
}

/** What a command runs with. */
export interface Context {
  /** The words behind the command's name. */
  readonly words: readonly string[];
  /** What stands behind `--`; undefined: there was none. */
  readonly tail: readonly string[] | undefined;
  readonly options: Options;
  readonly out: Output;
  /** A sentence for people, on stderr. */
  readonly warn: (sentence: string) => void;
}

/** 0, or 1 where data was printed and is not all there is. */
export type ExitStatus = 0 | 1 | number;

/** A command as citty knows it, and what citty has no place for. */
export interface Command {
  readonly definition: CommandDef<ArgsDef>;
  readonly args: ArgsDef;
  readonly name: string;
  readonly alias: string;
  /** Lines of `--help` behind the options. */
  readonly examples: readonly string[];
  /** The bpftool-like grammar of its words, for the usage line. */
  readonly grammar: string;
  readonly subCommands: CommandTable;
  readonly start: ((context: Context) => ExitStatus | Promise<ExitStatus>) | undefined;
}

/** Commands by name, loaded when used. */
export type CommandTable = Readonly<Record<string, () => Promise<Command>>>;

export function command(def: {
  /** With its parents' names: "ktstr map show". */
  readonly name: string;
  readonly description: string;
  readonly alias?: string;
  readonly version?: string;
  /** Its own options; the global ones are added. */
  readonly args?: ArgsDef;
  readonly grammar?: string;
  readonly examples: readonly string[];
  readonly subCommands?: CommandTable;
  readonly start?: (context: Context) => ExitStatus | Promise<ExitStatus>;
}): Command {
  const { name, description, alias = "", grammar = "", examples, subCommands = {}, start } = def;
  const args = { ...def.args, ...GLOBAL_ARGS };
  const meta = {
    name,
    description,
    ...(alias === "" ? {} : { alias }),
    ...(def.version === undefined ? {} : { version: def.version }),
  };
  const children = Object.entries(subCommands).map(([child, load]) => [
    child,
    async () => (await load()).definition,
  ]);
  const definition: CommandDef<ArgsDef> = defineCommand<ArgsDef>({
    meta,
    args,
    ...(children.length === 0 ? {} : { subCommands: Object.fromEntries(children) }),
  });
  return { definition, args, name, alias, examples, grammar, subCommands, start };
}

/** The options that every command takes, as citty shows them. */
const GLOBAL_ARGS: ArgsDef = {
  json: { type: "boolean", alias: "j", description: "print JSON (bpftool's keys, and more)" },
  pretty: { type: "boolean", alias: "p", description: "print JSON in many lines" },
  memory: {
    type: "string",
    valueHint: "FILE[@GPA]",
    description: "read a frozen machine's memory instead of the running kernel; may be repeated",
  },
  vmlinux: { type: "string", valueHint: "FILE", description: "take symbols and types from this vmlinux" },
  debug: { type: "boolean", description: "say more on stderr, and show stack traces" },
  help: { type: "boolean", alias: "h", description: "print this" },
};
