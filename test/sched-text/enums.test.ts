/**
 * Names of numbers in a text. `enums.json` has the enums of each release's kernel, as bpftool prints them (`btf dump ...
 * format c`), of Debian's 6.16.12, 6.17.13, 6.18.15, 6.19.14, 7.0.13, 7.1.13, 7.2.12 and 7.3.4.
 */
import { describe, expect, test } from "bun:test";
import { stringify } from "../../src/report/json.ts";
import { schedJson } from "../../src/report/sched-json.ts";
import { viewsOfLog } from "../../src/report/sched-log.ts";
import { enumsOfDump } from "../../src/sched-text/enums.ts";
import { parseLog } from "../../src/sched-text/parse.ts";
import { flagNames, nameIn, type ScxEnums } from "../../src/scx-enums.ts";
import kernels from "./enums.json";
import { FORM_OF_6_12, TEXTS, trace } from "./texts.ts";

type Enumerators = Readonly<Record<string, number>>;

/** Lines of a text that identify a release's form. */
function formOf(release: string): ScxEnums {
  const [major, minor] = release.split(".").map(Number);
  const at = major! * 100 + minor!;
  const lines = [
    "CPU 0   : nr_run=1 flags=0x1 cpu_rel=0 ksync=1",
    ...(at >= 703 ? ["          rescue=0 budget=0us rescuing=none[-1]"] : []),
    "          curr=sh[1] class=ext_sched_class",
    ` *R sh[1]${at >= 701 ? " *root" : ""} -4ms`,
  ];
  return enumsOfDump(
    parseLog(["Debug dump triggered by SysRq-D", "CPU states", ...lines].join("\n")).dumps[0]!,
  );
}

const FIELD = /_(SHIFT|BITS|MASK|NONE)$/;

describe.each(Object.entries(kernels) as [string, Record<string, Enumerators>][])("of %s", (release, all) => {
  const enums = formOf(release);
  const flags = all["scx_ent_flags"]!;
  const stateNames = Object.keys(all["scx_task_state"] ?? flags).filter((name) =>
    /^SCX_TASK_(NONE|INIT_BEGIN|INIT|READY|ENABLED|DEAD)$/.test(name),
  );

  test("states have the kernel's names", () => {
    const shift = all["scx_task_state"] === undefined ? flags["SCX_TASK_STATE_SHIFT"]! : 0;
    expect(stateNames.length).toBeGreaterThanOrEqual(4);
    for (const name of stateNames) {
      const value = (all["scx_task_state"] ?? flags)[name]! >> shift;
      expect(`SCX_TASK_${nameIn(enums.taskStates, value)}`).toBe(name);
    }
    for (const [name, value] of Object.entries(all["scx_ops_state"]!))
      if (!FIELD.test(name)) expect(`SCX_OPSS_${nameIn(enums.opsStates, value)}`).toBe(name);
  });

  test.each([
    ["scx_ent_flags", "SCX_TASK_", "taskFlags"],
    ["scx_ent_dsq_flags", "SCX_TASK_DSQ_", "dsqFlags"],
    ["scx_rq_flags", "SCX_RQ_", "rqFlags"],
  ] as const)("%s", (type, prefix, member) => {
    const rows = Object.entries(all[type]!).filter(
      ([name]) => !FIELD.test(name) && !(member === "taskFlags" && stateNames.includes(name)),
    );
    expect(rows).not.toEqual([]);
    for (const [name, value] of rows)
      expect(flagNames(enums[member], value).map((each) => `${prefix}${each}`)).toEqual([name]);
  });
});

test("a number without a name stays a number", () => {
  const enums = formOf("7.0");
  expect(flagNames(enums.taskFlags, 0x13)).toEqual(["QUEUED", "0x12"]);
  expect(nameIn(enums.taskStates, 4)).toBeUndefined();
  expect(flagNames(formOf("7.3").rqFlags, 0x201)).toEqual(["ONLINE", "0x200"]);
});

test("in a dump in the form of 6.12, the task state 3 is ENABLED", () => {
  const [view] = viewsOfLog(parseLog(FORM_OF_6_12.join("\n")), "a log");
  const { tasks } = JSON.parse(stringify(schedJson(view!, []))) as { tasks: unknown[] };
  expect(tasks[0]).toMatchObject({
    scx_state_name: "ENABLED",
    flag_names: ["QUEUED", "DEQD_FOR_SLEEP"],
    ops_state_name: "QUEUED",
  });
});

test.each([...TEXTS])("every number of %s has a name", (name) => {
  for (const view of viewsOfLog(parseLog(trace(name)), name)) {
    const { cpus, tasks } = JSON.parse(stringify(schedJson(view, []))) as {
      cpus: { flag_names: string[] }[];
      tasks: {
        scx_state_name: string;
        flag_names: string[];
        dsq_flag_names: string[];
        ops_state_name: string;
      }[];
    };
    expect(tasks.length).toBeGreaterThan(0);
    for (const task of tasks) {
      expect(task.scx_state_name).toBe("ENABLED");
      expect([...task.flag_names, ...task.dsq_flag_names, task.ops_state_name].join(" ")).not.toMatch(
        /0x|undefined/,
      );
    }
    for (const cpu of cpus) expect(cpu.flag_names.join(" ")).toMatch(/^[A-Z_ ]*$/);
  }
});
