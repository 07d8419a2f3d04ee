/** Expressions of `--filter`: results, and errors with the column. */
import { describe, expect, test } from "bun:test";
import { UsageError } from "../../src/errors.ts";
import { compileFilter } from "../../src/report/filter.ts";
import { FilterError, parseFilter } from "../../src/report/filter-parse.ts";
import { elementsInfo, elementTypes, u32Bytes, type Value, valueBytes } from "./support/elements.ts";

const types = elementTypes();

function holds(source: string, value: Value, key = 1): boolean {
  const predicate = compileFilter(source, parseFilter(source), { map: elementsInfo(), types });
  return predicate({ keyBytes: u32Bytes(key), keyOffset: 0, valueBytes: valueBytes(value) }, 0);
}

function filterError(source: string, typed = true): FilterError {
  try {
    compileFilter(source, parseFilter(source), { map: elementsInfo(), types: typed ? types : undefined });
  } catch (error) {
    if (error instanceof FilterError) return error;
    throw error;
  }
  throw new Error(`${source} was not refused`);
}

const VALUE: Value = {
  runs: 2n ** 63n + 1n,
  delta: -5,
  flags: 6,
  on: true,
  mood: -3,
  comm: "bash",
  tags: [3, 200],
};

describe("an expression matches", () => {
  test.each(
    [
      "runs == 9223372036854775809",
      "runs == 0x8000000000000001",
      "runs > 9223372036854775808 && runs < 9223372036854775810",
      "delta == -5",
      "delta < 0",
      "-5 == delta",
      "flags == 6",
      "on",
      "on == true",
      "!(on == false)",
      "mood == CROSS",
      "CROSS == mood",
      "mood == 'CROSS'",
      "'CROSS' == mood",
      "comm[0] == 'b'",
      "'b' == comm[0]",
      "mood != CALM",
      "mood == -3",
      'comm == "bash"',
      "comm == '\\x62ash'",
      'comm < "bast"',
      "comm",
      "in[1].tag == 200 && in[0].tag>2",
      "in[ 1 ].tag >= 200",
      "value.delta == -5",
      "value.in[0].tag == 3",
      "key == 1",
      "key == 2 || key == 1",
      "key == 2 && on || key == 1",
      "!(key == 2 && (on || delta))",
      "!!on",
      "delta < in[0].tag",
      "1 < 2",
    ].slice(0, -1),
  )("%s", (source) => {
    expect(holds(source, VALUE)).toBe(true);
    expect(holds(`!(${source})`, VALUE)).toBe(false);
  });
});

describe("the error of an expression has the column", () => {
  test.each([
    ["", "at its end: expected a member, a number or text", ""],
    ["delta = 3", 'at column 7 ("= 3")', "equality is =="],
    ["delta & 3", "at column 7", "and is &&, or is ||"],
    ["delta == ", "at its end", ""],
    ["(delta", "the ( at column 1 is not closed", ""],
    ["delta)", "at column 6", ""],
    ["delta == 'x", "at column 10", "the quote is not closed"],
    ["comm == '\\q'", "at column 10", ""],
    ["delta == 3x", "at column 10", ""],
    ["delta 3", "expected the end of the expression", ""],
    ["delta == 3 == 4", "expected the end of the expression", ""],
    ["(delta) == 3", "expected the end of the expression", ""],
    ["detla == 3", 'at column 1 ("detla == 3"): there is no member "detla"', "did you mean delta"],
    [
      "on && in[0].tga",
      'at column 13 ("tga"): there is no member "tga" in struct inner',
      "did you mean tag?",
    ],
    ["value.detla", "at column 7", "did you mean delta"],
    ["in[2].tag", "in has 2 elements: there is no [2]", ""],
    ["delta.x", "delta is an integer: it has no members", ""],
    ["delta[0]", "delta is an integer, not an array", ""],
    ["in", "it is an array, which cannot be compared", "append [0]"],
    ["in[0]", "it is a struct, which cannot be compared", "compare a member: tag"],
    ["comm == 3", "text can only be compared with text", ""],
    ["delta == 'x'", "text can only be compared with text", ""],
    ["mood == CRSS", "neither a member nor an enumerator", "did you mean CROSS?"],
    ["mood == 'CRSS'", "neither a member nor an enumerator", "did you mean CROSS?"],
    ["delta == CROSS", 'there is no member "CROSS"', ""],
    ["key.x", "is an integer: it has no members", ""],
  ])("%s", (source, message, hint) => {
    const error = filterError(source);
    expect(error).toBeInstanceOf(UsageError);
    expect(error.message).toContain(message);
    expect(error.hint).toContain(hint);
  });

  test("a map without types has only key and value, as integers", () => {
    expect(filterError("pid == 3", false).message).toContain("the map has no types");
    expect(filterError("value == 3", false).message).toContain("its 32 bytes are not an integer");
    expect(() =>
      compileFilter("key == 3", parseFilter("key == 3"), { map: elementsInfo(), types: undefined }),
    ).not.toThrow();
  });
});

describe("a hostile expression", () => {
  test("that nests deeply, or is long, is an error", () => {
    expect(() => parseFilter(`${"(".repeat(65)}on${")".repeat(65)}`)).toThrow("nest deeper than 64");
    expect(() => parseFilter("!".repeat(100))).toThrow("nest deeper than 64");
    expect(() => parseFilter(`${"on || ".repeat(1000)}on`)).toThrow("at most 4096 characters");
    expect(holds(`${"on && ".repeat(600)}on`, VALUE)).toBe(true);
  });

  test("of random tokens gives a predicate or a FilterError", () => {
    const tokens = [
      "(",
      ")",
      "!",
      "&&",
      "||",
      "==",
      "<",
      "on",
      "delta",
      "in[0].tag",
      "'x'",
      '"',
      "3",
      "-",
      "0x",
      ".",
      "[",
      "\\",
      "key",
    ];
    let seed = 42;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return (seed >>> 8) % below;
    };
    let sound = 0;
    for (let round = 0; round < 20_000; round++) {
      const source = Array.from({ length: 1 + random(8) }, () => tokens[random(tokens.length)]).join(" ");
      try {
        compileFilter(source, parseFilter(source), { map: elementsInfo(), types });
        sound++;
      } catch (error) {
        if (!(error instanceof FilterError)) throw new Error(`${source}: ${String(error)}`);
      }
    }
    expect(sound).toBeGreaterThan(500);
  });
});
