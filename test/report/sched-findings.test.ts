/**
 * Findings on dumps of real kernels. The lab's scheduler stalls in a chosen way, and its loader stated which tasks wait
 * (answers/stall.json). Healthy guests have no findings.
 */
import { describe, expect, test } from "bun:test";
import { type Finding, findingsOf } from "../../src/report/sched-findings.ts";
import { viewsOfLog } from "../../src/report/sched-log.ts";
import { parseLog } from "../../src/sched-text/parse.ts";
import { plain, trace } from "../sched-text/texts.ts";

function findingsIn(log: string): Finding[] {
  return viewsOfLog(parseLog(log), "a log").flatMap(findingsOf);
}
const kinds = (findings: readonly Finding[]): string[] => findings.map(({ kind }) => kind);
/** Returns the names in the text of the tasks of a finding. */
const findingTasks = (name: string, { pids }: Finding): string[] =>
  pids.flatMap((pid) => new RegExp(`(\\S+)\\[${pid}\\](?: \\*root)? -`).exec(trace(name))?.[1] ?? []).sort();
const findingsInEdited = (name: string, edit: (line: string) => string): Finding[] =>
  findingsIn(plain(name).map(edit).join("\n"));

test.each(["6.16-simple", "6.18-flatcg", "7.2-central", "7.3-sdt"])(
  "the healthy guest %s has no findings",
  (name) => {
    expect(findingsIn(trace(name))).toEqual([]);
  },
);

describe("a guest whose ops.enqueue drops tasks", () => {
  const [finding, ...others] = findingsIn(trace("7.2-lost-comm"));

  test("names the tasks and their waits, and says that they are on no queue", () => {
    expect(others).toEqual([]);
    expect(finding).toMatchObject({
      kind: "not-dispatched",
      pids: [136, 137, 138],
      cpus: [0, 1],
      waitMs: 5504,
    });
    expect(finding?.summary).toBe(
      "3 tasks have waited 5.496 s to 5.504 s with the BPF scheduler, which has not dispatched them",
    );
    expect(finding?.details.join(" ")).toContain("CPU 0 runs sh[1674] (ext), for at most 0.008 s");
  });
});

test("a queue that no CPU takes from is named with its tasks", () => {
  const findings = findingsIn(trace("7.2-lost-dsq"));
  expect(kinds(findings)).toEqual(["queue-not-consumed"]);
  expect(findings[0]).toMatchObject({ dsqId: 0xdead0n, pids: [133, 134, 135], waitMs: 5316 });
  expect(findings[0]?.summary).toContain("on queue 0xdead0: no CPU took a task from it for 5.316 s");
});

test("a queue with a new task is not reported as not consumed", () => {
  const findings = findingsInEdited("7.2-lost-dsq", (line) =>
    line.replace("dsq_id=0x5ced0", "dsq_id=0xdead0"),
  );
  expect(kinds(findings)).toEqual(["long-wait"]);
});

test.each(["6.17-starved", "6.19-starved", "7.0-starved", "7.1-starved"])(
  "%s: tasks that are queued after newer tasks wait long",
  (name) => {
    const [finding, ...others] = findingsIn(trace(name));
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ kind: "long-wait", dsqId: 0x5ced0n });
    expect(findingTasks(name, finding!)).toEqual(["victim-0", "victim-1", "victim-2"]);
    expect(finding?.summary).toMatch(
      /^3 tasks have waited [\d.]+ s(?: to [\d.]+ s)? on queue 0x5ced0, to which \d+ tasks were added within the last second$/,
    );
  },
);

test("a local queue that is long while another CPU's is empty is found, and so is the task with the long slice", () => {
  const findings = findingsIn(trace("7.2-pinned"));
  expect(kinds(findings)).toEqual(["local-queue-long", "slice-long"]);
  expect(findings[0]).toMatchObject({ pids: [133, 134, 135], cpus: [0, 1], waitMs: 5224 });
  expect(findings[0]?.summary).toContain("it has 4, while CPU 0 has an empty local queue");
  expect(findings[1]).toMatchObject({ pids: [136], cpus: [1] });
});

test("the findings about an ejected scheduler are the reason with the task, and the tasks that waited", () => {
  const findings = findingsIn(trace("7.2-lost-comm-ejected"));
  expect(findings[0]).toMatchObject({ kind: "ejected", pids: [134] });
  expect(findings[0]?.summary).toBe(
    "Scheduler stall was ejected, runnable task stall: victim-1[134] failed to run for 6.332s",
  );
  expect(findings[0]?.details).toEqual(["The kernel detected it while kworker/u8:1[29] ran on CPU 0."]);
  const waiting = findings.slice(1);
  expect(new Set(kinds(waiting))).toEqual(new Set(["not-dispatched"]));
  expect(waiting.flatMap(({ pids }) => pids).sort()).toEqual([133, 134, 135]);
});

test("the kernel's messages without a dump give an ejection", () => {
  const log = [
    '[   39.261415] sched_ext: BPF scheduler "stall" disabled (runnable task stall)',
    "[   39.263248] sched_ext: stall: victim-1[134] failed to run for 6.332s",
  ].join("\n");
  expect(findingsIn(log)).toMatchObject([{ kind: "ejected", pids: [134] }]);
});

test("a scheduler that its own program unregistered is not reported as ejected", () => {
  const log = '[   39.261415] sched_ext: BPF scheduler "simple" disabled (unregistered from user space)';
  expect(findingsIn(log)).toEqual([]);
});
