/** `sched --lines` prints the source lines of frames. */
import { expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { stringify } from "../../src/report/json.ts";
import { Output } from "../../src/report/output.ts";
import { SCHED_SCHEMA_VERSION, schedJson } from "../../src/report/sched-json.ts";
import { viewsOfLog } from "../../src/report/sched-log.ts";
import { writeSched } from "../../src/report/sched-page.ts";
import { framesOf } from "../../src/report/sched-view.ts";
import { parseLog } from "../../src/sched-text/parse.ts";
import { schedProblems } from "../report/schema.ts";
import { trace } from "./texts.ts";

const PLAIN = { heading: (text: string) => text, dim: (text: string) => text, alarm: (text: string) => text };

test("with --lines, each frame is followed by its source line, and JSON has the line in the frame", () => {
  const [view] = viewsOfLog(parseLog(trace("7.2-lost-comm-ejected")), "a log");
  const frames = framesOf(view!);
  expect(frames.length).toBeGreaterThan(3);
  const lines = new Map([[frames.at(-1)!, { text: "return;", file: "a.bpf.c", line: 7, column: 2 }]]);
  const page = { ...view!, frameLines: lines };
  const path = join(mkdtempSync(join(tmpdir(), "ktstr-page-")), "page");
  const file = openSync(path, "w");
  const out = new Output(file);
  writeSched(out, page, [], 32, PLAIN);
  out.flush();
  closeSync(file);
  expect(readFileSync(path, "utf8")).toContain(`${frames.at(-1)}\n               a.bpf.c:7: return;\n`);
  rmSync(dirname(path), { recursive: true });
  expect(schedJson(page, [])).toMatchObject({
    frame_lines: { [frames.at(-1)!]: { file: "a.bpf.c", line_num: 7 } },
  });
  expect(
    schedProblems(
      JSON.parse(
        stringify({
          schema: "ktstr-sched",
          schema_version: SCHED_SCHEMA_VERSION,
          schedulers: [schedJson(page, [])],
        }),
      ),
    ),
  ).toEqual([]);
});
