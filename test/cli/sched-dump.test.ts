/** `ktstr sched dump` as a command. test/sched-dump/ compares its lines with the kernel's. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { stringify } from "../../src/report/json.ts";
import { schedDumpsJson } from "../../src/report/sched-dump-json.ts";
import { parseLog } from "../../src/sched-text/parse.ts";
import { ktstr } from "../live/bpftool.ts";
import { schedDumpProblems } from "../report/schema.ts";
import { TEXTS, trace } from "../sched-text/texts.ts";

test("more words are wrong usage", () => {
  const { status, out, err } = ktstr(["sched", "dump", "all"]);
  expect([status, out]).toEqual([2, ""]);
  expect(err).toContain("unexpected arguments: all");
});

test.skipIf(existsSync("/proc/kcore"))("without /proc/kcore the error names it and --memory", () => {
  const { status, err } = ktstr(["sched", "dump"]);
  expect(status).toBe(1);
  expect(err).toContain("/proc/kcore");
  expect(err).toContain("--memory");
});

// The JSON is made from texts that kernels printed, because a running kernel needs /proc/kcore.
test.each([...TEXTS])("the JSON of %s follows its schema", (name) => {
  const { dumps } = parseLog(trace(name));
  const requested = dumps.filter(({ trigger }) => trigger.kind === "debug");
  if (name !== "7.2-lost-comm-ejected") expect(requested).toHaveLength(1);
  const json = schedDumpsJson({ dumps: requested, cpuCount: 2, callbacks: ["dump_cpu"], missing: ["a"] });
  expect(schedDumpProblems(JSON.parse(stringify(json)))).toEqual(
    requested.length === 0 ? ["/dumps: must NOT have fewer than 1 items"] : [],
  );
});
