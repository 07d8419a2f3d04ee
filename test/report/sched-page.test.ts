/** Untrusted names on text pages of schedulers and features. */
import { expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Features } from "../../src/features.ts";
import { featuresMacros } from "../../src/report/feature.ts";
import { Output } from "../../src/report/output.ts";
import { viewsOfLog } from "../../src/report/sched-log.ts";
import { writeSched } from "../../src/report/sched-page.ts";
import { parseLog } from "../../src/sched-text/parse.ts";
import { trace } from "../sched-text/texts.ts";

const EVIL = "\u001b[31m\u202e";

test("hostile names of an event and of a task's scheduler are escaped", () => {
  const [view] = viewsOfLog(parseLog(trace("7.2-lost-comm")), "a log");
  const page = {
    ...view!,
    events: [{ name: EVIL, count: 1n }],
    tasks: view!.tasks.map((task) => ({ ...task, scheduler: EVIL })),
  };
  const path = join(mkdtempSync(join(tmpdir(), "ktstr-page-")), "page");
  const file = openSync(path, "w");
  const out = new Output(file);
  const same = (text: string): string => text;
  writeSched(out, page, [], 32, { heading: same, dim: same, alarm: same });
  out.flush();
  closeSync(file);
  const text = readFileSync(path, "utf8");
  rmSync(dirname(path), { recursive: true });
  expect(text).toContain("  \\x1b[31m\\u{202e}  1\n");
  expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/);
});

test("a hostile value of CONFIG_HZ is escaped among the macros", () => {
  const features = { config: `CONFIG_HZ=${EVIL}\n`, hasSyscall: false } as Features;
  expect(featuresMacros(features, "", false)).toContain("#define CONFIG_HZ \\x1b[31m\\u{202e}\n");
});
