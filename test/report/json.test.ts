/** The JSON printer. */
import { describe, expect, test } from "bun:test";
import { type Json, JsonList, JsonText, stringify, writeJson } from "../../src/report/json.ts";

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

describe("a long list is made while it is printed", () => {
  const document = (list: (items: readonly Json[]) => Json): Json => ({
    head: plain,
    cpus: [{ tasks: list([{ id: 2n ** 64n - 1n, cpus: [0, 1] }, [], "text"]), empty: list([]) }],
  });
  const lazy = document((items) => new JsonList(() => items));

  test.each(["", "  ", "\t"])(
    "with indent %j, the text is that of an array, whole or in pieces",
    (indent) => {
      const pieces: string[] = [];
      writeJson({ text: (piece) => pieces.push(piece) }, lazy, indent);
      const text = stringify(
        document((items) => items),
        indent,
      );
      expect(pieces.join("")).toBe(text);
      expect(stringify(lazy, indent)).toBe(text);
    },
  );

  test("an item is made after the previous one was printed", () => {
    const printed: string[] = [];
    let made = 0;
    function* items(): Generator<Json> {
      for (; made < 1000; made++) {
        expect(printed.filter((piece) => piece === '"item"')).toHaveLength(made);
        yield { item: BigInt(made) };
      }
    }
    writeJson({ text: (piece) => printed.push(piece) }, { list: new JsonList(items) });
    expect(made).toBe(1000);
  });
});

test("values that JSON cannot represent are null", () => {
  for (const value of [undefined, null, Number.NaN]) expect(stringify(value)).toBe("null");
});
