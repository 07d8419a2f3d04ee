/** Computes shell completions for the word at the cursor. */
import type { ArgDef } from "citty";
import { FORMAT_NAMES } from "../guest/image/formats.ts";
import { LOG_LEVELS } from "../kernel-log.ts";
import type { BpfState } from "../state.ts";
import { printable } from "../text.ts";
import { LINK_TYPES, MAP_TYPES, nameOr, PROG_TYPES } from "../uapi/names.ts";
import type { Command } from "./command.ts";
import { type Expected, expectedAfter } from "./grammar.ts";
import { subCommand } from "./parse.ts";

export interface Candidate {
  readonly word: string;
  readonly description: string;
}

/** `files`: the shell completes file names. */
export type Completion =
  | { readonly kind: "files" }
  | { readonly kind: "words"; readonly words: readonly Candidate[] };

/** Opens the running kernel; undefined if it cannot be read. */
export type OpenKernel = () => Promise<(BpfState & Disposable) | undefined>;

const FILES: Completion = { kind: "files" };
const words = (list: readonly Candidate[]): Completion => ({ kind: "words", words: list });

/** Returns completions for the last of the words after `ktstr`, which is at the cursor and may be empty. */
export async function complete(
  root: Command,
  line: readonly string[],
  kernel: OpenKernel,
): Promise<Completion> {
  const current = line.at(-1) ?? "";
  const found = await candidates(root, line.slice(0, -1), current, kernel);
  if (found.kind === "files") return found;
  return words(found.words.filter(({ word }) => word.startsWith(current) && SAFE.test(word)));
}

/** Names with other characters are not offered: the shell would interpret them, and a kernel may be hostile. */
const SAFE = /^[\w.,:@%+/=-]+$/;

async function candidates(
  root: Command,
  before: readonly string[],
  current: string,
  kernel: OpenKernel,
): Promise<Completion> {
  if (before.includes("--")) return FILES;
  const { command, operands, given, awaiting } = await read(root, before);
  // Opening another machine takes a second, too long for a completion, and the running kernel has other objects.
  const names = ["memory", "vm", "sample"].some((name) => given.has(name)) ? noKernel : kernel;
  if (awaiting !== undefined) return optionValue(awaiting, names);
  if (current.startsWith("-")) return words(optionsOf(command, given));
  if (operands.length === 0 && Object.keys(command.subCommands).length > 0)
    return words(await subCommandsOf(command));
  const expected = expectedAfter(command.grammar, operands);
  return operandsOf(command, expected, names);
}

const noKernel: OpenKernel = async () => undefined;

interface Line {
  readonly command: Command;
  /** Words that are not options, option values or the command's name. */
  readonly operands: readonly string[];
  /** Long names of the given options. */
  readonly given: ReadonlySet<string>;
  /** Option whose value is at the cursor. */
  readonly awaiting: ArgDef | undefined;
}

async function read(root: Command, before: readonly string[]): Promise<Line> {
  let command = root;
  const operands: string[] = [];
  const given = new Set<string>();
  let awaiting: ArgDef | undefined;
  for (const word of before) {
    if (awaiting !== undefined) awaiting = undefined;
    else if (word.startsWith("-") && word !== "-") {
      const [name, def] = optionNamed(command, word.replace(/=.*/s, "")) ?? [];
      if (name !== undefined) given.add(name);
      if (def?.type === "string" && !word.includes("=")) awaiting = def;
    } else {
      const next = operands.length === 0 ? await subCommand(command, word) : undefined;
      if (next === undefined) operands.push(word);
      else command = next;
    }
  }
  return { command, operands, given, awaiting };
}

const aliasOf = (def: ArgDef): string => ("alias" in def ? ([def.alias ?? ""].flat()[0] ?? "") : "");

function optionNamed({ args }: Command, flag: string): [string, ArgDef] | undefined {
  return Object.entries(args).find(([name, def]) => flag === `--${name}` || flag === `-${aliasOf(def)}`);
}

function optionsOf({ args }: Command, given: ReadonlySet<string>): Candidate[] {
  return Object.entries(args)
    .filter(([name]) => !given.has(name) || name === "memory")
    .map(([name, { description = "" }]) => ({ word: `--${name}`, description }));
}

async function subCommandsOf({ subCommands }: Command): Promise<Candidate[]> {
  return Promise.all(
    Object.entries(subCommands).map(async ([word, load]) => ({
      word,
      description: load.description ?? (await load()).description,
    })),
  );
}

/** Completes by the value hint of the option: FILE, N|all|sum, NAME,... */
async function optionValue(def: ArgDef, kernel: OpenKernel): Promise<Completion> {
  const hint = "valueHint" in def ? (def.valueHint ?? "") : "";
  if (hint.startsWith("FILE")) return FILES;
  if (hint.startsWith("NAME")) return words(await named("map", "NAME", kernel));
  if (hint === "FORMAT") return words(FORMAT_NAMES.map((word) => ({ word, description: "" })));
  if (hint.startsWith("LEVEL")) return words(LOG_LEVELS.map((word) => ({ word, description: "" })));
  const fixed = hint.split("|").filter((word) => /^[a-z]+$/.test(word));
  return words(fixed.map((word) => ({ word, description: "" })));
}

const NOUNS = ["map", "prog", "link", "btf"] as const;
type Noun = (typeof NOUNS)[number];

async function operandsOf(command: Command, expected: Expected, kernel: OpenKernel): Promise<Completion> {
  const found: Candidate[] = expected.keywords.map((word) => ({ word, description: "" }));
  const own = expected.noun === "" ? command.name.split(" ")[1] : expected.noun;
  const noun = NOUNS.find((name) => name === own) ?? "map";
  for (const placeholder of expected.placeholders) {
    if (/^(FILE(\|-)?|PATH|KERNEL-IMAGE|A|B)$/.test(placeholder)) return FILES;
    found.push(...(await named(noun, placeholder, kernel)));
  }
  return words(found);
}

/** Returns ids, names or tags of existing objects; empty if the kernel cannot be read. */
async function named(noun: Noun, placeholder: string, kernel: OpenKernel): Promise<Candidate[]> {
  if (!/^(N|NAME|TAG|MAP)$/.test(placeholder)) return [];
  using state = await kernel();
  if (state === undefined) return [];
  const all = objectsOf(state, noun).map(({ id, name, tag, type }) => {
    const word = placeholder === "N" ? String(id) : placeholder === "TAG" ? tag : name;
    return { word, description: [placeholder === "N" ? name : `id ${id}`, type].filter(Boolean).join(" ") };
  });
  const seen = new Set<string>();
  return all.filter(({ word }) => word !== "" && !seen.has(word) && seen.add(word));
}

interface Listed {
  readonly id: number;
  readonly name: string;
  readonly tag: string;
  readonly type: string;
}

function objectsOf(state: BpfState, noun: Noun): Listed[] {
  switch (noun) {
    case "map":
      return state.maps().map(({ id, name, type }) => ({
        id,
        name: printable(name),
        tag: "",
        type: String(nameOr(MAP_TYPES, type)),
      }));
    case "prog":
      return state.progs().map(({ id, fullName, tag, type }) => ({
        id,
        name: printable(fullName),
        tag: Buffer.from(tag).toString("hex"),
        type: String(nameOr(PROG_TYPES, type)),
      }));
    case "link":
      return state
        .links()
        .map(({ id, type }) => ({ id, name: "", tag: "", type: String(nameOr(LINK_TYPES, type)) }));
    case "btf":
      return state.btfs().map(({ id, name }) => ({ id, name: printable(name), tag: "", type: "" }));
  }
}
