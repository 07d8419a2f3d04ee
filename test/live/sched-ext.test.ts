/** Facts of /sys/kernel/sched_ext and /proc/PID/stack, if the kernel's memory cannot be read. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KtstrError } from "../../src/errors.ts";
import { readSysfsSched } from "../../src/live/sched-ext.ts";
import type { Sys } from "../../src/live/sys.ts";
import { readProcStack } from "../../src/live/task-stack.ts";
import { stringify } from "../../src/report/json.ts";
import { Output } from "../../src/report/output.ts";
import { findingsOf } from "../../src/report/sched-findings.ts";
import { schedJson } from "../../src/report/sched-json.ts";
import { writeSched } from "../../src/report/sched-page.ts";
import { viewsOfSysfs } from "../../src/report/sched-view.ts";
import { stackJson, stackLines } from "../../src/report/task-stack.ts";
import { schedProblems, taskStackProblems } from "../report/schema.ts";
import { ktstr } from "./bpftool.ts";

/** A system with only these files. */
function sysOf(files: { readonly [path: string]: string }): Sys {
  const paths = Object.keys(files);
  return {
    readFile: (path: string) => (files[path] === undefined ? undefined : Buffer.from(files[path])),
    readDirectory: (path: string) => [
      ...new Set(
        paths
          .filter((each) => each.startsWith(`${path}/`))
          .map((each) => each.slice(path.length + 1).split("/")[0]!),
      ),
    ],
  } as Partial<Sys> as Sys;
}

const ROOT = "/sys/kernel/sched_ext";
const GLOBAL = {
  [`${ROOT}/state`]: "enabled\n",
  [`${ROOT}/switch_all`]: "0\n",
  [`${ROOT}/nr_rejected`]: "3\n",
  [`${ROOT}/hotplug_seq`]: "1\n",
  [`${ROOT}/enable_seq`]: "12\n",
};
const LOADED = {
  ...GLOBAL,
  [`${ROOT}/root/ops`]: "simple\n",
  [`${ROOT}/root/events`]: "SCX_EV_SELECT_CPU_FALLBACK 0\nSCX_EV_BYPASS_ACTIVATE 1\n",
};

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-sysfs-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function pageOf(files: { readonly [path: string]: string }): string {
  const path = join(folder, "page");
  rmSync(path, { force: true });
  const { openSync, closeSync } = process.getBuiltinModule("node:fs");
  const fd = openSync(path, "w");
  const out = new Output(fd);
  const same = (text: string): string => text;
  for (const view of viewsOfSysfs(readSysfsSched(sysOf(files))!, "open /proc/kcore: EPERM"))
    writeSched(out, view, findingsOf(view), 32, { heading: same, dim: same, alarm: same });
  out.flush();
  closeSync(fd);
  return readFileSync(path, "utf8");
}

describe("/sys/kernel/sched_ext", () => {
  test("gives state, name, counts and events, and the page says what is missing and why", () => {
    const page = pageOf(LOADED);
    expect(page).toContain("Scheduler  simple  enabled\n");
    expect(page).toContain("Mode       only tasks of SCHED_EXT, 3 tasks rejected\n");
    expect(page).toContain("  SCX_EV_BYPASS_ACTIVATE  1\n");
    expect(page).toContain("dispatch queues, tasks, stacks and findings: open /proc/kcore: EPERM");
    // Tasks were not read.
    expect(page).not.toContain("Findings ");
    expect(page).not.toContain("CPUs (");
  });

  test("its JSON follows the same schema as from memory", () => {
    const found = readSysfsSched(sysOf(LOADED))!;
    const schedulers = viewsOfSysfs(found, "why").map((view) => schedJson(view, []));
    const report = JSON.parse(stringify({ schema: "ktstr-sched", schema_version: 1, schedulers }));
    expect(schedProblems(report)).toEqual([]);
    expect(report.schedulers[0]).toMatchObject({
      ops: "simple",
      nr_rejected: 3,
      hotplug_seq: 1,
      enable_seq: 12,
    });
  });

  test("has sub-schedulers in the folders of their parents since 7.1", () => {
    const { schedulers } = readSysfsSched(
      sysOf({
        ...LOADED,
        [`${ROOT}/root/sub/sub-77/ops`]: "child\n",
        [`${ROOT}/root/sub/sub-77/sub/sub-78/ops`]: "grandchild\n",
        [`${ROOT}/root/sub/other/ops`]: "none\n",
      }),
    )!;
    expect(schedulers.map(({ place, opsName }) => [place, opsName])).toEqual([
      ["root", "simple"],
      ["sub1-77", "child"],
      ["sub2-78", "grandchild"],
    ]);
  });

  test("of an older kernel has no events, with a message; without a scheduler there is no page", () => {
    expect(pageOf({ ...GLOBAL, [`${ROOT}/root/ops`]: "old\n" })).toContain(
      "event counters: this kernel has no",
    );
    expect(readSysfsSched(sysOf(GLOBAL))?.schedulers).toEqual([]);
    expect(readSysfsSched(sysOf({}))).toBeUndefined();
  });

  test("hostile names are escaped", () => {
    expect(pageOf({ ...LOADED, [`${ROOT}/root/ops`]: "a\u001b[2J\n" })).toContain("Scheduler  a\\x1b[2J");
  });
});

describe("/proc/PID/stack", () => {
  const why = new KtstrError("there is no /proc/kcore", { hint: "--memory FILE" });
  const files = (stack: string): Sys =>
    sysOf({
      "/proc/7/status": "Name:\ta\nTgid:\t5\nNgid:\t0\nPid:\t7\n",
      "/proc/7/comm": "a b\n",
      "/proc/7/stack": stack,
    });

  test("gives frames without addresses", () => {
    const stack = readProcStack(
      files("[<0>] do_wait+0x5a/0x120\n[<0>] dummy_xmit+0x3/0x40 [dummy]\n"),
      7,
      why,
    );
    expect(stackLines(stack)).toEqual(["7 a b", "  do_wait+0x5a/0x120", "  dummy_xmit+0x3/0x40 [dummy]"]);
    expect(stack.tgid).toBe(5);
    expect(taskStackProblems(JSON.parse(stringify(stackJson(stack))))).toEqual([]);
  });

  test("that is empty is not a complete stack", () => {
    expect(readProcStack(files(""), 7, why).stopped).toContain("on a CPU");
    expect(() => readProcStack(sysOf({}), 7, why)).toThrow("there is no task 7");
    expect(() => readProcStack(sysOf({ "/proc/7/status": "" }), 7, why)).toThrow(
      /cannot read \/proc\/7\/stack.*there is no \/proc\/kcore/,
    );
  });

  const isReadable = (() => {
    try {
      return readFileSync("/proc/self/stack", "utf8").includes("[<0>]") && !existsSync("/proc/kcore");
    } catch {
      return false;
    }
  })();

  test.skipIf(!isReadable)("`task stack` prints the file's frames if there is no /proc/kcore", async () => {
    const child = Bun.spawn(["sleep", "60"]);
    try {
      const stack = (): string => readFileSync(`/proc/${child.pid}/stack`, "utf8");
      while (!stack().includes("nanosleep")) await Bun.sleep(10);
      const { status, out, err } = ktstr(["task", "stack", "pid", `${child.pid}`]);
      expect([status, err]).toEqual([0, ""]);
      const frames = stack().trim().split("\n");
      expect(out.trim().split("\n").slice(1)).toEqual(frames.map((line) => line.replace("[<0>] ", "  ")));
      expect(frames.length).toBeGreaterThan(3);
    } finally {
      child.kill();
    }
  });
});
