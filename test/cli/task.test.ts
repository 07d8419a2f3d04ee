import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { stackJson, stackLines } from "../../src/report/task-stack.ts";
import { ktstr } from "../live/bpftool.ts";
import { taskStackProblems } from "../report/schema.ts";

test.each([
  [["task", "stack"], "of which task"],
  [["task", "stack", "pid", "0"], "is no pid"],
  [["task", "stack", "pid", "1", "2"], "too much: 2"],
])("%j is wrong usage", (words, said) => {
  const { status, err, out } = ktstr(words);
  expect([status, out]).toEqual([2, ""]);
  expect(err).toContain(said);
});

test.skipIf(existsSync("/proc/kcore"))("without /proc/kcore the error names it and --memory", () => {
  const { status, err } = ktstr(["task", "stack", "pid", "1"]);
  expect(status).toBe(1);
  expect(err).toContain("/proc/kcore");
  expect(err).toContain("--memory");
});

test("pids are not completed with the ids of maps", () => {
  expect(ktstr(["completions", "words", "--", "task", "stack", ""]).out).toContain("pid");
  expect(ktstr(["completions", "words", "--", "task", "stack", "pid", ""]).out).not.toMatch(/^\d/m);
});

test("a hostile name is escaped, an address without a symbol is shown, and so is why there is no more", () => {
  const frames = [{ address: 0xffffffff81000000n, symbol: "" }];
  const stack = { pid: 7, tgid: 7, comm: "a\u001b[2J", frames, stopped: "it ends" };
  expect(stackLines(stack)).toEqual(["7 a\\x1b[2J", "  0xffffffff81000000", "  (it ends)"]);
  expect(taskStackProblems(stackJson(stack))).toEqual([]);
});
