/** Captures with damaged tasks, stacks, unwind tables, log and scheduler: every read ends soon, with a result or a KtstrError. */
import { afterAll, describe, expect } from "bun:test";
import { mkdtempSync, openSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KtstrError } from "../../src/errors.ts";
import { captureGuest } from "../../src/guest/capture/capture.ts";
import { openGuest } from "../../src/guest/guest.ts";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { requireSymbol } from "../../src/guest/kernel/symbols.ts";
import { tasks } from "../../src/guest/kernel/tasks.ts";
import { schedViews } from "../../src/report/inspect-sched.ts";
import { stringify } from "../../src/report/json.ts";
import { Output } from "../../src/report/output.ts";
import { findingsOf } from "../../src/report/sched-findings.ts";
import { schedJson } from "../../src/report/sched-json.ts";
import { writeSched } from "../../src/report/sched-page.ts";
import { taskText } from "../../src/report/task-list.ts";
import { dumpLines } from "../../src/sched-text/format.ts";
import { type LabImage, labImages, testEachMachine } from "./images.ts";
import { Mutator, offsetsIn, type Place } from "./mutate.ts";

const folder = mkdtempSync(join(tmpdir(), "ktstr-task-fuzz-"));
afterAll(() => rmSync(folder, { recursive: true }));

const ROUNDS = Number(process.env["KTSTR_FUZZ_ROUNDS"] ?? 200);

function placesIn(path: string): Place[] {
  const offsetOf = offsetsIn(path);
  using kernel = openKernel({ memory: [{ path }] });
  const { memory, symbols } = kernel;
  const places: Place[] = [];
  const add = (name: string, hi: number, lo: number, length: number): void => {
    if (memory.locate(hi, lo, 0, 1) < 0) return;
    const offset = offsetOf(memory.physicalOf(hi, lo, name));
    if (offset >= 0) places.push({ name, offset, length });
  };
  for (const { at, pid } of tasks(kernel)) {
    add(`task ${pid}`, at.at.hi, at.at.lo, 2048);
    // `stack` is one of the first members.
    for (let word = 0; word < 8; word++) {
      const { hi, lo } = memory.pointer(at.at.hi, at.at.lo, 8 * word, "task_struct");
      add(`stack of ${pid}`, hi, lo + 16_384 - 2048, 2048);
    }
  }
  const variable = requireSymbol(symbols, "prb");
  const ring = memory.pointer(variable.hi, variable.lo, 0, "prb");
  for (let copies = 0; copies < 20; copies++) add("prb", ring.hi, ring.lo, 96);
  for (let word = 0; word < 8; word++) {
    const { hi, lo } = memory.pointer(ring.hi, ring.lo, 8 * word, "prb");
    add(`prb+${8 * word}`, hi, lo, 4096);
  }
  // Every third page of the capture, so that unwind tables and page tables are damaged, too.
  const { size } = statSync(path);
  for (let offset = 4096; offset < size; offset += 3 * 4096)
    places.push({ name: "page", offset, length: 4096 });
  return places;
}

const PLAIN = { heading: (text: string) => text, dim: (text: string) => text, alarm: (text: string) => text };
const out = new Output(openSync("/dev/null", "w"));
let longestMs = 0;

/** Runs every read, also after one that failed, and then throws the last `KtstrError`. */
function readAll(path: string, hasScheduler: boolean): void {
  using guest = openGuest({ memory: path });
  const reads: readonly (() => void)[] = [
    () => {
      const { dumps, cpuCount } = guest.schedulerDumps();
      for (const dump of dumps) expect([...dumpLines(dump, cpuCount)].length).toBeLessThanOrEqual(2 ** 16);
    },
    () => {
      for (const page of schedViews(guest, "").views) {
        const findings = findingsOf(page);
        writeSched(out, page, findings, 32, PLAIN);
        stringify(schedJson(page, findings));
      }
    },
    () => {
      for (const task of guest.tasks()) taskText(task);
    },
    () => {
      for (const { frames } of guest.stacks()) expect(frames.length).toBeLessThanOrEqual(1024);
    },
    () => expect(guest.log().records.length).toBeLessThanOrEqual(2 ** 20),
  ];
  let failed: KtstrError | undefined;
  for (const read of hasScheduler ? reads : reads.slice(2))
    try {
      read();
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
      failed = error;
    }
  if (failed !== undefined) throw failed;
}

const images = (await labImages()).filter(({ answer }) => answer("task-stack") !== undefined);

const hasDump = ({ answer }: LabImage): boolean => answer("scx-dump") !== undefined;
/** A capture without sched_ext, and one with a scheduler. */
const chosen = [images.find((image) => !hasDump(image)), images.find(hasDump)].filter(
  (image) => image !== undefined,
);

describe("reads of damaged captures end with a result or a KtstrError", () => {
  testEachMachine(
    chosen,
    `%s, ${ROUNDS} rounds`,
    (image) => {
      const { name } = image;
      const path = join(folder, `${name}-fuzz.vmcore`);
      using made = captureGuest({ memory: [{ path: image.memory }] }, (state) => {
        state.log();
        for (const _ of state.stacks());
        if (hasDump(image)) state.schedulerDumps();
        if (hasDump(image)) schedViews(state, "");
        for (const _ of state.tasks());
      });
      writeFileSync(path, Buffer.concat([...made.pieces()]));
      using mutator = new Mutator(path, placesIn(path), 20_261_126);
      const outcomes = mutator.rounds(ROUNDS, () => {
        const start = performance.now();
        try {
          readAll(path, hasDump(image));
        } finally {
          longestMs = Math.max(longestMs, performance.now() - start);
        }
        return "result";
      });
      console.log(name, outcomes, `longest ${longestMs} ms`);
      expect(outcomes.get("result")).toBeGreaterThan(0);
      readAll(path, hasDump(image));
    },
    900_000,
  );
});
