/** What a command is here: citty's definition, and what our strict option parser hands it. */
import type { ArgsDef } from "citty";
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

/** A command: what citty prints as its usage (`help.ts` hands it over), and what citty has no place for. */
export interface Command {
  /** With its parents' names: "ktstr map show". */
  readonly name: string;
  readonly description: string;
  readonly alias: string;
  readonly version: string;
  /** Its own options and the global ones. */
  readonly args: ArgsDef;
  /** The bpftool-like grammar of its words, for the usage line. */
  readonly grammar: string;
  /** Lines of `--help` behind the options. */
  readonly examples: readonly string[];
  readonly subCommands: CommandTable;
  readonly start: ((context: Context) => ExitStatus | Promise<ExitStatus>) | undefined;
}

/** Commands by name, loaded when used. */
export type CommandTable = Readonly<Record<string, () => Promise<Command>>>;

type Definition = Pick<Command, "name" | "description" | "examples"> & Partial<Command>;

export function command(definition: Definition): Command {
  return {
    alias: "",
    version: "",
    grammar: "",
    subCommands: {},
    start: undefined,
    ...definition,
    args: { ...definition.args, ...GLOBAL_ARGS },
  };
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
