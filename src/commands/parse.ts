/**
 * The command line: options anywhere, words to find the command by. citty takes unknown options silently, so they
 * are parsed here, strictly, against the options that the command defines.
 */
import { parseArgs } from "node:util";
import type { ArgDef, ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { nearMisses } from "../near.ts";
import type { Command, Options } from "./command.ts";
import { isGlobal, valueOption } from "./options.ts";

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
  const own = joinValues(dashes < 0 ? argv : argv.slice(0, dashes));
  const allWords = own.filter(isWord);
  const named = await findCommand(root, allWords);
  const { parents, used } = named;
  const wantsHelp = own.some((arg) => arg === "-h" || arg === "--help");
  const isWhole = used === allWords.length && !wantsHelp;
  const command =
    (isWhole ? await named.command.subCommands[DEFAULT_SUB_COMMAND]?.() : undefined) ?? named.command;
  const values = strict(own, command.args);
  const version = values["version"] === true;
  const words = allWords.slice(used);
  const askedWord = words[0] === "help" && command.start === undefined;
  const help = values["help"] === true || askedWord || (command === root && words.length === 0 && !version);
  if (!help && !version && command.start === undefined) refuse(command, words);
  if (tail !== undefined && !command.grammar.includes("-- ")) {
    throw new UsageError(`${command.name}: nothing stands behind \`--\` here`);
  }
  return { command, parents, options: await optionsOf(values), words, tail, help, version };
}

/**
 * `--limit 3` as `--limit=3`: what follows an option that takes a value is no word, and may begin with a dash
 * (`--sort -runs`); it is no option only because of where it stands.
 */
function joinValues(argv: readonly string[]): string[] {
  const joined: string[] = [];
  for (let index = 0; index < argv.length; index++) {
    const arg = argv[index] as string;
    const value = argv[index + 1];
    const option = valueOption(arg);
    if (option === undefined || value === undefined || value.startsWith("--")) joined.push(arg);
    else {
      joined.push(`${option}=${value}`);
      index++;
    }
  }
  return joined;
}

const isWord = (arg: string): boolean => !arg.startsWith("-") || arg === "-";

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

function refuse(parent: Command, words: readonly string[]): never {
  const names = Object.keys(parent.subCommands);
  const word = words[0];
  if (word === undefined) throw new UsageError(`${parent.name}: which of ${names.join(", ")}?`);
  const near = nearMisses(word, names);
  throw new UsageError(`${parent.name}: there is no command ${JSON.stringify(word)}`, {
    hint: near.length > 0 ? `did you mean ${near.join(" or ")}?` : `there are: ${names.join(", ")}`,
  });
}

function strict(
  argv: readonly string[],
  args: ArgsDef,
): Record<string, string | boolean | (string | boolean)[] | undefined> {
  const options = Object.fromEntries(Object.entries(args).map(([name, def]) => [name, optionOf(name, def)]));
  try {
    return parseArgs({ args: [...argv], options, allowPositionals: true, strict: true }).values;
  } catch (error) {
    const flag = /'(?:-\w, )?(--?[^' =]+)/.exec(error instanceof Error ? error.message : "")?.[1] ?? "";
    const near = nearMisses(flag.replace(/^-+/, ""), Object.keys(args));
    const isUnknown = (error as { code?: string }).code === "ERR_PARSE_ARGS_UNKNOWN_OPTION";
    throw new UsageError(isUnknown ? `unknown option ${flag}` : `option ${flag}: ${whatIsWrong(error)}`, {
      hint:
        isUnknown && near.length > 0
          ? `did you mean ${near.map((name) => `--${name}`).join(" or ")}?`
          : "--help lists the options",
    });
  }
}

function optionOf(
  name: string,
  def: ArgDef,
): { type: "string" | "boolean"; short?: string; multiple?: boolean } {
  const alias = "alias" in def ? [def.alias ?? []].flat().find((text) => text.length === 1) : undefined;
  return {
    type: def.type === "string" ? "string" : "boolean",
    ...(alias === undefined ? {} : { short: alias }),
    ...(name === "memory" ? { multiple: true } : {}),
  };
}

function whatIsWrong(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  if (message.includes("argument missing") || message.includes("ambiguous")) return "it needs a value";
  return message.includes("does not take an argument") ? "it takes no value" : message;
}

async function optionsOf(
  values: Record<string, string | boolean | (string | boolean)[] | undefined>,
): Promise<Options> {
  const own: Record<string, string | boolean> = {};
  for (const [name, value] of Object.entries(values)) {
    if (!isGlobal(name) && (typeof value === "string" || typeof value === "boolean")) own[name] = value;
  }
  const pretty = values["pretty"] === true;
  return {
    json: values["json"] === true || pretty,
    pretty,
    debug: values["debug"] === true,
    memory: await memoryOf([values["memory"] ?? []].flat().map(String), values["sample"] === true),
    vmlinux: typeof values["vmlinux"] === "string" ? values["vmlinux"] : undefined,
    vmcoreinfo: typeof values["vmcoreinfo"] === "string" ? values["vmcoreinfo"] : undefined,
    explain: values["explain"] === true,
    own,
  };
}

async function memoryOf(given: readonly string[], sample: boolean): Promise<readonly string[]> {
  if (!sample) return given;
  if (given.length > 0) throw new UsageError("--sample and --memory: one or the other");
  return [(await import("../sample.ts")).default];
}
