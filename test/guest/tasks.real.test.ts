/** Tasks in the memory of frozen machines, compared with /proc just before the freeze. */
import { expect } from "bun:test";
import { openGuest } from "../../src/guest/guest.ts";
import { stringify } from "../../src/report/json.ts";
import { tasksJson } from "../../src/report/task-list.ts";
import { ktstr } from "../live/bpftool.ts";
import { hasLateAnswers, type LabImage, labImages, testEachMachine } from "./images.ts";

const images = (await labImages()).filter(({ answer }) => answer("task-stat") !== undefined);

interface Shown {
  readonly pid: number;
  readonly comm: string;
  readonly tgid: number;
  readonly class: string;
  readonly policy: string;
  readonly rt_priority: number;
  readonly cgroup?: string;
}

function shownIn({ memory }: LabImage): Map<number, Shown> {
  using guest = openGuest({ memory });
  const { tasks } = JSON.parse(stringify(tasksJson([...guest.tasks()]))) as {
    readonly tasks: readonly Shown[];
  };
  return new Map(tasks.map((task) => [task.pid, task]));
}

/** Parses `==> /proc/PID/task/TID/FILE <==` and the contents of the file. */
function* sections(
  text: string,
): Generator<{ readonly tgid: number; readonly pid: number; readonly text: string }> {
  for (const part of text.split(/^==> /m).slice(1)) {
    const [, tgid, pid] = /^\/proc\/(\d+)\/task\/(\d+)\//.exec(part) ?? [];
    yield { tgid: Number(tgid), pid: Number(pid), text: part.slice(part.indexOf("\n") + 1) };
  }
}

const POLICIES = ["NORMAL", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE", "EXT"];

/** proc_pid_stat(5) counts fields from 1; the state after the name is the third. */
function statFields(text: string): { readonly comm: string; field(number: number): string } {
  const end = text.lastIndexOf(")");
  const fields = text
    .slice(end + 2)
    .trim()
    .split(" ");
  return { comm: text.slice(text.indexOf("(") + 1, end), field: (number) => fields[number - 3] ?? "" };
}

interface Machine {
  readonly isSwitchedAll: boolean;
  readonly isLoaded: boolean;
  readonly release: string;
}

/**
 * Returns the expected class. While a scheduler is loaded, tasks of SCHED_EXT are on sched_ext; of the fair class, all or none
 * are. 6.16 and 6.17 make stop tasks real-time tasks when a scheduler is loaded; releases with `scx_setscheduler_class()`
 * (kernel/sched/ext) leave them in their class.
 */
function classOf(policy: number, comm: string, { isSwitchedAll, isLoaded, release }: Machine): string {
  if (comm.startsWith("migration/")) return /^6\.1[67]\./.test(release) ? "rt" : "stop";
  if (policy === 1 || policy === 2) return "rt";
  if (policy === 6) return "dl";
  return isSwitchedAll || (policy === 7 && isLoaded) ? "ext" : "fair";
}

testEachMachine(
  images.filter(hasLateAnswers),
  "%s: policies, priorities and classes are those of /proc/PID/stat",
  (image) => {
    const shown = shownIn(image);
    const machine: Machine = {
      release: /Linux version (\S+)/.exec(image.answer("dmesg")!)?.[1] ?? "",
      isSwitchedAll: image.answer("sched_ext/switch_all")?.trim() === "1",
      isLoaded: image.answer("sched_ext/state")?.trim() === "enabled",
    };
    const policies = new Set<string>();
    let compared = 0;
    for (const { pid, tgid, text } of sections(image.answer("task-stat")!)) {
      const task = shown.get(pid);
      const { comm, field } = statFields(text);
      // The task has ended since, or its pid was reused.
      if (task === undefined || !comm.startsWith(task.comm.slice(0, 15))) continue;
      const policy = Number(field(41));
      const expected = {
        tgid,
        policy: POLICIES[policy],
        rt_priority: Number(field(40)),
        // A task that ended before the scheduler was ejected stays in its class.
        ...(field(3) === "Z" ? {} : { class: classOf(policy, comm, machine) }),
      };
      expect({ ...task }).toMatchObject({ pid, ...expected } as object);
      policies.add(task.policy);
      compared++;
    }
    expect(compared).toBeGreaterThanOrEqual(60);
    for (const each of ["NORMAL", "FIFO", "RR", "BATCH", "IDLE"]) expect(policies).toContain(each);
  },
);

testEachMachine(images, "%s: cgroups are equal to those of /proc/PID/cgroup", (image) => {
  const shown = shownIn(image);
  let compared = 0;
  for (const { pid, text } of sections(image.answer("task-cgroup")!)) {
    const path = /^0::(.*)$/m.exec(text)?.[1];
    const task = shown.get(pid);
    if (task === undefined || path === undefined) continue;
    expect([pid, task.cgroup]).toEqual([pid, path]);
    compared++;
  }
  expect(compared).toBeGreaterThanOrEqual(60);
});

testEachMachine(
  images.filter(hasLateAnswers),
  "%s: --filter, --sort and --limit select the real-time tasks of /proc/PID/stat",
  ({ memory, answer }) => {
    const stats = [...sections(answer("task-stat")!)].map(({ pid, text }) => {
      const { field } = statFields(text);
      return { pid, policy: Number(field(41)), priority: Number(field(40)) };
    });
    const known = new Set(stats.map(({ pid }) => pid));
    const expected = stats
      .filter(({ policy, priority }) => (policy === 1 || policy === 2) && priority >= 2)
      .sort((a, b) => b.priority - a.priority || a.pid - b.pid)
      .map(({ pid, priority }) => [pid, priority]);
    const shown = (...more: readonly string[]): number[][] => {
      const filter = 'rt_priority >= 2 && (policy == "FIFO" || policy == "RR")';
      const words = ["task", "show", "--memory", memory, "--filter", filter, "--sort", "-rt_priority"];
      const { status, out, err } = ktstr(["-j", ...words, ...more]);
      expect([status, err.includes("error")]).toEqual([0, false]);
      const { tasks } = JSON.parse(out) as { readonly tasks: readonly Shown[] };
      // A task that started after the answer.
      return tasks.filter(({ pid }) => known.has(pid)).map((task) => [task.pid, task.rt_priority]);
    };
    // Tasks of one priority are in the order of the kernel's list, in which they started.
    const all = shown();
    const ran = new Set(all.map(([pid]) => pid));
    expect(all).toEqual(expected.filter(([pid]) => ran.has(pid!)));
    expect(expected.length - all.length).toBeLessThanOrEqual(1);
    expect(all.length).toBeGreaterThanOrEqual(4);
    expect(shown("--limit", "3")).toEqual(all.slice(0, 3));
  },
);
