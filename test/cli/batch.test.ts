/** `batch file`, compared with bpftool's answers for the same files. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CLI, kernelSkipReason, ktstr, missing, parseExact, type Ran, spawn } from "../live/bpftool.ts";
import { type HeldMap, Kit, u32 } from "../live/kit.ts";

const dir = mkdtempSync(join(tmpdir(), "ktstr-batch-"));
afterAll(() => rmSync(dir, { recursive: true }));

/** Writes a file, the same one for the same text, because errors name it. */
function fileOf(text: string): string {
  const path = join(dir, Bun.hash(text).toString(16));
  writeFileSync(path, text);
  return path;
}

const batch = (text: string, ...options: string[]): Ran => ktstr([...options, "batch", "file", fileOf(text)]);
const bpftoolBatch = (text: string, ...options: string[]): Ran =>
  spawn(["bpftool", ...options, "batch", "file", fileOf(text)]);

interface Done {
  readonly command: readonly string[];
  readonly output: unknown;
}

/**
 * Returns bpftool's results. At the end of the file it takes an errno that a command left for a read error (main.c, do_batch
 * reads `errno` without clearing it); this error is left out.
 */
function bpftoolResults(text: string): { readonly done: Done[]; readonly failed: boolean } {
  const { status, out } = bpftoolBatch(text, "-j");
  const done = parseExact(out) as Done[];
  const isStale = JSON.stringify(done.at(-1) ?? "").startsWith('{"error":"reading batch file failed');
  return { done: isStale ? done.slice(0, -1) : done, failed: status !== 0 && !isStale };
}

describe.skipIf(kernelSkipReason() !== "")("batch file", () => {
  const kit = new Kit();
  afterAll(() => kit[Symbol.dispose]());
  const map: HeldMap = kit.map({ type: "hash", name: "batched", maxEntries: 4 });
  kit.update(map, u32(7), u32(9));
  const { id } = map;

  /** Files that both run to the end. */
  const good: Readonly<Record<string, string>> = {
    "a command a line": `map show id ${id}\nmap dump id ${id}\n`,
    "no line feed at the end": `map show id ${id}`,
    "empty lines, blanks and tabulators": `\n  \n\t\n  map\tshow   id ${id}  \t\n\n`,
    "carriage returns": `map show id ${id}\r\nmap show id ${id}\r\n`,
    "comments, even after a command and with quotes in them": `# map show id 1\nmap show id ${id} # it's "one\n`,
    "quotes of both kinds": `'map' "show" name "batched"\n`,
    "a quote that ends inside of a word begins another one": `"map"'show' id ${id}\n`,
    "continued lines": `map \\\nshow \\\n  id ${id}\nmap sh\\\now id ${id}\n`,
    "a comment ends a continued line": `map show id ${id} # \\\nmap dump id ${id}\n`,
    "a continued line after a comment": `map show \\\nid ${id} # here\n`,
    "words that are cut short": `m s id ${id}\nma du id ${id}\n`,
    "a lookup": `map lookup id ${id} key 7 0 0 0\nmap getnext id ${id}\n`,
    "nothing at all": "",
    "nothing but comments": "# nothing\n\n",
    help: "help\nmap help\n",
  };

  test.each(Object.entries(good))("-j: %s", (_, text) => {
    const [mine, theirs] = [batch(text, "-j"), bpftoolResults(text)];
    expect([mine.status, mine.err, theirs.failed]).toEqual([0, "", false]);
    const [done, wanted] = [parseExact(mine.out) as Done[], theirs.done];
    expect(done.map((one) => Object.keys(one))).toEqual(wanted.map((one) => Object.keys(one)));
    expect(done.map(({ command }) => command)).toEqual(wanted.map(({ command }) => command));
    expect(missing(done, wanted)).toEqual([]);
    expect(parseExact(batch(text, "-p").out)).toEqual(done);
  });

  test.each(Object.entries(good).filter(([name]) => name !== "help"))("text: %s", (_, text) => {
    const { status, out, err } = batch(text);
    expect([status, err]).toEqual([0, ""]);
    const last = `processed ${bpftoolResults(text).done.length} commands\n`;
    expect(out.endsWith(last)).toBe(true);
    expect(bpftoolBatch(`${text}\nmap dump id ${id}\n`).out).toMatch(/^processed \d+ commands\n$/m);
  });

  /** Files in which a command fails: the number of commands that succeed before it. */
  const bad: Readonly<Record<string, readonly [text: string, succeeded: number, status: number]>> = {
    "the first command": [`map show id 4294967295\nmap show id ${id}\n`, 0, 1],
    "the second command": [`map show id ${id}\nmap dump id 4294967295\nmap show id ${id}\n`, 1, 1],
    "a wrong word": [`map show id ${id}\nmap show idd x\n`, 1, 2],
    "a quote that does not end": [`map show id ${id}\nmap "show id ${id}\n`, 1, 1],
    "a quote that does not end, first": [`map 'show id ${id}\n`, 0, 1],
    "a line that goes on and does not": [`map show id ${id}\nmap show \\\n`, 1, 1],
    "a key that is not there": [`map lookup id ${id} key 1 0 0 0\nmap show id ${id}\n`, 0, 1],
  };

  test.each(Object.entries(bad))("stops at %s", (name, [text, succeeded, status]) => {
    const [mine, theirs] = [batch(text, "-j"), bpftoolResults(text)];
    expect([mine.status, mine.err, theirs.failed]).toEqual([status, "", true]);
    const [done, wanted] = [parseExact(mine.out) as Done[], theirs.done];
    expect(done).toHaveLength(succeeded + 1);
    expect(done.map((one) => Object.keys(one))).toEqual(wanted.map((one) => Object.keys(one)));
    const last = done.at(-1)!;
    if (!name.includes("key")) expect(Object.keys((last.output ?? last) as object)).toEqual(["error"]);
    expect(parseExact(batch(text, "-p").out)).toEqual(done);

    const [plain, plainTheirs] = [batch(text), bpftoolBatch(text)];
    expect([plain.status, plainTheirs.status === 0]).toEqual([status, false]);
    expect(plain.out).not.toContain("processed");
    expect(plainTheirs.out).not.toContain("processed");
    if (!name.includes("key")) {
      const line = text.split("\n").findIndex((one) => /4294967295|idd|["']|\\/.test(one)) + 1;
      expect(plain.err).toMatch(
        new RegExp(`^ktstr: error: batch file ${dir}/\\S+, line ${line}: [^\\n]+\\n$`),
      );
    }
  });

  test("`-` is standard input, and each command runs as soon as its line is read", async () => {
    const child = Bun.spawn([process.execPath, CLI, "-j", "batch", "file", "-"], {
      stdin: "pipe",
      stdout: "pipe",
    });
    const answers = child.stdout.getReader();
    let seen = "";
    for (const round of [1, 2]) {
      child.stdin.write(`map show id ${id}\n`);
      child.stdin.flush();
      while (seen.split('"command"').length - 1 < round || !seen.endsWith("}")) {
        const { value, done } = await answers.read();
        if (done) throw new Error("it ended");
        seen += Buffer.from(value).toString();
      }
    }
    child.stdin.end();
    for (let got = await answers.read(); !got.done; got = await answers.read())
      seen += Buffer.from(got.value).toString();
    expect(await child.exited).toBe(0);
    expect((JSON.parse(seen) as Done[]).map(({ command }) => command.join(" "))).toEqual([
      `map show id ${id}`,
      `map show id ${id}`,
    ]);
  });

  test("a batch can run another, and one that runs itself ends with an error", () => {
    const inner = fileOf(`map dump id ${id}\n`);
    const text = `batch file ${inner}\nmap dump id ${id}\n`;
    const theirs = bpftoolResults(text);
    expect([theirs.failed, missing(parseExact(batch(text, "-j").out), theirs.done)]).toEqual([false, []]);
    expect(batch(text).out.match(/processed \d+ commands/g)).toEqual(
      bpftoolBatch(text).out.match(/processed \d+ commands/g),
    );
    const path = join(dir, "itself");
    writeFileSync(path, `batch file ${path}\n`);
    const { status, out, err } = ktstr(["-j", "batch", "file", path]);
    expect([status, err]).toEqual([1, ""]);
    expect(JSON.stringify(JSON.parse(out))).toContain("batches are nested");
  });

  test("a closed pipe ends it without a message", () => {
    const text = `map show id ${id}\n`.repeat(50);
    const { status, err } = spawn([
      "bash",
      "-c",
      `'${process.execPath}' '${CLI}' batch file '${fileOf(text)}' | true; exit \${PIPESTATUS[0]}`,
    ]);
    expect([status, err]).toEqual([0, ""]);
  });
});

describe("batch file of a frozen machine", () => {
  test("opens its memory once, and prints the same as single commands", () => {
    const commands = ["prog show", "map show", "get unconsumed_dsq", "link show"];
    const done = JSON.parse(batch(commands.join("\n"), "-j", "--sample", "--explain").out) as Done[];
    expect(done.map(({ command }) => command.join(" "))).toEqual(commands);
    for (const { command, output } of done)
      expect(output).toEqual(JSON.parse(ktstr(["-j", "--sample", ...command]).out));
    const once = ktstr(["-j", "--sample", "--explain", "map", "show"]).err;
    expect(once).not.toBe("");
    expect(batch(commands.join("\n"), "-j", "--sample", "--explain").err).toBe(once);
  });

  test("a line may have options of its own", () => {
    const text = "map show --sample\nmap dump --sample name stall_ops --limit 1\n";
    const done = JSON.parse(batch(text, "-j").out) as Done[];
    expect(done[0]!.output).toEqual(JSON.parse(ktstr(["-j", "--sample", "map", "show"]).out));
    expect(done[1]!.output).toHaveLength(1);
  });
});

describe("batch gives an error for", () => {
  test.each([
    ["batch", "batch: no file given"],
    ["batch file", "batch: no file given"],
    ["batch nope x", "batch: no file given"],
    ["batch file a b", "unexpected arguments: b"],
  ])("%s", (line, sentence) => {
    const { status, out, err } = ktstr(line.split(" "));
    expect([status, out]).toEqual([2, ""]);
    expect(err).toContain(sentence);
  });

  test("commands without JSON, with -j", () => {
    for (const line of ["completions bash", "pin nothing"]) {
      const { status, out } = batch(line, "-j");
      expect([status, (JSON.parse(out) as Done[])[0]!.output]).toEqual([
        2,
        { error: `ktstr ${line.split(" ")[0]}: this command prints no JSON. Run the batch without -j` },
      ]);
    }
  });

  test("lines and commands of more than 65535 bytes, and folders", () => {
    const long = batch(`map show id ${"1".repeat(70_000)}\n`);
    expect(long).toMatchObject({ status: 1, out: "" });
    expect(long.err).toContain("line 1: it has more than 65535 bytes");
    expect(batch(`${`map ${"x".repeat(40_000)} \\\n`.repeat(3)}\n`).err).toContain("more than 65535 bytes");
    expect(batch(`${"m ".repeat(5000)}\n`).err).toContain("more than 4095 words");
    expect(ktstr(["batch", "file", dir]).err).toContain(`batch file ${dir}: EISDIR`);
  });
});
