/** The JSON parser with exact integers. */
import { describe, expect, test } from "bun:test";
import { FormatError } from "../../src/errors.ts";
import { type Json, stringify } from "../../src/report/json.ts";
import { parseJson } from "../../src/report/parse-json.ts";

describe("integers are exact", () => {
  test.each([
    ["0", 0],
    ["-7", -7],
    ["9007199254740991", 9007199254740991],
    ["9007199254740992", 9007199254740992n],
    ["9007199254740993", 9007199254740993n],
    ["18446744073709551615", 18446744073709551615n],
    ["-9223372036854775808", -9223372036854775808n],
    ["340282366920938463463374607431768211455", 2n ** 128n - 1n],
    ["1.5", 1.5],
    ["1e3", 1000],
    ["1E-2", 0.01],
  ])("%s", (text, value) => expect(parseJson(text, "x")).toBe(value));
});

const whole = {
  text: 'quote " backslash \\ newline \n nul \0 \u{1f600} \u202e',
  empty: ["", {}, []],
  words: [true, false, null],
  numbers: [2 ** 53 - 1, 2n ** 64n - 1n, -(2n ** 63n), 0.25],
  nested: { "a b": [[1], [2, [3]]], "0": "an index for a key" },
} as const;

for (const indent of ["", "  "])
  test(`JSON with indent ${JSON.stringify(indent)} is read back unchanged`, () => {
    expect(stringify(parseJson(stringify(whole as Json, indent), "x"))).toBe(stringify(whole as Json));
  });

test("text without large integers is parsed as by JSON.parse", () => {
  const text = JSON.stringify({ a: [1, "x\u0001\ud800", { b: null }], c: -0.5, d: '\\\\"' });
  expect(JSON.stringify(parseJson(text, "x"))).toBe(text);
});

test("no key is special, and the last of two equal keys is used", () => {
  const read = parseJson('{"__proto__":{"x":1},"constructor":2,"a":1,"a":3}', "x") as Record<string, unknown>;
  expect(Object.keys(read)).toEqual(["__proto__", "constructor", "a"]);
  expect([read["a"], read["x"]]).toEqual([3, undefined]);
});

describe("invalid JSON is a FormatError with its offset", () => {
  test.each([
    ["", 0],
    ["{", 1],
    ['{"a"}', 4],
    ['{"a":1,}', 7],
    ["{a:1}", 1],
    ["[1 2]", 3],
    ["[1,]", 3],
    ['"abc', 0],
    ['"a\nb"', 0],
    ['"\\x"', 4],
    ["01", 1],
    ["+1", 0],
    ["nul", 0],
    ["1 2", 2],
    ["[".repeat(100_000), 501],
    [`${"[".repeat(600)}${"]".repeat(600)}`, 501],
    ['"\\', 0],
  ])("%#", (text, offset) => {
    let thrown: unknown;
    try {
      parseJson(text, "report.json");
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(FormatError);
    expect(thrown).toMatchObject({ offset });
    expect(String(thrown)).toContain("report.json: ");
  });
});
