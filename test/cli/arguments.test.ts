/** Parsing of the command line's options and words. */
import { describe, expect, test } from "bun:test";
import { checkOptions, readArguments } from "../../src/commands/arguments.ts";
import { argsOf, longName } from "../../src/commands/options.ts";
import { UsageError } from "../../src/errors.ts";

/** Returns "name" or "name=value" for each option, and the words. */
function read(line: string): { words: readonly string[]; options: string[] } {
  const { words, given } = readArguments(line.split(" "));
  return {
    words,
    options: given.map(({ name, value }) => (value === undefined ? name : `${name}=${value}`)),
  };
}

describe("options can be anywhere, and the word after an option with a value is its value", () => {
  for (const [line, words, options] of [
    ["map show", ["map", "show"], []],
    ["-jp map show", ["map", "show"], ["json", "pretty"]],
    ["map -j show -p", ["map", "show"], ["json", "pretty"]],
    ["map dump id 1 --limit 3", ["map", "dump", "id", "1"], ["limit=3"]],
    ["--limit=3 map", ["map"], ["limit=3"]],
    ["--filter=a==b map", ["map"], ["filter=a==b"]],
    ["--limit= map", ["map"], ["limit="]],
    ["--sort -runs map", ["map"], ["sort=-runs"]],
    ["--memory a --memory b@0x1000", [], ["memory=a", "memory=b@0x1000"]],
    ["--limit --json map", ["map"], ["limit", "json"]],
    ["map --limit", ["map"], ["limit"]],
    ["capture -o x", ["capture"], ["output=x"]],
    ["capture -ox", ["capture"], ["output=x"]],
    ["capture -jo x", ["capture"], ["json", "output=x"]],
    ["capture -o -", ["capture"], ["output=-"]],
    ["get - -h", ["get", "-"], ["help"]],
    ["--json=yes", [], ["json=yes"]],
    ["map show id -1", ["map", "show", "id"], ["1"]],
    ["--nothing map", ["map"], ["nothing"]],
    ["--toString --__proto__ x", ["x"], ["toString", "__proto__"]],
  ] as const) {
    test(line, () => expect(read(line)).toEqual({ words: [...words], options: [...options] }));
  }
});

test("every short option is one letter for one long option", () => {
  const letters = Object.entries(argsOf(["output", "bpffs"])).flatMap(([name, def]) =>
    "alias" in def ? [[def.alias, name]] : [],
  );
  expect(letters.map(([letter]) => letter).sort()).toEqual([
    "B",
    "L",
    "V",
    "d",
    "f",
    "h",
    "j",
    "m",
    "n",
    "o",
    "p",
  ]);
  for (const [letter, name] of letters) expect(longName(String(letter))).toBe(name as string);
  expect(longName("x")).toBe("x");
});

describe("an option that a command does not have, or a wrong value, is wrong usage", () => {
  for (const [line, sentence, hint] of [
    ["--limt 3", "unknown option --limt", "did you mean --limit?"],
    ["--toString", "unknown option --toString", "--help lists the options"],
    ["-jx", "unknown option -x", "--help lists the options"],
    ["--follow 3", "unknown option --follow", "--help lists the options"],
    ["--limit", "option --limit: it needs a value", "--help lists the options"],
    ["--json=", "option --json: it takes no value", "--help lists the options"],
  ] as const) {
    test(line, () => {
      const { given } = readArguments(line.split(" "));
      try {
        checkOptions(given, argsOf(["limit"]));
        throw new Error("it was accepted");
      } catch (error) {
        expect(error).toBeInstanceOf(UsageError);
        expect([(error as UsageError).message, (error as UsageError).hint]).toEqual([sentence, hint]);
      }
    });
  }
});
