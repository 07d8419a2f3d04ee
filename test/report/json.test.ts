import { describe, expect, test } from "bun:test";
import { type Json, JsonText, stringify } from "../../src/report/json.ts";

/** Every kind of value that JSON can represent, and kinds that it cannot. */
const plain: { readonly [key: string]: Json } = {
  text: 'quote " backslash \\ newline \n nul \0 \u{1f600} lone \ud800',
  "obeyed \u202e": "\u007f\u0085\u200e\u2028\u2066\ufeff",
  toJSON: "a name like any other",
  empty: ["", {}, [], [undefined]],
  left_out: undefined,
  finite: [0, -0, 1e21, 5e-324, -1.5],
  numbers: [0, -0, 1e21, 5e-324, 2 ** 53 - 1, Number.NaN, Number.POSITIVE_INFINITY],
  words: [true, false, null],
  "1": { nested: [[1], [2, [3, { deep: undefined }]]] },
};

describe("an object with a large integer is printed in the same layout as one without", () => {
  for (const indent of ["", "  ", "\t"])
    test(`with indent ${JSON.stringify(indent)}`, () => {
      const exact = stringify({ ...plain, last: 2n ** 64n - 1n }, indent);
      expect(exact).toBe(
        stringify({ ...plain, last: "-" }, indent).replace(/"-"(?=\s*\}$)/, `${2n ** 64n - 1n}`),
      );
      expect(exact).not.toMatch(/[\u007f-\u009f\u200e\u2028\u202e\u2066\ufeff]/);
    });
});

test("text that is already JSON is printed unchanged at any depth", () => {
  expect(stringify({ a: [new JsonText("1.50")], b: 1 })).toBe('{"a":[1.50],"b":1}');
});

test("values that JSON cannot represent are null", () => {
  for (const value of [undefined, null, Number.NaN]) expect(stringify(value)).toBe("null");
});
