/** `ktstr dmesg`: selection of records, escapes, damaged records. */
import { describe, expect, test } from "bun:test";
import type { KernelLog, LogRecord } from "../../src/kernel-log.ts";
import { stringify } from "../../src/report/json.ts";
import { logJson, parseLevels, recordLines, selectRecords, tornSentence } from "../../src/report/log.ts";
import { ktstr } from "../live/bpftool.ts";
import { dmesgProblems } from "../report/schema.ts";

function record(level: number, seconds: number, text: string | Uint8Array = "text"): LogRecord {
  const bytes = Buffer.from(text as string);
  const timeNs = BigInt(seconds * 1e9);
  const none = new Uint8Array();
  return { seq: 0n, timeNs, level, facility: 0, caller: "T1", text: bytes, subsystem: none, device: none };
}

const log = (...records: LogRecord[]): KernelLog => ({
  records,
  torn: new Map([["not finalized", 2]]),
  overwritten: 5n,
});

describe("selection of records", () => {
  const all = log(record(3, 1), record(4, 10), record(6, 100.5));
  const levels = (query: { level?: string; since?: bigint }): number[] =>
    selectRecords(all, {
      levels: query.level === undefined ? undefined : parseLevels(query.level),
      sinceNs: query.since,
    }).map(({ level }) => level);

  test("by level: one, several, or one and all more severe ones", () => {
    expect(levels({ level: "warn" })).toEqual([4]);
    expect(levels({ level: "err,info" })).toEqual([3, 6]);
    expect(levels({ level: "warn+" })).toEqual([3, 4]);
    expect(() => parseLevels("warning")).toThrow('"warning" is not a level');
  });

  test("by time, or by time before the newest record", () => {
    expect(levels({ since: 10_000_000_000n })).toEqual([4, 6]);
    expect(levels({ since: -90_500_000_000n })).toEqual([4, 6]);
    expect(levels({ since: -1n })).toEqual([6]);
  });
});

test("control characters in text are escaped, except tabs and line ends", () => {
  const bytes = Buffer.from("a\tb\nc\u001b[2J\u202e", "utf8");
  expect(recordLines(record(4, 1.5, bytes))).toEqual([
    "warn   [    1.500000]     T1  a\tb",
    "warn   [    1.500000]     T1  c\\x1b[2J\\u{202e}",
  ]);
  const invalid = stringify(logJson(log(), [record(4, 1, Buffer.from([0xff, 0x1b]))]));
  expect(invalid).toContain(String.raw`"text":"\\xff\\x1b"`);
});

test("records without text are counted", () => {
  expect(tornSentence(log())).toBe(
    "records without text: 2 × not finalized; the first 5 records were overwritten",
  );
  expect(dmesgProblems(JSON.parse(stringify(logJson(log(), [record(0, 0)]))))).toEqual([]);
});

test.each([
  [["dmesg", "now"], "dmesg: unexpected arguments: now"],
  [["dmesg", "--level", "loud"], "evels are emerg, alert"],
  [["dmesg", "--since", "yesterday"], "not a number of seconds"],
])("%j is wrong usage", (words, said) => {
  const { status, err, out } = ktstr(words);
  expect([status, out]).toEqual([2, ""]);
  expect(err).toContain(said);
});

test("a capture has the kernel's log", () => {
  const { status, out } = ktstr(["dmesg", "--sample"]);
  expect(status).toBe(0);
  expect(out).toContain('sched_ext: BPF scheduler "stall" enabled');
});
