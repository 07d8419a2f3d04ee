/**
 * Splits a command line into words and options, and checks the options: citty ignores unknown ones. The split happens before
 * the command is known, because an option takes a value for all commands or for none (`options.ts`).
 */
import type { ArgsDef } from "citty";
import { UsageError } from "../errors.ts";
import { similarWords } from "../similar-words.ts";
import { longName, takesValue } from "./options.ts";

export interface Arguments {
  readonly words: readonly string[];
  readonly given: readonly Given[];
}

/** An option as given on the command line. */
export interface Given {
  /** Without its value: "--limit", "-o". */
  readonly flag: string;
  /** "limit"; for an unknown option the text after its dashes. */
  readonly name: string;
  value: string | undefined;
}

/** Reads the arguments before `--`. Options can be anywhere among the words. */
export function readArguments(argv: readonly string[]): Arguments {
  const words: string[] = [];
  const given: Given[] = [];
  for (let index = 0; index < argv.length; index++) {
    const arg = argv[index] as string;
    if (!arg.startsWith("-") || arg === "-") {
      words.push(arg);
      continue;
    }
    const options = arg.startsWith("--") ? [longOption(arg)] : shortOptions(arg);
    given.push(...options);
    const last = options.at(-1);
    const next = argv[index + 1];
    if (last === undefined || last.value !== undefined || !takesValue(last.name)) continue;
    // A value may begin with one dash (`--sort -runs`).
    if (next === undefined || next.startsWith("--")) continue;
    last.value = next;
    index++;
  }
  return { words, given };
}

/** Throws `UsageError` for an option that is not in `args`, a missing value or an unexpected value. */
export function checkOptions(given: readonly Given[], args: ArgsDef): void {
  for (const { flag, name, value } of given) {
    const def = Object.hasOwn(args, name) ? args[name] : undefined;
    if (def === undefined) {
      const near = similarWords(name, Object.keys(args));
      throw new UsageError(`unknown option ${flag}`, {
        hint: near.length > 0 ? `did you mean --${near.join(" or --")}?` : LISTED,
      });
    }
    if (def.type === "string" && value === undefined) throw wrongValue(flag, "it needs a value");
    if (def.type !== "string" && value !== undefined) throw wrongValue(flag, "it takes no value");
  }
}

const LISTED = "--help lists the options";

function wrongValue(flag: string, what: string): UsageError {
  return new UsageError(`option ${flag}: ${what}`, { hint: LISTED });
}

/** `--limit=3`. */
function longOption(arg: string): Given {
  const equals = arg.indexOf("=");
  const flag = equals < 0 ? arg : arg.slice(0, equals);
  return { flag, name: flag.slice(2), value: equals < 0 ? undefined : arg.slice(equals + 1) };
}

/** `-jp`, `-oFILE`: after an option that takes a value, the rest is the value. */
function shortOptions(arg: string): Given[] {
  const options: Given[] = [];
  for (let at = 1; at < arg.length; at++) {
    const letter = arg.charAt(at);
    const name = longName(letter);
    const rest = arg.slice(at + 1);
    const value = rest !== "" && takesValue(name) ? rest : undefined;
    options.push({ flag: `-${letter}`, name, value });
    if (value !== undefined) break;
  }
  return options;
}
