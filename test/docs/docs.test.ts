/**
 * Runs every example of the documentation and compares its output with the page; every command and every option must be
 * documented. `KTSTR_UPDATE_DOCS=1` writes the output into the pages.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CLI, ktstr, type Ran, spawn } from "../live/bpftool.ts";
import { blocks, examples, headings, optionRows, pages, savePage, section } from "./pages.ts";

const ROOT = join(import.meta.dir, "../..");
/** Working directory of the examples, with the files that they name. */
const dir = mkdtempSync(join(tmpdir(), "ktstr-docs-"));
const bin = join(dir, ".bin");
const update = process.env["KTSTR_UPDATE_DOCS"] === "1";

beforeAll(() => {
  cpSync(import.meta.dir, dir, { recursive: true, filter: (path) => !path.endsWith(".ts") });
  cpSync(join(ROOT, "sample/sid.vmcore.zst"), join(dir, "sample.vmcore.zst"));
  mkdirSync(bin);
  writeFileSync(join(bin, "ktstr"), `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`);
  chmodSync(join(bin, "ktstr"), 0o755);
});
afterAll(() => rmSync(dir, { recursive: true }));

const bash = (script: string): Ran =>
  spawn(["bash", "-c", `cd '${dir}' && set -o pipefail && ${script}`], {
    PATH: `${bin}:${process.env["PATH"]}`,
  });

const all = pages();
/** Pages that document a command. */
const commandPages = all.filter(({ text }) => headings(text).includes("Synopsis"));
const HEADINGS = [
  "Name",
  "Synopsis",
  "Description",
  "Options",
  "Environment",
  "Examples",
  "Exit status",
  "See also",
];
/** A dump of the sample takes a second on a slow machine, and a page has several. */
const SLOW_MS = 120_000;

interface Usage {
  /** Such as "--limit N", or "-o, --output FILE" if there is a short form. */
  readonly options: readonly string[];
  readonly grammar: string;
}

function usageOf(command: string): Usage {
  const { out } = ktstr([...command.split(" ").slice(1), "--help"]);
  const options = [...out.matchAll(/^ +((?:-\w, )?--[a-z-]+(?:=<\S+>)?) {2,}\S/gm)].map(([, option]) =>
    option!.replace(/=<(.*)>$/, " $1"),
  );
  return { options, grammar: /^USAGE (.*) \[OPTIONS\]$/m.exec(out)?.[1] ?? command };
}

/** A command that also has subcommands. */
const TABLE_AND_COMMAND = "ktstr sched";

/** Returns every command, such as "ktstr map dump", from the completions. */
function leaves(path: readonly string[] = []): string[] {
  const { out } = ktstr(["completions", "words", "--", ...path, ""]);
  const words = out
    .trimEnd()
    .split("\n")
    .slice(1)
    .map((line) => line.split("\t")[0]!);
  const isTable =
    path.length === 0 ||
    [
      "map",
      "prog",
      "link",
      "cgroup",
      "perf",
      "net",
      "feature",
      "token",
      "struct_ops",
      "btf",
      "sched",
      "task",
    ].includes(path.join(" "));
  const command = ["ktstr", ...path].join(" ");
  if (!isTable) return [command];
  const children = words.flatMap((word) => leaves([...path, word]));
  return command === TABLE_AND_COMMAND ? [command, ...children] : children;
}

const isSynopsisOf = (command: string, line: string): boolean =>
  line === command || (command !== TABLE_AND_COMMAND && line.startsWith(`${command} `));

const commands = leaves();
const ofEvery = new Set(usageOf("ktstr").options);

describe.each(commandPages.map((page) => [page.name, page] as const))("docs/%s.md", (name, page) => {
  const synopsis = (blocks(section(page.text, "Synopsis"))[0]?.text ?? "").trimEnd().split("\n");
  const own = commands.filter((command) => synopsis.some((line) => isSynopsisOf(command, line)));

  test("has the headings of a manual page, in order", () => {
    expect(headings(page.text)).toEqual(
      HEADINGS.filter((heading) => heading !== "Environment" || name === "ktstr"),
    );
    expect(section(page.text, "Name")).toMatch(
      new RegExp(`^ktstr${name === "ktstr" ? "" : ` ${name}`} - \\S`, "m"),
    );
  });

  if (name !== "ktstr")
    test("has the grammar that --help prints for each command", () => {
      expect(own).not.toEqual([]);
      expect(synopsis).toEqual(own.map((command) => usageOf(command).grammar));
    });

  test("lists exactly the options of its commands", () => {
    const expected =
      name === "ktstr"
        ? [...ofEvery]
        : own.flatMap((command) => usageOf(command).options.filter((option) => !ofEvery.has(option)));
    expect(optionRows(page.text).sort()).toEqual([...new Set(expected)].sort());
  });
});

test("every command has a page", () => {
  const synopses = commandPages.flatMap(
    ({ text }) => blocks(section(text, "Synopsis"))[0]?.text.split("\n") ?? [],
  );
  for (const command of commands)
    expect(synopses.filter((line) => isSynopsisOf(command, line))).toHaveLength(1);
});

describe.each(all.map((page) => [page.name, page] as const))("docs/%s.md", (_, page) => {
  const runnable = blocks(page.text)
    .filter(({ kind }) => kind === "console")
    .flatMap(examples);

  if (runnable.length > 0)
    test(
      "its examples print the output on the page",
      () => {
        let { text } = page;
        for (const { command, output } of runnable) {
          const ran = bash(command);
          expect({ command, status: ran.status, stderr: ran.err }).toEqual({
            command,
            status: 0,
            stderr: "",
          });
          if (!update) expect(`$ ${command}\n${ran.out}`).toBe(`$ ${command}\n${output}`);
          text = text.replace(`$ ${command}\n${output}`, () => `$ ${command}\n${ran.out}`);
        }
        if (update) savePage(page, text);
      },
      SLOW_MS,
    );

  const others = blocks(page.text)
    .filter(({ kind }) => kind === "sh")
    .flatMap(({ text }) => text.trim().split("\n"));
  if (others.length > 0)
    test("its examples for the running kernel have valid usage", () => {
      for (const line of others) {
        // Without redirections and the command that it would run.
        const [own = ""] = line.split(/ (?:--|[>|#].*?) /);
        const ran = bash(`${own.replace(/ >.*/, "")} --help`);
        expect({ line, status: ran.status, stderr: ran.err }).toEqual({ line, status: 0, stderr: "" });
      }
    });

  test("its links point to existing files", () => {
    for (const [, target = ""] of page.text.matchAll(/\]\((?!https?:)([^)#]*)/g))
      expect(existsSync(join(ROOT, "docs", target)) ? "" : target).toBe("");
  });
});

test("the commands in README.md print the lines between its dots, in order", () => {
  const [block] = blocks(readFileSync(join(ROOT, "README.md"), "utf8")).filter(
    ({ kind }) => kind === "console",
  );
  let compared = 0;
  for (const { command, output } of examples(block!)) {
    const printed = bash(command).out;
    let at = 0;
    for (const part of output.split(/^\.\.\.\n/m)) {
      const found = printed.indexOf(part, at);
      expect(found < 0 ? part : "").toBe("");
      at = found + part.length;
      compared += part.length;
    }
  }
  expect(compared).toBeGreaterThan(1800);
});

test("the program in docs/library.md prints the output on the page", () => {
  const page = all.find(({ name }) => name === "library")!;
  const [, program = "", output = ""] = /^```ts run\n(.*?)^```\n\n```\n(.*?)^```$/ms.exec(page.text) ?? [];
  writeFileSync(
    join(dir, "example.ts"),
    program.replace('"ktstr"', JSON.stringify(join(ROOT, "src/index.ts"))),
  );
  const ran = bash(`'${process.execPath}' example.ts`);
  expect([ran.status, ran.err]).toEqual([0, ""]);
  if (update)
    savePage(
      page,
      page.text.replace(`\`\`\`\n${output}\`\`\``, () => `\`\`\`\n${ran.out}\`\`\``),
    );
  else expect(ran.out).toBe(output);
});
