/** Words that shells offer, as printed by the shells themselves. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CLI, kernelSkipReason, ktstr, spawn } from "../live/bpftool.ts";
import { type HeldMap, Kit } from "../live/kit.ts";
import { loadProg } from "../live/kit-progs.ts";

/** A folder for PATH with a `ktstr`, as in an installation, and with files to complete. */
const dir = mkdtempSync(join(tmpdir(), "ktstr-completions-"));
beforeAll(() => {
  writeFileSync(join(dir, "ktstr"), `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`);
  chmodSync(join(dir, "ktstr"), 0o755);
  for (const shell of ["bash", "zsh", "fish"])
    writeFileSync(join(dir, `script.${shell}`), ktstr(["completions", shell]).out);
});
afterAll(() => rmSync(dir, { recursive: true }));

/** Returns the words offered for the last word of a line; "files" if files are offered. */
type Ask = (line: readonly string[]) => string[];

const quoted = (words: readonly string[]): string =>
  words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");

function run(command: readonly string[]): string[] {
  const { status, out, err } = spawn(command, { PATH: `${dir}:${process.env["PATH"]}`, HOME: dir });
  expect([status, err]).toEqual([0, ""]);
  return out.split("\n").filter((line) => line !== "");
}

const asked: Ask = (line) => {
  const { status, out, err } = ktstr(["completions", "words", "--", ...line]);
  expect([status, err]).toEqual([0, ""]);
  const [kind, ...words] = out.trimEnd().split("\n");
  return kind === "files" ? ["files"] : words.map((word) => word.split("\t")[0]!);
};

const bash: Ask = (line) =>
  run([
    "bash",
    "--norc",
    "-c",
    `source '${dir}/script.bash'
compopt() { COMPREPLY=(files); }
COMP_WORDS=(ktstr ${quoted(line)}); COMP_CWORD=${line.length}
$(complete -p ktstr | sed 's/.*-F \\([^ ]*\\).*/\\1/') ktstr
[ \${#COMPREPLY[@]} = 0 ] || printf '%s\\n' "\${COMPREPLY[@]}"`,
  ]);

const zsh: Ask = (line) =>
  run([
    "zsh",
    "-f",
    "-c",
    `compdef() { entry=$1 }
_files() { print files }
_describe() { for one in "\${(@P)2}"; do one=\${one//\\\\:/$'\\x01'}; one=\${one%%:*}; print -r -- "\${one//$'\\x01'/:}"; done }
source '${dir}/script.zsh'
words=(ktstr ${quoted(line)}); CURRENT=${line.length + 1}
$entry; true`,
  ]);

const fish: Ask = (line) =>
  run([
    "fish",
    "--no-config",
    "-c",
    `source '${dir}/script.fish'
function __fish_complete_path; echo "$argv"files; end
complete -C '${["ktstr", ...line].join(" ")}'`,
  ]).map((offered) => (offered.endsWith("files") ? "files" : offered.split("\t")[0]!));

const SHELLS: readonly (readonly [string, Ask])[] = [
  ["ktstr completions words", asked],
  ["bash", bash],
  ["zsh", zsh],
  ["fish", fish],
];

for (const [shell, ask] of SHELLS) {
  const isThere = shell.startsWith("ktstr") || Bun.which(shell) !== null;
  if (!isThere) console.warn(`skipped: ${shell} is not installed`);
  describe.skipIf(!isThere)(`${shell} offers`, () => {
    test.each([
      ["commands that begin with the typed prefix", ["pr"], ["prog"]],
      ["words of a command", ["map", ""], ["dump", "getnext", "lookup", "peek", "show"]],
      ["bpftool's selectors", ["prog", "show", ""], ["id", "name", "pinned", "tag"]],
      ["selectors after an alias, a shortened word and options", ["-j", "pro", "list", "t"], ["tag"]],
      ["selectors after options with values", ["map", "dump", "--limit", "3", "--sort", "-a", "n"], ["name"]],
      ["nothing after a complete selector", ["map", "show", "id", "1", ""], []],
      ["options of the command", ["inspect", "--l"], ["--limit"]],
      ["no option twice, except --memory", ["inspect", "--limit", "1", "--memory", "x", "--"], undefined],
      ["the values of an option", ["map", "dump", "--cpu", ""], ["all", "sum"]],
      ["formats of memory", ["inspect", "--format", "r"], ["raw"]],
      ["files for an option with a file", ["inspect", "--memory", ""], ["files"]],
      ["files for a pinned path", ["map", "show", "pinned", "/s"], ["files"]],
      ["files for the arguments of diff", ["diff", "a", ""], ["files"]],
      ["types' sources", ["btf", "dump", "v"], ["vmlinux"]],
      ["parts of a map's types", ["btf", "dump", "map", "id", "1", "k"], ["key", "kv"]],
      ["words after a keyword", ["btf", "dump", "vmlinux", "format", ""], ["c", "raw"]],
      ["nothing for an arbitrary value", ["map", "dump", "--filter", ""], []],
      ["nothing after an unknown command", ["nothing", ""], []],
    ])("%s", (_, line, words) => {
      const offered = ask(line).sort();
      if (words !== undefined) expect(offered).toEqual(words);
      else {
        expect(offered).not.toContain("--limit");
        expect(offered).toEqual(expect.arrayContaining(["--memory", "--json", "--stats"]));
      }
    });

    describe.skipIf(kernelSkipReason() !== "")("of the running kernel", () => {
      let kit: Kit;
      let map: HeldMap;
      beforeAll(() => {
        kit = new Kit();
        map = kit.map({ type: "hash", name: "complete_me" });
        kit.map({ type: "hash", name: "complete_me" });
      });
      afterAll(() => kit[Symbol.dispose]());

      test("names, without duplicates", () => {
        expect(ask(["map", "dump", "name", "complete_m"])).toEqual(["complete_me"]);
        expect(ask(["pin", "complete_m"])).toEqual(["complete_me"]);
        expect(ask(["btf", "dump", "map", "name", "complete_m"])).toEqual(["complete_me"]);
      });

      test("no names if the line reads another machine", () => {
        for (const other of [["--vm", "1"], ["--memory", "mem"], ["--sample"]])
          expect(ask(["map", "dump", ...other, "name", "complete_m"])).toEqual([]);
      });

      test("ids", () => expect(ask(["map", "show", "id", String(map.id)])).toContain(String(map.id)));

      test("tags and names of programs", () => {
        const { id } = loadProg(kit, { type: "xdp", name: "complete_prog" });
        expect(ask(["prog", "show", "id", String(id)])).toContain(String(id));
        expect(ask(["prog", "show", "name", "complete_p"])).toEqual(["complete_prog"]);
        const { tag } = JSON.parse(ktstr(["-j", "prog", "show", "id", String(id)]).out) as { tag: string };
        expect(ask(["prog", "show", "tag", tag.slice(0, 8)])).toContain(tag);
      });
    });
  });
}

test("every command and option of --help is offered", () => {
  const listed = (help: string): string[] =>
    [...help.matchAll(/^ +`?([a-z_]+)`? {2}/gm)].map(([, word]) => word!);
  const help = ktstr(["--help"]).out;
  const commands = listed(help.slice(help.indexOf("COMMANDS"), help.indexOf("Use ")));
  expect(commands.length).toBeGreaterThan(8);
  expect(asked([""]).sort()).toEqual(commands.sort());
  for (const command of commands) {
    const options = [...ktstr([command, "--help"]).out.matchAll(/^ +.*?(--[a-z-]+)/gm)].map(
      ([, option]) => option!,
    );
    for (const option of options) expect(asked([command, option])).toContain(option);
  }
});

test("an unknown shell is wrong usage", () => {
  for (const words of [
    ["completions"],
    ["completions", "tcsh"],
    ["completions", "words"],
    ["completions", "bash", "--", "x"],
  ]) {
    const { status, out, err } = ktstr(words);
    expect([status, out]).toEqual([2, ""]);
    expect(err).toContain("completions");
  }
});
