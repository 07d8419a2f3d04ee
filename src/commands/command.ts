/** What a command is here: citty's definition, and what our strict option parser hands it. */
import type { ArgsDef } from "citty";
import type { Output } from "../report/output.ts";
import { argsOf, type OwnOption } from "./options.ts";

export interface Options {
  readonly json: boolean;
  readonly pretty: boolean;
  readonly debug: boolean;
  readonly memory: readonly string[];
  /** Whether a running machine goes on while it is read. */
  readonly noPause: boolean;
  readonly vmlinux: string | undefined;
  readonly vmcoreinfo: string | undefined;
  readonly format: string | undefined;
  readonly explain: boolean;
  readonly baseBtf: string | undefined;
  /** Options that only some commands take, by name. */
  readonly own: Readonly<Record<string, string | boolean>>;
}

/** What a command runs with. */
export interface Context {
  /** The command that all others hang from. */
  readonly root: Command;
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

type Definition = Pick<Command, "name" | "description" | "examples"> &
  Partial<Omit<Command, "args">> & {
    /** Those of its own; the global ones come with every command. */
    readonly options?: readonly OwnOption[];
  };

export function command({ options = [], ...definition }: Definition): Command {
  return {
    alias: "",
    version: "",
    grammar: "",
    subCommands: {},
    start: undefined,
    ...definition,
    args: argsOf(options),
  };
}
