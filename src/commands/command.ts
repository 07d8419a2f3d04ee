/** The type of a command: citty's definition, and the options and words that it runs with. */
import type { ArgsDef } from "citty";
import type { Output } from "../report/output.ts";
import { argsOf, type OwnOption } from "./options.ts";

export interface Options {
  readonly json: boolean;
  readonly pretty: boolean;
  readonly debug: boolean;
  readonly memory: readonly string[];
  /** True if a running machine is not paused for the read. */
  readonly noPause: boolean;
  readonly vmlinux: string | undefined;
  readonly vmcoreinfo: string | undefined;
  readonly format: string | undefined;
  readonly explain: boolean;
  readonly baseBtf: string | undefined;
  /** The command's own options, by name. */
  readonly own: Readonly<Record<string, string | boolean>>;
}

/** Input and output of a command. */
export interface Context {
  /** The root of the command tree. */
  readonly root: Command;
  /** Words after the command's name. */
  readonly words: readonly string[];
  /** Words after `--`; undefined if there is no `--`. */
  readonly tail: readonly string[] | undefined;
  readonly options: Options;
  readonly out: Output;
  /** Prints a warning on stderr. */
  readonly warn: (sentence: string) => void;
}

/** 0, or 1 if the printed data is incomplete. `batch` returns the status of a failed line, `pin` that of its command. */
export type ExitStatus = 0 | 1 | number;

/** A command: the usage that citty prints (see `help.ts`), and ktstr's additions. */
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
  /** Examples of `--help`. */
  readonly examples: readonly string[];
  readonly subCommands: CommandTable;
  readonly start: ((context: Context) => ExitStatus | Promise<ExitStatus>) | undefined;
}

/** Loads a command on use. */
export interface CommandLoader {
  (): Promise<Command>;
  /** The command's description, if it is known without loading the command. The command then has no alias. */
  readonly description?: string;
}

/** Commands by name. */
export type CommandTable = Readonly<Record<string, CommandLoader>>;

export function described(description: string, load: () => Promise<Command>): CommandLoader {
  return Object.assign(() => load(), { description });
}

type Definition = Pick<Command, "name" | "description" | "examples"> &
  Partial<Omit<Command, "args">> & {
    /** The command's own options; global options are added. */
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
