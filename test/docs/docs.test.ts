/**
 * The documentation says what is so: every example is run and prints what the page has, every command and option has its
 * place. `KTSTR_UPDATE_DOCS=1` writes what the examples print into the pages.
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
/** Where examples run: with `ktstr` in PATH and the files that they name. */
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
/** Pages of commands; the others are about something else. */
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
/** A dump of the sample is a second on a slow machine, and a page has several. */
const SLOW_MS = 120_000;

interface Usage {
  /** "--limit N", with "-o, " in front where there is a short form. */
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

/** "ktstr map dump": every command that does something, as the completion knows them. */
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
  return isTable ? words.flatMap((word) => leaves([...path, word])) : [["ktstr", ...path].join(" ")];
}

const commands = leaves();
const ofEvery = new Set(usageOf("ktstr").options);

describe.each(commandPages.map((page) => [page.name, page] as const))("docs/%s.md", (name, page) => {
  const synopsis = (blocks(section(page.text, "Synopsis"))[0]?.text ?? "").trimEnd().split("\n");
  const own = commands.filter((command) =>
    synopsis.some((line) => line === command || line.startsWith(`${command} `)),
  );

  test("has its parts in a manual page's order", () => {
    expect(headings(page.text)).toEqual(
      HEADINGS.filter((heading) => heading !== "Environment" || name === "ktstr"),
    );
    expect(section(page.text, "Name")).toMatch(
      new RegExp(`^ktstr${name === "ktstr" ? "" : ` ${name}`} - \\S`, "m"),
    );
  });

  if (name !== "ktstr")
    test("gives every command its own grammar", () => {
      expect(own).not.toEqual([]);
      expect(synopsis).toEqual(own.map((command) => usageOf(command).grammar));
    });

  test("has just the options that there are", () => {
    const there =
      name === "ktstr"
        ? [...ofEvery]
        : own.flatMap((command) => usageOf(command).options.filter((option) => !ofEvery.has(option)));
    expect(optionRows(page.text).sort()).toEqual([...new Set(there)].sort());
  });
});

test("every command has a page", () => {
  const synopses = commandPages.flatMap(
    ({ text }) => blocks(section(text, "Synopsis"))[0]?.text.split("\n") ?? [],
  );
  for (const command of commands)
    expect(synopses.filter((line) => line === command || line.startsWith(`${command} `))).toHaveLength(1);
});

describe.each(all.map((page) => [page.name, page] as const))("docs/%s.md", (_, page) => {
  const runnable = blocks(page.text)
    .filter(({ kind }) => kind === "console")
    .flatMap(examples);

  if (runnable.length > 0)
    test(
      "its examples print what it says",
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
    test("its examples for the running kernel are right usage", () => {
      for (const line of others) {
        // The command itself, without where its output goes and what it would run.
        const [own = ""] = line.split(/ (?:--|[>|#].*?) /);
        const ran = bash(`${own.replace(/ >.*/, "")} --help`);
        expect({ line, status: ran.status, stderr: ran.err }).toEqual({ line, status: 0, stderr: "" });
      }
    });

  test("its links lead somewhere", () => {
    for (const [, target = ""] of page.text.matchAll(/\]\((?!https?:)([^)#]*)/g))
      expect(existsSync(join(ROOT, "docs", target)) ? "" : target).toBe("");
  });
});

test("the README's outputs are what is printed, line for line between their dots", () => {
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

test("docs/library.md prints what it says", () => {
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
