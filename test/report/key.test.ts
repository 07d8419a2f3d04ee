/** Parsing of `--key`. */
import { describe, expect, test } from "bun:test";
import { Btf } from "../../src/btf/btf.ts";
import { encodeValue } from "../../src/btf/encode.ts";
import { plainValue } from "../../src/btf/value.ts";
import { UsageError } from "../../src/errors.ts";
import { keyFromText, keyFromWords } from "../../src/report/key.ts";
import type { MapTypes } from "../../src/report/typed.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { BtfWriter } from "../btf/support/encode.ts";
import { elementsInfo, elementTypes, valueBytes } from "./support/elements.ts";

const { value } = elementTypes();
/** Types of a map whose key is the element's struct. */
const structKey: MapTypes = { key: value, value };
const structMap = elementsInfo({ keySize: 32 });
const bare = (text: string, keySize: number): string =>
  Buffer.from(keyFromText(text, elementsInfo({ keySize }), undefined)).toString("hex");

function typedInt(size: number, encoding: number): MapTypes {
  const writer = new BtfWriter();
  const id = writer.int("n", size, encoding);
  const btf = Btf.parse(writer.bytes());
  return { key: { btf, id }, value: { btf, id } };
}

describe("a key as one number", () => {
  test.each([
    ["42", 4, "2a000000"],
    ["-1", 4, "ffffffff"],
    ["-1", 3, "ffffff"],
    ["0x1122334455667788", 8, "8877665544332211"],
    ["18446744073709551615", 8, "ffffffffffffffff"],
    ["9007199254740993", 16, "01000000000020000000000000000000"],
    ["5", 1, "05"],
  ])("%s is little-endian in %i bytes", (text, size, hex) => {
    expect(bare(text, size)).toBe(hex);
  });

  test("must fit the width", () => {
    for (const [text, size] of [
      ["256", 1],
      ["-129", 1],
      ["0x100000000", 4],
      ["1.5", 4],
      ["eth0", 4],
      ["", 4],
    ] as const)
      expect(() => bare(text, size)).toThrow(UsageError);
    const types = typedInt(4, 1);
    expect(() => keyFromText("2147483648", elementsInfo(), types)).toThrow(
      "is not in -2147483648..2147483647",
    );
    expect(Buffer.from(keyFromText("-2147483648", elementsInfo(), types)).toString("hex")).toBe("00000080");
    expect(() => keyFromText("-1", elementsInfo(), typedInt(4, 0))).toThrow("is not in 0..4294967295");
    expect(() => keyFromText("1", elementsInfo({ keySize: 0 }), undefined)).toThrow("has no keys");
  });
});

describe("a key as bytes", () => {
  test("is bpftool's DATA: base 16 after hex, else decimal, octal or 0x", () => {
    expect(bare("hex 01 ff 0xA0 0", 4)).toBe("01ffa000");
    expect(bare("0x01 0x02 010 10", 4)).toBe("0102080a");
    expect([...keyFromWords(["hex", "a", "0b"], elementsInfo({ keySize: 2 }))]).toEqual([10, 11]);
    expect(() => keyFromWords(["1", "2"], elementsInfo())).toThrow("map 7 expects 4 bytes, got 2");
    expect(() => keyFromWords(["256", "0", "0", "0"], elementsInfo())).toThrow('"256" is not a byte');
    expect(() => keyFromWords(["hex", "zz"], elementsInfo())).toThrow('"zz" is not a byte');
  });
});

describe("a typed key as JSON", () => {
  const bytesOf = (text: string): Uint8Array => keyFromText(text, structMap, structKey);

  test("has members; missing members are zero", () => {
    const text =
      '{"runs": 18446744073709551615, "delta": -5, "flags": 6, "on": true, "mood": "CROSS", "comm": "bash", "in": [{"tag": 1}, {"tag": 255}]}';
    const wanted = {
      runs: 2n ** 64n - 1n,
      delta: -5,
      flags: 6,
      on: true,
      mood: -3,
      comm: "bash",
      tags: [1, 255],
    } as const;
    expect(bytesOf(text)).toEqual(valueBytes(wanted));
    expect(bytesOf('{"delta": "0x7fffffff", "mood": -3}')).toEqual(
      valueBytes({ delta: 2 ** 31 - 1, mood: -3 }),
    );
    expect(bytesOf("{}")).toEqual(new Uint8Array(32));
  });

  test.each([
    ['{"runs": -1}', "runs: -1 is not in 0..18446744073709551615"],
    ['{"flags": 8}', "flags: 8 is not in 0..7"],
    ['{"mood": "CRSS"}', 'mood: there is no enumerator "CRSS"'],
    ['{"comm": "too long for it"}', "15 bytes of text do not fit in 8"],
    ['{"in": [1, 2, 3]}', "in: 3 elements do not fit in 2"],
    ['{"in": [1]}', 'in[0] is a struct: "1" does not fit'],
    ['{"in": [{"tga": 1}]}', 'in[0].tga: there is no member "tga"'],
    ['{"dleta": 1}', 'dleta: there is no member "dleta"'],
    ['{"delta": 1.5}', "delta is an integer"],
    ['{"delta": null}', "delta is an integer: null does not fit"],
    ["[1]", "the value is a struct: a list does not fit"],
    ['{"delta": ', "not valid JSON"],
    ["5", 'the value is a struct: "5" does not fit'],
  ])("%s is refused", (text, message) => {
    expect(() => bytesOf(text)).toThrow(UsageError);
    expect(() => bytesOf(text)).toThrow(message);
  });

  test("is the inverse of plain data", () => {
    const bytes = valueBytes({
      runs: 2n ** 63n + 5n,
      delta: -7,
      flags: 5,
      on: true,
      mood: 0,
      comm: "x",
      tags: [9, 8],
    });
    const plain = plainValue(value.btf, value.id, bytes);
    expect(encodeValue(value.btf, value.id, plain, 32)).toEqual(bytes);
  });

  test("has floats as decimal numbers, or as the words that a dump prints", () => {
    const writer = new BtfWriter();
    const id = writer.raw(BTF_KIND.FLOAT, "double", 8);
    const btf = Btf.parse(writer.bytes());
    const types = { key: { btf, id }, value: { btf, id } };
    const map = elementsInfo({ keySize: 8 });
    for (const [text, number] of [
      ["1.5", 1.5],
      ["-2", -2],
      ['"1e3"', 1000],
      [".5", 0.5],
      ["NaN", Number.NaN],
      ["-Infinity", Number.NEGATIVE_INFINITY],
    ] as const)
      expect(plainValue(btf, id, keyFromText(text, map, types))).toBe(number);
    expect([...encodeValue(btf, id, 1n, 8)]).toEqual([0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    for (const text of ["abc", "", '""', '" "', "0x10", "1e", "."]) {
      expect(() => keyFromText(text, map, types)).toThrow(UsageError);
      expect(() => keyFromText(text, map, types)).toThrow("a float of 8 bytes cannot be written from");
    }
  });

  test("of a type that is larger than the key is an error", () => {
    expect(() => keyFromText("{}", elementsInfo({ keySize: 16 }), structKey)).toThrow(
      "the type has 32 bytes, not 16",
    );
  });
});
