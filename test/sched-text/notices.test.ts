/** The kernel's messages about schedulers, as records of its log. */
import { expect, test } from "bun:test";
import { exitKindOf } from "../../src/sched-text/exit-kinds.ts";
import { readNotices } from "../../src/sched-text/notices.ts";

const lines = (...texts: string[]) => texts.map((text) => ({ text }));

test("an ejected scheduler: reason, message and back trace, without the lines after it", () => {
  const [enabled, disabled, ...more] = readNotices(
    lines(
      'sched_ext: BPF scheduler "stall" enabled',
      "usb 1-1: new device",
      'sched_ext: BPF scheduler "stall" disabled (runnable task stall)',
      "sched_ext: stall: victim-1[134] failed to run for 6.332s",
      "   __scx_exit+0x4f/0x70",
      "   dummy_xmit+0x4/0x60 [dummy]",
      "sysrq: Trigger sched_ext debug dump",
      "   not_of_it+0x1/0x2",
    ),
  );
  expect(more).toEqual([]);
  expect(enabled).toMatchObject({ isEnabled: true, isSub: false, opsName: "stall", reason: "" });
  expect(disabled).toMatchObject({
    isEnabled: false,
    opsName: "stall",
    reason: "runnable task stall",
    message: "victim-1[134] failed to run for 6.332s",
    backtrace: ["__scx_exit+0x4f/0x70", "dummy_xmit+0x4/0x60 [dummy]"],
  });
  expect(exitKindOf(disabled!.reason)).toBe(1026);
});

test("a sub-scheduler differs from a root scheduler, and messages about another scheduler are ignored", () => {
  const found = readNotices(
    lines(
      'sched_ext: BPF sub-scheduler "a" disabled (parent exiting)',
      "sched_ext: b: not of a",
      'sched_ext: BPF scheduler "x" enabled (partial)',
    ),
  );
  expect(found).toMatchObject([
    { isSub: true, opsName: "a", reason: "parent exiting", message: "" },
    { isSub: false, opsName: "x", isEnabled: true },
  ]);
});
