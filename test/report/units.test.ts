/** Times as text. */
import { expect, test } from "bun:test";
import { timeText } from "../../src/report/units.ts";

test.each([
  [0, "0 ns"],
  [999.5, "999.5 ns"],
  [1_234_567, "1.235 ms"],
  [1e9, "1 s"],
  [9_999_700_000_000, "10000 s"],
  [123_456_700_000_000, "123457 s"],
  [1.2e21, "1200000000000 s"],
])("%d ns is %s, without an exponent", (ns, text) => {
  expect(timeText(ns)).toBe(text);
});
