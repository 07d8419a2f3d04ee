/** `ktstr task` and `ktstr symbol`: usage, selection, JSON and source lines. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { parseFilter } from "../../src/report/filter-parse.ts";
import { stringify } from "../../src/report/json.ts";
import { queryRecords } from "../../src/report/record-query.ts";
import { TASK_FIELDS, tasksJson, taskText } from "../../src/report/task-list.ts";
import { stackJson, stackLines } from "../../src/report/task-stack.ts";
import type { TaskInfo, TaskState } from "../../src/sched-state.ts";
import { ktstr } from "../live/bpftool.ts";
import { taskProblems, taskStackProblems } from "../report/schema.ts";

test.each([
  [["task", "stack"], "no task given"],
  [["task", "stack", "pid", "0"], "is not a pid"],
  [["task", "stack", "pid", "1", "2"], "unexpected arguments: 2"],
])("%j is wrong usage", (words, said) => {
  const { status, err, out } = ktstr(words);
  expect([status, out]).toEqual([2, ""]);
  expect(err).toContain(said);
});

test.skipIf(existsSync("/proc/kcore"))("without /proc/kcore the error names it and --memory", () => {
  const { status, err } = ktstr(["task", "show", "pid", "1"]);
  expect(status).toBe(1);
  expect(err).toContain("/proc/kcore");
  expect(err).toContain("--memory");
});

test("pids are not completed with the ids of maps", () => {
  expect(ktstr(["completions", "words", "--", "task", "stack", ""]).out).toContain("pid");
  expect(ktstr(["completions", "words", "--", "task", "stack", "pid", ""]).out).not.toMatch(/^\d/m);
});

test("a hostile name is escaped, and an address without a symbol and the reason of the end are shown", () => {
  const frames = [{ address: 0xffffffff81000000n, symbol: "" }];
  const stack = { pid: 7, tgid: 7, comm: "a\u001b[2J", frames, stopped: "it ends" };
  expect(stackLines(stack)).toEqual(["7 a\\x1b[2J", "  0xffffffff81000000", "  (it ends)"]);
  expect(taskStackProblems(stackJson(stack))).toEqual([]);
});

test("with --lines, a frame in a program is followed by its source line", () => {
  const symbol = "bpf_prog_0123456789abcdef_enqueue+0x1a/0x60 [bpf]";
  const frames = [
    { address: undefined, symbol },
    { address: undefined, symbol: "schedule+0x10/0x100" },
  ];
  const stack = { pid: 7, tgid: 7, comm: "a", frames, stopped: "" };
  const lines = new Map([[symbol, { text: "return 0;\u001b[2J", file: "a.bpf.c", line: 12, column: 3 }]]);
  expect(stackLines(stack, lines)).toEqual([
    "7 a",
    `  ${symbol}`,
    "    a.bpf.c:12: return 0;\\x1b[2J",
    "  schedule+0x10/0x100",
  ]);
  expect(taskStackProblems(stackJson(stack, lines))).toEqual([]);
  expect(stackJson(stack, lines)).toMatchObject({
    frames: [{ file: "a.bpf.c", line_num: 12 }, { symbol: "schedule+0x10/0x100" }],
  });
});

describe("selection of tasks", () => {
  const task = (pid: number, waitMs: number | undefined, more: Partial<TaskInfo> = {}): TaskInfo => ({
    pid,
    tgid: pid,
    comm: `task-${pid}`,
    state: waitMs === undefined ? "S" : "R",
    policy: 0,
    rtPriority: 0,
    schedClass: "ext_sched_class",
    cgroupPath: "/a",
    scx: { cpu: 1, flags: waitMs === undefined ? 0 : 1, waitMs: waitMs ?? 0 } as TaskState,
    scxState: "ENABLED",
    scxFlags: waitMs === undefined ? [] : ["QUEUED"],
    ...more,
  });
  const rt = {
    policy: 1,
    scxState: undefined,
    rtPriority: 50,
    schedClass: "rt_sched_class",
    scx: undefined,
    cgroupPath: undefined,
  };
  const all = [task(1, undefined), task(2, 20), task(3, 1500), task(4, undefined, rt)];
  const pids = (filter: string | undefined, sort?: string, limit?: number): number[] =>
    queryRecords(TASK_FIELDS, {
      filter: filter === undefined ? undefined : { source: filter, expression: parseFilter(filter) },
      sort:
        sort === undefined ? undefined : { path: sort.replace("-", ""), descending: sort.startsWith("-") },
      limit,
    })(all).map(({ pid }) => pid);

  test("by fields with the names of the JSON", () => {
    expect(pids("wait_ms >= 1000")).toEqual([3]);
    expect(pids('class == "rt" || comm == "task-1"')).toEqual([1, 4]);
    expect(pids('!(policy == "FIFO") && pid > 1')).toEqual([2, 3]);
    expect(pids("rt_priority")).toEqual([4]);
  });

  test("a task without the member does not match, and is last in both orders", () => {
    expect(pids("wait_ms < 1000")).toEqual([2]);
    expect(pids("wait_ms")).toEqual([2, 3]);
    expect(pids('cgroup == ""')).toEqual([]);
    expect(pids(undefined, "wait_ms")).toEqual([2, 3, 1, 4]);
    expect(pids(undefined, "-wait_ms")).toEqual([3, 2, 1, 4]);
  });

  test("a limit takes the first tasks of the order", () => {
    expect(pids(undefined, "-wait_ms", 1)).toEqual([3]);
    expect(pids(undefined, undefined, 2)).toEqual([1, 2]);
    expect(pids(undefined, undefined, 0)).toEqual([]);
  });

  test.each([
    [["--filter", "wait > 1"], 'there is no field "wait". Did you mean wait_ms?'],
    [["--filter", "pid == 'x'"], "text can only be compared with text"],
    [["--filter", "pid =="], "--filter: at its end"],
    [["--sort", "nice"], 'there is no field "nice"'],
    [["--limit", "x"], "--limit"],
  ])("%j is wrong usage, and no memory is opened for it", (options, said) => {
    const { status, err, out } = ktstr(["task", "show", "--memory", "/nonexistent", ...options]);
    expect([status, out]).toEqual([2, ""]);
    expect(err).toContain(said);
  });

  test("the JSON follows its schema, and names are escaped", () => {
    const hostile = { ...task(9, 5), comm: "a\u001b[2J" };
    expect(taskProblems(JSON.parse(stringify(tasksJson([...all, hostile]))))).toEqual([]);
    expect(taskText(hostile)).toBe(
      "9: a\\x1b[2J  tgid 9  R  ext  NORMAL  CPU 1  scx ENABLED|QUEUED  runnable for 0.005 s  /a",
    );
    expect(taskText(all[3]!)).toBe("4: task-4  tgid 4  S  rt  FIFO 50");
  });
});
