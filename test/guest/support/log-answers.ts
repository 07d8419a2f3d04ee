/** Compares the kernel's log in memory with the output of a guest's own tools just before the freeze. */
import { expect } from "bun:test";
import type { LogRecord } from "../../../src/kernel-log.ts";
import { timeText } from "../../../src/report/log.ts";

/** Returns the lines of /dev/kmsg for a record (Documentation/ABI/testing/dev-kmsg), without the fields after the flags. */
function kmsgLines(record: LogRecord): string {
  const escaped = [...record.text]
    .map((byte) =>
      byte < 0x20 || byte >= 0x7f || byte === 0x5c
        ? `\\x${byte.toString(16).padStart(2, "0")}`
        : String.fromCharCode(byte),
    )
    .join("");
  const { facility, level, seq, timeNs, subsystem, device } = record;
  const named = (key: string, value: Uint8Array): string =>
    value.length === 0 ? "" : `\n ${key}=${Buffer.from(value).toString("latin1")}`;
  const start = `${facility * 8 + level},${seq},${timeNs / 1000n}`;
  return `${start};${escaped}${named("SUBSYSTEM", subsystem)}${named("DEVICE", device)}`;
}

/** Parses the guest's `cat /dev/kmsg` into such lines, by sequence number. */
function recordsOf(kmsg: string): Map<string, string> {
  const records = kmsg.trimEnd().split(/\n(?! )/);
  return new Map(
    records.map((text) => {
      const [, start = "", seq = "", rest = ""] = /^(\d+,(\d+),\d+),[^;]*(;.*)$/s.exec(text) ?? [];
      return [seq, start + rest];
    }),
  );
}

/** Requires that every record in both is equal, and returns their number. */
export function expectSameLog(records: readonly LogRecord[], kmsg: string, dmesg: string): number {
  const theirs = recordsOf(kmsg);
  const common = records.filter(({ seq }) => theirs.has(String(seq)));
  expect(common.map(kmsgLines)).toEqual(common.map(({ seq }) => theirs.get(String(seq))!));
  // Records that were overwritten since are at the beginning only, and new ones at the end only.
  const numbers = [...theirs.keys()].map(BigInt);
  expect(BigInt(common.length)).toBe(numbers.at(-1)! - common[0]!.seq + 1n);
  const lines = common.flatMap(({ facility, level, timeNs, text }) =>
    Buffer.from(text)
      .toString("latin1")
      .split("\n")
      .map((line) => `<${facility * 8 + level}>${timeText(timeNs)} ${line}`),
  );
  const printed = dmesg.trimEnd().split("\n");
  const first = printed.indexOf(lines[0]!);
  expect(first).toBeGreaterThanOrEqual(0);
  expect(lines.slice(0, printed.length - first)).toEqual(printed.slice(first));
  return common.length;
}
