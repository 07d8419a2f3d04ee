/** The cost of the findings, counted as reads of tasks' members: it grows with the tasks, and not with their square. */
import { expect, test } from "bun:test";
import { findingsOf } from "../../src/report/sched-findings.ts";
import { type SchedTask, type SchedView, viewOfDump } from "../../src/report/sched-view.ts";
import { parseLog } from "../../src/sched-text/parse.ts";
import { trace } from "../sched-text/texts.ts";

const dumped = viewOfDump(parseLog(trace("7.2-pinned")).dumps[0]!, "");
const CPUS = [0, 1, 2, 3];
const SLICE_INFINITE = 2n ** 64n - 1n;

/**
 * A machine whose tasks all have infinite slices, as under scx_central: half of them wait in a shared queue, and half have
 * been in local queues for 10 ms. Returns the number of reads of tasks' members by all findings, and the kinds of the findings.
 */
function costOf(count: number): { readonly reads: number; readonly kinds: ReadonlySet<string> } {
  let reads = 0;
  const shared = 0x5ced0n;
  const local = 2n ** 63n + 2n;
  const tasks = Array.from({ length: count }, (_, n): SchedTask => {
    const waits = n % 2 === 0;
    const task: SchedTask = {
      ...dumped.tasks[0]!,
      pid: 1000 + n,
      cpu: n % CPUS.length,
      cpus: CPUS,
      isCurrent: false,
      migrationDisabled: 0,
      dsqId: waits ? shared : local,
      sliceNs: SLICE_INFINITE,
      waitMs: waits ? 5000 + n : 10,
    };
    return new Proxy(task, {
      get: (target, name) => {
        reads++;
        return Reflect.get(target, name);
      },
    });
  });
  const view: SchedView = {
    ...dumped,
    cpus: CPUS.map((cpu) => ({ ...dumped.cpus[0]!, cpu })),
    tasks,
    queues: [
      { id: shared, kind: "user", cpu: undefined, tasks: tasks.filter((_, n) => n % 2 === 0) },
      ...CPUS.map((cpu) => ({
        id: local,
        kind: "local" as const,
        cpu,
        tasks: tasks.filter((_, n) => n % 2 === 1 && n % CPUS.length === cpu),
      })),
    ],
  };
  const kinds = new Set<string>(findingsOf(view).map(({ kind }) => kind));
  return { reads, kinds };
}

test("findings about infinite slices read ten times the tasks with ten times the reads", () => {
  const [few, many] = [costOf(400), costOf(4000)];
  expect([...many.kinds]).toContain("slice-long");
  expect(many.kinds).toEqual(few.kinds);
  // Names and counts in sentences are limited, so the factor can be below ten.
  expect(many.reads / few.reads).toBeLessThan(10.5);
  expect(many.reads / few.reads).toBeGreaterThan(5);
});
