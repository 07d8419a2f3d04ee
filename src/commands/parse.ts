/** Parses the command line: finds the command by its words and reads the options that it takes. */
import { UsageError } from "../errors.ts";
import { similarWords } from "../similar-words.ts";
import { checkOptions, type Given, readArguments } from "./arguments.ts";
import type { Command, CommandTable, Options } from "./command.ts";
import { isGlobal } from "./options.ts";

export interface CommandLine {
  readonly command: Command;
  /** From the root to the parent of the command. */
  readonly parents: readonly Command[];
  readonly options: Options;
  readonly words: readonly string[];
  readonly tail: readonly string[] | undefined;
  readonly help: boolean;
  readonly version: boolean;
}

/** Options that determine the format of errors, including errors of the command line. */
export type ErrorFormat = Pick<Options, "json" | "pretty" | "debug">;

export function errorFormatOf(argv: readonly string[]): ErrorFormat {
  const given = readArguments(beforeDashes(argv)).given.filter(({ value }) => value === undefined);
  const pretty = has(given, "pretty");
  return { json: has(given, "json") || pretty, pretty, debug: has(given, "debug") };
}

function beforeDashes(argv: readonly string[]): readonly string[] {
  const dashes = argv.indexOf("--");
  return dashes < 0 ? argv : argv.slice(0, dashes);
}

/** Throws `UsageError`. */
export async function parseCommandLine(root: Command, argv: readonly string[]): Promise<CommandLine> {
  const dashes = argv.indexOf("--");
  const tail = dashes < 0 ? undefined : argv.slice(dashes + 1);
  const { words: typed, given } = readArguments(beforeDashes(argv));
  // `ktstr help map show`.
  const asksHelp = typed.length > 1 && (await isHelp(root, typed[0]));
  const allWords = asksHelp ? typed.slice(1) : typed;
  const named = await findCommand(root, allWords);
  const { parents, used } = named;
  if (asksHelp && used < allWords.length) await refuse(named.command, allWords.slice(used));
  const wantsHelp = asksHelp || has(given, "help");
  const isWhole = used === allWords.length && !wantsHelp;
  const command =
    (isWhole ? await named.command.subCommands[DEFAULT_SUB_COMMAND]?.() : undefined) ?? named.command;
  checkOptions(given, command.args);
  const version = has(given, "version");
  const words = allWords.slice(used);
  const askedWord = command.start === undefined && (await isHelp(command, words[0]));
  const help = wantsHelp || askedWord || (command === root && words.length === 0 && !version);
  if (!help && !version && command.start === undefined) await refuse(command, words);
  if (tail !== undefined && !command.grammar.includes("-- ")) {
    throw new UsageError(`${command.name}: takes no words after \`--\``);
  }
  return { command, parents, options: await optionsOf(given), words, tail, help, version };
}

const has = (given: readonly Given[], wanted: string): boolean => given.some(({ name }) => name === wanted);

async function isHelp({ name, subCommands }: Command, word: string | undefined): Promise<boolean> {
  if (word === undefined || Object.hasOwn(subCommands, word)) return false;
  return word === "help" || (await bpftoolWords()).bpftoolWord(name, word) === "help";
}

/** Loaded if a word is not the full name of a command. */
const bpftoolWords = (): Promise<typeof import("./bpftool-words.ts")> => import("./bpftool-words.ts");

/** Resolves the first words to a command. The words after it are operands. */
async function findCommand(
  root: Command,
  words: readonly string[],
): Promise<{ command: Command; parents: Command[]; used: number }> {
  let command = root;
  const parents: Command[] = [];
  let used = 0;
  for (const word of words) {
    const next = await subCommand(command, word);
    if (next === undefined) break;
    parents.push(command);
    command = next;
    used++;
  }
  return { command, parents, used };
}

/** As in bpftool, `ktstr map` is `ktstr map show`. */
const DEFAULT_SUB_COMMAND = "show";

/**
 * Finds a subcommand by its full name, else as bpftool's first command with this prefix, else as ktstr's only command with
 * this prefix. Returns undefined if ktstr has none.
 */
export async function subCommand(parent: Command, word: string): Promise<Command | undefined> {
  const table = parent.subCommands;
  if (Object.hasOwn(table, word)) return table[word]?.();
  const { bpftoolWord, isPrefix } = await bpftoolWords();
  const theirs = bpftoolWord(parent.name, word);
  if (theirs !== undefined) return Object.hasOwn(table, theirs) ? table[theirs]?.() : aliased(table, theirs);
  const [only, ...others] = Object.keys(table).filter((name) => isPrefix(word, name));
  return only !== undefined && others.length === 0 ? table[only]?.() : undefined;
}

/** Aliases are known only after the command is loaded. Commands with a description in the table have none. */
async function aliased(table: CommandTable, word: string): Promise<Command | undefined> {
  for (const load of Object.values(table)) {
    if (load.description !== undefined) continue;
    const candidate = await load();
    if (candidate.alias === word) return candidate;
  }
  return undefined;
}

async function refuse(parent: Command, words: readonly string[]): Promise<never> {
  const names = Object.keys(parent.subCommands);
  const word = words[0];
  if (word === undefined) throw new UsageError(`${parent.name}: which of ${names.join(", ")}?`);
  const { bpftoolWord, isPrefix, refuseBpftoolWord } = await bpftoolWords();
  const starting = names.filter((name) => isPrefix(word, name));
  const theirs = bpftoolWord(parent.name, word);
  if (theirs !== undefined) refuseBpftoolWord(parent.name, theirs, starting);
  const near = starting.length > 0 ? starting : similarWords(word, names);
  throw new UsageError(`${parent.name}: there is no command ${JSON.stringify(word)}`, {
    hint: near.length > 0 ? `did you mean ${near.join(" or ")}?` : `there are: ${names.join(", ")}`,
  });
}

async function optionsOf(given: readonly Given[]): Promise<Options> {
  const own: Record<string, string | boolean> = {};
  for (const { name, value } of given)
    if (!isGlobal(name))
      own[name] = name === "get" && own["get"] !== undefined ? `${own["get"]},${value}` : (value ?? true);
  const pretty = has(given, "pretty");
  return {
    json: has(given, "json") || pretty,
    pretty,
    debug: has(given, "debug"),
    memory: await memoryOf(
      valuesOf(given, "memory"),
      has(given, "sample"),
      has(given, "vm") ? valuesOf(given, "vm") : undefined,
    ),
    noPause: has(given, "no-pause"),
    vmlinux: valuesOf(given, "vmlinux").at(-1),
    vmcoreinfo: valuesOf(given, "vmcoreinfo").at(-1),
    format: valuesOf(given, "format").at(-1),
    explain: has(given, "explain"),
    baseBtf: valuesOf(given, "base-btf").at(-1),
    own,
  };
}

function valuesOf(given: readonly Given[], wanted: string): string[] {
  return given.flatMap(({ name, value }) => (name === wanted && value !== undefined ? [value] : []));
}

async function memoryOf(
  files: readonly string[],
  sample: boolean,
  machines: readonly string[] | undefined,
): Promise<readonly string[]> {
  if (!sample && machines === undefined) return files;
  if (files.length > 0 || (sample && machines !== undefined) || (machines ?? []).length > 1)
    throw new UsageError(
      machines === undefined
        ? "--sample and --memory cannot be combined"
        : "--vm takes one machine and cannot be combined with --memory or --sample",
    );
  if (machines !== undefined) return Promise.all(machines.map(vmPath));
  return [(await import("../sample.ts")).default];
}

/** Resolves a pid, the path of a QMP socket, or a guest's name. */
async function vmPath(vm: string): Promise<string> {
  if (/^[0-9]+$/.test(vm)) return `/proc/${Number(vm)}/mem`;
  if (vm.includes("/") || process.getBuiltinModule("node:fs").existsSync(vm)) return vm;
  return `/proc/${(await import("../guest/vm/find-by-name.ts")).findVmByName(vm)}/mem`;
}
