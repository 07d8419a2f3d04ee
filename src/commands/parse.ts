/** The command line: words to find the command by, and the options that this command takes. */
import { UsageError } from "../errors.ts";
import { nearMisses } from "../near.ts";
import { checkOptions, type Given, readArguments } from "./arguments.ts";
import type { Command, Options } from "./command.ts";
import { isGlobal } from "./options.ts";

export interface CommandLine {
  readonly command: Command;
  /** From the root to the command's parent. */
  readonly parents: readonly Command[];
  readonly options: Options;
  readonly words: readonly string[];
  readonly tail: readonly string[] | undefined;
  readonly help: boolean;
  readonly version: boolean;
}

export function wantsDebug(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return argv.slice(0, end < 0 ? argv.length : end).some((arg) => arg === "--debug" || arg === "-d");
}

/** Throws `UsageError`. */
export async function parseCommandLine(root: Command, argv: readonly string[]): Promise<CommandLine> {
  const dashes = argv.indexOf("--");
  const tail = dashes < 0 ? undefined : argv.slice(dashes + 1);
  const { words: typed, given } = readArguments(dashes < 0 ? argv : argv.slice(0, dashes));
  // `ktstr help map show`.
  const asksHelp = typed[0] === "help" && typed.length > 1;
  const allWords = asksHelp ? typed.slice(1) : typed;
  const named = await findCommand(root, allWords);
  const { parents, used } = named;
  if (asksHelp && used < allWords.length) refuse(named.command, allWords.slice(used));
  const wantsHelp = asksHelp || has(given, "help");
  const isWhole = used === allWords.length && !wantsHelp;
  const command =
    (isWhole ? await named.command.subCommands[DEFAULT_SUB_COMMAND]?.() : undefined) ?? named.command;
  checkOptions(given, command.args);
  const version = has(given, "version");
  const words = allWords.slice(used);
  const askedWord = words[0] === "help" && command.start === undefined;
  const help = wantsHelp || askedWord || (command === root && words.length === 0 && !version);
  if (!help && !version && command.start === undefined) refuse(command, words);
  if (tail !== undefined && !command.grammar.includes("-- ")) {
    throw new UsageError(`${command.name}: nothing stands behind \`--\` here`);
  }
  return { command, parents, options: await optionsOf(given), words, tail, help, version };
}

const has = (given: readonly Given[], wanted: string): boolean => given.some(({ name }) => name === wanted);

/** As far as the words name commands; the rest are the command's own. */
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

/** As bpftool does: `ktstr map` alone is `ktstr map show`. */
const DEFAULT_SUB_COMMAND = "show";

/** By name, by alias, or as bpftool does by the start of either, where only one starts so. */
export async function subCommand(parent: Command, word: string): Promise<Command | undefined> {
  const table = parent.subCommands;
  const exact = Object.hasOwn(table, word) ? table[word] : undefined;
  if (exact !== undefined) return exact();
  const starting: Command[] = [];
  for (const [name, load] of Object.entries(table)) {
    if (name.startsWith(word)) starting.push(await load());
    // An alias is known only once its command is loaded: asked for last.
  }
  if (starting.length === 0) {
    for (const load of Object.values(table)) {
      const candidate = await load();
      if (candidate.alias.startsWith(word)) starting.push(candidate);
    }
  }
  return starting.length === 1 ? starting[0] : undefined;
}

/** bpftool's commands that change something, and what to do instead. */
const CHANGES: Readonly<Record<string, readonly string[]>> = {
  map: ["create", "update", "delete", "pin", "push", "pop", "enqueue", "dequeue", "freeze", "event_pipe"],
  prog: ["load", "loadall", "attach", "detach", "pin", "run", "tracelog"],
  link: ["pin", "detach"],
};
const INSTEAD: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    Object.entries(CHANGES).flatMap(([noun, words]) =>
      words.map((word) => [`ktstr ${noun} ${word}`, `use \`bpftool ${noun} ${word}\``]),
    ),
  ),
  "ktstr gen": "use `bpftool gen`",
  "ktstr iter": "use `bpftool iter`",
};

function refuse(parent: Command, words: readonly string[]): never {
  const names = Object.keys(parent.subCommands);
  const word = words[0];
  if (word === undefined) throw new UsageError(`${parent.name}: which of ${names.join(", ")}?`);
  const near = nearMisses(word, names);
  const instead = INSTEAD[`${parent.name} ${word}`];
  if (instead !== undefined)
    throw new UsageError(`${parent.name}: ktstr only reads, and has no ${JSON.stringify(word)}`, {
      hint: instead,
    });
  throw new UsageError(`${parent.name}: there is no command ${JSON.stringify(word)}`, {
    hint: near.length > 0 ? `did you mean ${near.join(" or ")}?` : `there are: ${names.join(", ")}`,
  });
}

async function optionsOf(given: readonly Given[]): Promise<Options> {
  const own: Record<string, string | boolean> = {};
  for (const { name, value } of given) if (!isGlobal(name)) own[name] = value ?? true;
  const pretty = has(given, "pretty");
  return {
    json: has(given, "json") || pretty,
    pretty,
    debug: has(given, "debug"),
    memory: await memoryOf(valuesOf(given, "memory"), has(given, "sample")),
    vmlinux: valuesOf(given, "vmlinux").at(-1),
    vmcoreinfo: valuesOf(given, "vmcoreinfo").at(-1),
    format: valuesOf(given, "format").at(-1),
    explain: has(given, "explain"),
    own,
  };
}

function valuesOf(given: readonly Given[], wanted: string): string[] {
  return given.flatMap(({ name, value }) => (name === wanted && value !== undefined ? [value] : []));
}

async function memoryOf(given: readonly string[], sample: boolean): Promise<readonly string[]> {
  if (!sample) return given;
  if (given.length > 0) throw new UsageError("--sample and --memory: one or the other");
  return [(await import("../sample.ts")).default];
}
