/** Shortened words, and words that only bpftool has, compared with bpftool's own tables and answers. */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { bpftoolWord } from "../../src/commands/bpftool-words.ts";
import { labDir } from "../lab-dir.ts";
import { kernelSkipReason, ktstr, spawn } from "../live/bpftool.ts";

/** Returns bpftool's sources of the newest package in the lab's cache; undefined if the lab has not built it here. */
function bpftoolSources(): string | undefined {
  const folder = join(labDir(), "src");
  if (!existsSync(folder)) return undefined;
  const trees = readdirSync(folder).map((name) => join(folder, name, "tools/bpf/bpftool"));
  const versionOf = (tree: string): string =>
    readFileSync(join(tree, "../../lib/bpf/libbpf_version.h"), "utf8");
  return trees
    .filter((tree) => existsSync(join(tree, "main.c")))
    .sort((a, b) => versionOf(a).localeCompare(versionOf(b)))
    .at(-1);
}

const sources = bpftoolSources();
const noSources = sources === undefined ? ": skipped, `bun run lab bpftool` fetches its sources" : "";
const NOUNS = {
  ktstr: "main.c",
  "ktstr map": "map.c",
  "ktstr prog": "prog.c",
  "ktstr link": "link.c",
  "ktstr btf": "btf.c",
  "ktstr cgroup": "cgroup.c",
  "ktstr perf": "perf.c",
  "ktstr net": "net.c",
  "ktstr feature": "feature.c",
  "ktstr token": "token.c",
  "ktstr struct_ops": "struct_ops.c",
};

/** Returns the entries of `static const struct cmd cmds[]`, in order. */
function tableOf(file: string): string[] {
  const text = readFileSync(join(sources!, file), "utf8");
  const [, body = ""] = /static const struct cmd (?:cmds|commands)\[\] = \{\n(.*?)\n\};/s.exec(text) ?? [];
  return [...body.matchAll(/\{ "(\w+)",/g)].map(([, word]) => word!);
}

describe.skipIf(sources === undefined)(`words by bpftool's own tables${noSources}`, () => {
  test.each(Object.entries(NOUNS))(
    "after `%s` every prefix means the first entry of %s that begins with it",
    (noun, file) => {
      const table = tableOf(file);
      expect(table.length).toBeGreaterThan(2);
      for (const whole of table)
        for (let length = 1; length <= whole.length; length++) {
          const word = whole.slice(0, length);
          expect([word, bpftoolWord(noun, word)]).toEqual([
            word,
            table.find((entry) => entry.startsWith(word)),
          ]);
        }
      expect(bpftoolWord(noun, "")).toBeUndefined();
      expect(bpftoolWord(noun, "zzz")).toBeUndefined();
    },
  );

  test.each(Object.entries(NOUNS))(
    "after `%s` each is a command of ktstr, or an error that says what to use",
    (noun, file) => {
      const parent = noun.split(" ").slice(1);
      for (const word of tableOf(file).filter((one) => one !== "help")) {
        const { status, out, err } = ktstr(["help", ...parent, word]);
        if (status === 0)
          expect(out).toMatch(new RegExp(`^USAGE ktstr ${[...parent, ""].join(" ")}(${word}|show) `, "m"));
        else {
          expect([status, out]).toEqual([2, ""]);
          expect(err).toMatch(
            new RegExp(`has no "${word}"\\. Use \`${["bpftool", ...parent, word].join(" ")}\``),
          );
        }
      }
    },
  );
});

describe.skipIf(kernelSkipReason() !== "")(
  "a prefix means the first bpftool command that begins with it",
  () => {
    test.each(["p", "m", "l", "b", "f", "n", "g", "s", "i", "t", "c", "pe", "bt"])("%s", (word) => {
      // Some usage messages have the word as typed, some the full word.
      const usage = (typed: string): string =>
        spawn(["bpftool", typed, "help"]).err.replace(/bpftool \S+ /g, "bpftool ... ");
      const [, objects = ""] = /OBJECT := \{ (.*) \}/.exec(spawn(["bpftool", "help"]).err) ?? [];
      const nouns = ["batch", ...objects.split(" | ")].filter((one) => usage(one) === usage(word));
      expect(nouns).toHaveLength(1);
      const [noun] = nouns;
      const mine = ktstr(["help", word]);
      if (mine.status === 0) expect(mine.out).toContain(`USAGE ktstr ${noun} `);
      else expect(mine.err).toContain(`has no "${noun}". Use \`bpftool ${noun}\``);
    });

    test("`m s`, `prog sh`, `l li`, `bt s` list the same as in bpftool", () => {
      for (const words of ["m s", "prog sh", "l li", "bt s", "m l", "ma"]) {
        const args = ["-j", ...words.split(" ")];
        const [mine, theirs] = [ktstr(args), spawn(["bpftool", ...args])];
        expect([words, mine.status, theirs.status]).toEqual([words, 0, 0]);
        const ids = (json: string): unknown[] => (JSON.parse(json) as { id: number }[]).map(({ id }) => id);
        // Objects that bpftool loads to find holders are its own.
        expect(ids(theirs.out)).toEqual(expect.arrayContaining(ids(mine.out)));
      }
    });

    test("`bt d f FILE fo raw` is bpftool's dump, and a second file is an error that names it", () => {
      const file = "/sys/kernel/btf/vmlinux";
      const whole = spawn(["bpftool", "btf", "dump", "file", file, "root_id", "7"]).out;
      expect(whole).toStartWith("[7] ");
      for (const words of [`bt d f ${file} r 7`, `bt du fi ${file} fo raw root 7`, `bt d f ${file} u r 7`]) {
        expect(spawn(["bpftool", ...words.split(" ")]).out).toBe(whole);
        expect(ktstr(words.split(" "))).toEqual({ status: 0, out: whole, err: "" });
      }
      // In bpftool, `f` after a file begins another file, which is merged with the first.
      expect(spawn(["bpftool", "btf", "dump", "file", file, "f", "raw"]).err).toContain("raw");
      expect(ktstr(["btf", "dump", "file", file, "f", "raw"])).toMatchObject({ status: 2, out: "" });
    });
  },
);

describe("ktstr's own words", () => {
  test.each([
    ["in", "inspect"],
    ["sc", "sched"],
    ["ta", "task"],
    ["di", "diff"],
    ["dm", "dmesg"],
    ["ca", "capture"],
    ["vm", "vmlinux"],
    ["co", "completions"],
    ["pi", "pin"],
    ["get", "get"],
    ["rep", "report"],
    ["me", "metrics"],
    ["sc ex", "sched explain"],
    ["sc du", "sched dump"],
  ])("%s is %s where bpftool has no such word", (words, whole) => {
    const { status, out } = ktstr([...words.split(" "), "--help"]);
    expect([status, out]).toEqual([0, ktstr([...whole.split(" "), "--help"]).out]);
  });

  test.each([
    ["i", "iter", "inspect"],
    ["ge", "gen", "get"],
  ])("%s is bpftool's %s, and says which of ours begins so", (word, theirs, own) => {
    const { status, err } = ktstr([word]);
    expect(status).toBe(2);
    expect(err).toContain(`has no "${theirs}". Use \`bpftool ${theirs}\``);
    expect(err).toEndWith(`ktstr's own: ${own}\n`);
  });

  test("an ambiguous prefix of ktstr's own commands lists them", () => {
    expect(ktstr(["d"]).err).toContain("Did you mean diff or dmesg?");
  });

  test("an empty word is an error", () => {
    expect(ktstr([""])).toMatchObject({ status: 2, out: "" });
    expect(ktstr(["map", ""])).toMatchObject({ status: 2, out: "" });
  });
});
