/** Dumps that kernels printed, in the formats of various logs. */
import { describe, expect, test } from "bun:test";
import { type ParsedLog, parseLog } from "../../src/sched-text/parse.ts";
import { FORM_OF_6_12, plain, TEXTS, trace } from "./texts.ts";

/** Returns the dumps of a log without their line numbers. */
const dumpsOf = (log: ParsedLog) => log.dumps.map(({ firstLine: _, lastLine: __, ...dump }) => dump);
const parsed = (lines: readonly string[]): ParsedLog => parseLog(`${lines.join("\n")}\n`);
const counted = (lines: readonly string[], pattern: RegExp): number =>
  lines.filter((line) => pattern.test(line)).length;

describe.each([...TEXTS])("the dump of %s", (name) => {
  const lines = plain(name);
  const log = parsed(lines);
  const [dump] = log.dumps;

  test("is read completely: every line is recognized", () => {
    expect(log.dumps).toHaveLength(1);
    expect(log).toMatchObject({ isReversed: false, unknownCount: 0, outsideCount: 0 });
    expect(dump?.incomplete).toBe("");
    const tasks = dump?.cpus.flatMap((cpu) => cpu.tasks) ?? [];
    expect(dump?.cpus).toHaveLength(counted(lines, /^CPU \d/));
    expect(tasks).toHaveLength(counted(lines, /scx_state\/flags=/));
    expect(dump?.events).toHaveLength(counted(lines, /SCX_EV_/));
    const frames = tasks.flatMap(({ stack }) => stack).length + (dump?.trigger.backtrace.length ?? 0);
    expect(frames).toBe(counted(lines, /\+0x[0-9a-f]+\/0x/));
    for (const task of tasks) {
      expect(lines.join("\n")).toContain(`${task.comm}[${task.pid}]`);
      expect(task.cpus).not.toBeUndefined();
      expect(task.dsqId).not.toBeUndefined();
      expect(task.sliceNs).not.toBeUndefined();
    }
  });

  test("is the same from the whole trace file", () => {
    expect(dumpsOf(parseLog(trace(name)))).toEqual(dumpsOf(log));
  });

  test.each([
    ["journalctl", (line: string) => `Nov 26 12:00:00 host scx_simple[123]: ${line}`],
    ["journalctl -o short-iso", (line: string) => `2026-11-26T12:00:00+00:00 host scx_simple[123]: ${line}`],
    ["journalctl -o short-full", (line: string) => `Thu 2026-11-26 12:00:00 UTC host kernel: ${line}`],
    ["journalctl -o short-monotonic", (line: string) => `[   12.345678] host scx_simple[123]: ${line}`],
    ["the console", (line: string) => `[   12.345678] ${line}`],
    ["the console with its callers", (line: string) => `[   12.345678][  T123] ${line}`],
    ["dmesg -r", (line: string) => `<6>[   12.345678] ${line}`],
    ["dmesg -T", (line: string) => `[Thu Nov 26 12:00:00 2026] ${line}`],
    ["dmesg -x", (line: string) => `kern  :info  : [   12.345678] ${line}`],
    ["/dev/kmsg", (line: string) => `6,1234,12345678,-;${line}`],
    ["docker compose", (line: string) => `guest-1  | ${line}`],
    ["a CI log", (line: string) => `2026-11-26T12:00:00.1234567Z ${line}`],
    ["a quote in a bug report", (line: string) => `> ${line}`],
    [
      "trace-cmd",
      (line: string) => `              sh-2145  [000]    40.140226: sched_ext_dump:       ${line}`,
    ],
    ["Windows' line ends", (line: string) => `${line}\r`],
  ])("is the same after the prefixes of %s", (_, wrap) => {
    expect(dumpsOf(parsed(lines.map(wrap)))).toEqual(dumpsOf(log));
  });

  test("is the same with the newest line first", () => {
    const reversed = parsed([...lines].reverse());
    expect(reversed.isReversed).toBe(true);
    expect(dumpsOf(reversed)).toEqual(dumpsOf(log));
  });

  test("is the same without empty lines and without blanks at the start, as journald stores it", () => {
    const stored = lines.map((line) => line.trim()).filter((line) => line !== "");
    expect(dumpsOf(parsed(stored))).toEqual(dumpsOf(log));
  });

  test("is the same with lines of other programs in between", () => {
    const mixed = lines.flatMap((line, index) => [
      `Nov 26 12:00:00 host scx_simple[123]: ${line}`,
      `Nov 26 12:00:00 host sshd[${index}]: CPU states`,
      `Nov 26 12:00:00 host kernel: ${line}`,
    ]);
    expect(dumpsOf(parsed(mixed))).toEqual([...dumpsOf(log), ...dumpsOf(log)]);
  });

  test("is reported as cut off wherever it ends, and keeps the lines before the cut", () => {
    for (let end = 1; end < lines.length; end++) {
      const { dumps } = parsed(lines.slice(0, end));
      const tasks = dumps.flatMap(({ cpus }) => cpus.flatMap((cpu) => cpu.tasks));
      expect(tasks.length).toBe(counted(lines.slice(0, end), /^ [ *][A-Z] .*ms$/));
      if (end < lines.indexOf("CPU states"))
        expect(dumps.every(({ incomplete }) => incomplete !== "")).toBe(true);
    }
  });

  test("keeps an unknown line in its place", () => {
    const at = lines.findIndex((line) => line.includes("cpus=")) + 1;
    const { dumps, unknownCount } = parsed(lines.toSpliced(at, 0, "    a line of ops.dump_task()"));
    expect(unknownCount).toBe(1);
    const kept = dumps[0]?.cpus.flatMap((cpu) => cpu.tasks.flatMap((task) => task.unknown));
    expect(kept).toEqual(["    a line of ops.dump_task()"]);
  });
});

test("dumps of several kernels in one log are separate dumps", () => {
  const all = TEXTS.flatMap((name) => plain(name));
  expect(dumpsOf(parsed(all))).toEqual(TEXTS.flatMap((name) => dumpsOf(parsed(plain(name)))));
  expect(dumpsOf(parsed([...all].reverse()))).toEqual(TEXTS.flatMap((name) => dumpsOf(parsed(plain(name)))));
});

test("a dump in the form of 6.12 is read completely", () => {
  const { dumps, unknownCount } = parsed(FORM_OF_6_12);
  expect(unknownCount).toBe(0);
  expect(dumps[0]?.trigger).toMatchObject({
    kind: "exit",
    exitKind: 1026,
    reason: "runnable task stall",
    message: "victim-1[134] failed to run for 6.332s",
    backtrace: ["scx_watchdog_workfn+0x18e/0x240"],
  });
  expect(dumps[0]?.cpus[0]).toMatchObject({
    kicks: [{ name: "cpus_to_kick", cpus: [1, 32] }],
    sequences: [{ name: "pnt_seq", value: 13490n }],
  });
  expect(dumps[0]?.cpus[0]?.tasks[0]).toMatchObject({
    comm: "victim-1",
    waitMs: 6332,
    dsqId: null,
    vtime: 77n,
    sliceNs: undefined,
    cpus: [0, 1],
    stack: ["vfs_read+0x3e5/0x490", "ksys_read+0xcf/0x110"],
  });
});

test("a task's name may equal a keyword of the dump", () => {
  const lines = plain("7.2-lost-comm").map((line) => line.replace("victim-0[136]", "a[1] *root -9ms[136]"));
  expect(parsed(lines).dumps[0]?.cpus[0]?.tasks[1]).toMatchObject({ comm: "a[1] *root -9ms", pid: 136 });
});

test("the kernel's mark of a truncated text is reported", () => {
  const lines = [...plain("7.2-lost-comm").slice(0, 40), "", "~~~~ TRUNCATED ~~~~"];
  expect(parsed(lines).dumps[0]?.incomplete).toContain("exit_dump_len");
});

test("the frame that a scheduler's program prints around a dump is not part of it", () => {
  const lines = [
    "DEBUG DUMP",
    "=".repeat(80),
    "",
    ...plain("7.2-lost-comm-ejected"),
    "",
    "=".repeat(80),
    "",
    "EXIT: runnable task stall (victim-1[134] failed to run for 6.332s) on CPU 0",
  ];
  const log = parsed(lines);
  expect(dumpsOf(log)).toEqual(dumpsOf(parsed(plain("7.2-lost-comm-ejected"))));
  expect(log).toMatchObject({ unknownCount: 0, outsideCount: 3 });
  expect(log.notices).toHaveLength(1);
});
