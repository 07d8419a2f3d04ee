/** Parses values of options that several commands share. */
import { UsageError } from "../errors.ts";
import type { Options } from "./command.ts";
import type { OwnOption } from "./options.ts";

/** Returns a count; undefined if the option was not given. Throws `UsageError`. */
export function countOption(options: Options, name: OwnOption, of = "entries"): number | undefined {
  const text = textOption(options, name);
  if (text === undefined) return undefined;
  const count = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(count))
    throw new UsageError(`--${name} ${JSON.stringify(text)}: not a number of ${of}`);
  return count;
}

export function textOption({ own }: Options, name: OwnOption): string | undefined {
  const value = own[name];
  return typeof value === "string" ? value : undefined;
}

/** True for `--plain bpftool`, which does not affect JSON. Throws `UsageError` for another value. */
export function isPlainBpftool(options: Options): boolean {
  const text = textOption(options, "plain");
  if (text !== undefined && text !== "bpftool")
    throw new UsageError(`--plain ${JSON.stringify(text)}: the only value is bpftool: --plain bpftool`);
  return text !== undefined && !options.json;
}
