/** A parsed dump is printed again as the kernel's own text, line for line. */
import { expect, test } from "bun:test";
import { cpuMask, dumpLines } from "../../src/sched-text/format.ts";
import { parseLog } from "../../src/sched-text/parse.ts";
import { FORM_OF_6_12, plain, TEXTS, trace } from "./texts.ts";

test.each([...TEXTS])("the dump of %s is printed again, line for line", (name) => {
  // tracefs prints the number of CPUs: "#P:2".
  const cpuCount = Number(/#P:(\d+)/.exec(trace(name))?.[1]);
  const lines = plain(name);
  const [dump] = parseLog(lines.join("\n")).dumps;
  expect([...dumpLines(dump!, cpuCount)]).toEqual(lines);
});

test("a dump in the form of 6.12 is printed again, line for line", () => {
  const lines = FORM_OF_6_12.slice(0, FORM_OF_6_12.findLastIndex((line) => line !== "") + 1);
  const [dump] = parseLog(lines.join("\n")).dumps;
  expect([...dumpLines(dump!, 33)]).toEqual([...lines]);
});

test("a text that is cut off anywhere gives only lines of that text", () => {
  const lines = plain("7.2-pinned");
  const known = new Set(lines);
  for (let length = 1; length <= lines.length; length++) {
    const [dump] = parseLog(lines.slice(0, length).join("\n")).dumps;
    if (dump === undefined) continue;
    const made = [...dumpLines(dump, 2)].filter((line) => !known.has(line));
    expect({ length, made }).toEqual({ length, made: [] });
  }
});

// lib/test_bitmap.c and lib/test_printf.c have no such rows. These follow bitmap_string().
test.each([
  [[0, 1], 2, "3"],
  [[0], 8, "01"],
  [[0, 31], 32, "80000001"],
  [[32], 33, "1,00000000"],
  [[0, 47], 48, "8000,00000001"],
  [[], 4, "0"],
])("CPUs %p of %p are the mask %p", (cpus, count, mask) => {
  expect(cpuMask(cpus, count)).toBe(mask);
});
