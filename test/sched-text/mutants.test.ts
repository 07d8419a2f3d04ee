/** Mutated texts give a page or the error that there is no dump, never another failure, and the output has no control characters. */
import { expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "../../src/report/json.ts";
import { Output } from "../../src/report/output.ts";
import { findingsOf } from "../../src/report/sched-findings.ts";
import { schedJson } from "../../src/report/sched-json.ts";
import { viewsOfLog } from "../../src/report/sched-log.ts";
import { writeSched } from "../../src/report/sched-page.ts";
import { parseLog } from "../../src/sched-text/parse.ts";
import { TEXTS, trace } from "./texts.ts";

const MUTANTS = 2000;
const PLAIN = { heading: (text: string) => text, dim: (text: string) => text, alarm: (text: string) => text };

/** xorshift32: gives the same mutants on every machine. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const SPLICES = [
  "\u001b[31m",
  "\u0000",
  "[",
  "]ms",
  "=",
  "/",
  "0x",
  "-",
  "99999999999999999999999",
  "\n",
  "\r",
  "\u202e",
  "CPU 1 : nr_run=",
  "~~~~ TRUNCATED ~~~~",
];

function mutant(text: string, random: (below: number) => number): string {
  let result = text;
  for (let count = 1 + random(6); count > 0; count--) {
    const at = random(result.length);
    const end = at + random(40);
    const kind = random(5);
    const lines = result.split("\n");
    if (kind === 0) result = result.slice(0, at) + result.slice(end);
    else if (kind === 1) result = result.slice(0, at) + SPLICES[random(SPLICES.length)] + result.slice(at);
    else if (kind === 2)
      result = result.slice(0, at) + String.fromCharCode(random(0x300)) + result.slice(at + 1);
    else if (kind === 3)
      result = lines.toSpliced(random(lines.length), 0, lines[random(lines.length)] ?? "").join("\n");
    else result = result.slice(0, 1 + at);
  }
  return result;
}

test(`${MUTANTS} mutated texts give pages without control characters`, () => {
  const random = randomFrom(17);
  const dir = mkdtempSync(join(tmpdir(), "ktstr-mutants-"));
  const file = openSync(join(dir, "pages"), "w+");
  const out = new Output(file);
  let pages = 0;
  try {
    for (let index = 0; index < MUTANTS; index++) {
      const text = mutant(trace(TEXTS[index % TEXTS.length] ?? TEXTS[0]), random);
      for (const view of viewsOfLog(parseLog(text), "a log")) {
        const findings = findingsOf(view);
        writeSched(out, view, findings, 32, PLAIN);
        const json: unknown = JSON.parse(stringify(schedJson(view, findings)));
        expect(json).toHaveProperty("tasks");
        pages++;
      }
    }
    out.flush();
    expect(readFileSync(join(dir, "pages"), "utf8")).not.toMatch(HOSTILE);
  } finally {
    closeSync(file);
    rmSync(dir, { recursive: true });
  }
  // Most mutants keep enough of a dump to be shown.
  expect(pages).toBeGreaterThan(MUTANTS / 2);
});

/** Control characters except the end of a line. */
const HOSTILE = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/;

test("the time for a megabyte in one line, and for a mask of any length, is linear", () => {
  for (const text of [
    "x".repeat(1 << 20),
    " ".repeat(1 << 20),
    `      cpus=${"f,".repeat(1 << 19)}f`,
    "[1] ".repeat(1 << 18),
    "-1 ".repeat(1 << 18),
  ]) {
    expect(() => parseLog(`${text}\n  R a[1] -5ms\n${text}`)).not.toThrow();
  }
});
