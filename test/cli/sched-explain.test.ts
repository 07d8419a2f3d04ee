/** `ktstr sched explain` as a command. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { schedProblems } from "../report/schema.ts";
import { TEXTS, trace, tracePath } from "../sched-text/texts.ts";

const cli = join(import.meta.dir, "../../src/cli.ts");

function run(words: readonly string[], input = "") {
  const done = Bun.spawnSync([process.execPath, cli, ...words], { stdin: Buffer.from(input) });
  return { status: done.exitCode, out: done.stdout.toString(), err: done.stderr.toString() };
}

test("shows the finding first, from a file and from standard input", () => {
  const file = run(["sched", "explain", tracePath("7.2-lost-dsq")]);
  expect(file).toMatchObject({ status: 0, err: "" });
  const lines = file.out.split("\n");
  expect(lines[1]).toBe("Scheduler  stall  dump on request (SysRq-D)");
  expect(lines[2]).toStartWith("finding    3 tasks have waited 5.316 s on queue 0xdead0");
  const piped = run(["sched", "explain", "-"], trace("7.2-lost-dsq"));
  expect(piped.out.split("\n").slice(1)).toEqual(lines.slice(1));
});

test.each([...TEXTS])("the JSON of %s follows its schema", (name) => {
  const { status, out } = run(["-j", "sched", "explain", tracePath(name)]);
  expect(status).toBe(0);
  expect(schedProblems(JSON.parse(out))).toEqual([]);
});

test("several dumps are several pages in the order of time, even from a reversed log", () => {
  const both = `${trace("7.2-lost-comm")}${trace("7.2-lost-comm-ejected")}`;
  const reversed = both.trimEnd().split("\n").reverse().join("\n");
  for (const log of [both, reversed]) {
    const { schedulers } = JSON.parse(run(["-j", "sched", "explain", "-"], log).out);
    expect(
      schedulers.map(
        ({ trigger, exit }: { trigger?: string; exit?: { kind: number } }) => trigger ?? exit?.kind,
      ),
    ).toEqual(["SysRq-D", 1026]);
  }
});

test("unknown lines are shown and reported", () => {
  const log = trace("7.2-lost-dsq").replace("      sticky/holding_cpu=", "      sticky_or_so=");
  const { status, out, err } = run(["sched", "explain", "-"], log);
  expect(status).toBe(0);
  expect(out).toContain("sticky_or_so=");
  expect(err).toContain("1 line of the dumps is");
});

test.each([
  [["sched", "explain"], 2, "no FILE given"],
  [["sched", "explain", "a", "b"], 2, "unexpected arguments: b"],
  [["sched", "explain", "--sample", "a"], 2, "reads a text"],
  [["sched", "explain", "/nonexistent/log"], 1, "cannot read /nonexistent/log"],
  [["sched", "explain", "-"], 1, "no scx dump in its 0 lines. The scheduler prints it"],
])("%p ends in %p and says why", (words, status, sentence) => {
  const ran = run(words);
  expect(ran).toMatchObject({ status, out: "" });
  expect(ran.err).toContain(sentence);
});
