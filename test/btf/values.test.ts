/** Values as bpftool's `formatted` JSON and as plain data. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { bpftoolJson } from "../../src/btf/bpftool.ts";
import { Btf } from "../../src/btf/btf.ts";
import { plainValue } from "../../src/btf/value.ts";
import { FormatError } from "../../src/errors.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { BtfWriter } from "./support/encode.ts";
import { liveSkipReason } from "./support/live.ts";
import { LoadedObject } from "./support/load.ts";

const why = liveSkipReason("bpftool", "clang-19");
const liveTest = test.skipIf(why !== "");
let loaded: LoadedObject;

beforeAll(() => {
  if (why === "") loaded = LoadedObject.load();
});
afterAll(() => {
  if (why === "") loaded[Symbol.dispose]();
});

/** Returns ktstr's `-j map dump` of this map, made from the bytes that bpftool printed. */
function ourDump(pin: string): string {
  const { btf, entries, keyTypeId, valueTypeId } = loaded.map(pin);
  const hex = (bytes: Uint8Array): string =>
    `[${[...bytes].map((byte) => `"0x${byte.toString(16).padStart(2, "0")}"`).join(",")}]`;
  const value = (bytes: Uint8Array): string => `"value":${bpftoolJson(btf, valueTypeId, bytes)}`;
  const parts = entries.map((entry) => {
    const key = keyTypeId === 0 ? "" : `"key":${bpftoolJson(btf, keyTypeId, entry.key)},`;
    if (entry.values.length === 0)
      return `{"key":${hex(entry.key)},"value":${hex(entry.value)},"formatted":{${key}${value(entry.value)}}}`;
    const raw = entry.values.map((bytes, cpu) => `{"cpu":${cpu},"value":${hex(bytes)}}`);
    const typed = entry.values.map((bytes, cpu) => `{"cpu":${cpu},${value(bytes)}}`);
    return `{"key":${hex(entry.key)},"values":[${raw.join(",")}],"formatted":{${key}"values":[${typed.join(",")}]}}`;
  });
  return `[${parts.join(",")}]`;
}

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

/** Pseudo-random bytes, equal in every run: the upper bits of a linear congruential generator. */
function noise(length: number, seed: number): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}

describe("JSON is equal to bpftool's, byte for byte", () => {
  liveTest.each(["types_data", "types_bss", "types_rodata", "array_of_all", "per_cpu"])("of %s", (pin) => {
    const { dump, entries } = loaded.map(pin);
    expect(entries.length).toBeGreaterThan(0);
    expect(ourDump(pin)).toBe(dump);
  });

  liveTest("of every type, filled with noise", () => {
    const { entries } = loaded.map("array_of_all");
    const size = entries[0]!.value.length;
    for (let seed = 0; seed < 8; seed++) {
      loaded.update("array_of_all", u32(0), noise(size, 2 * seed));
      loaded.update("array_of_all", u32(1), noise(size, 2 * seed + 1));
      expect(ourDump("array_of_all")).toBe(loaded.map("array_of_all").dump);
    }
  });

  liveTest("of a hash whose keys are structs and whose values are unions", () => {
    const key = new Uint8Array(12);
    for (const [cpu, comm] of [
      [0, "bash"],
      [3, 'a"b'],
      [0xffff_ffff, "12345678"],
    ] as const) {
      key.fill(0);
      key.set(u32(cpu));
      key.set(new TextEncoder().encode(comm), 4);
      loaded.update("hash_by_struct", key, noise(8, cpu));
    }
    const { dump, entries } = loaded.map("hash_by_struct");
    expect(entries.length).toBe(3);
    expect(ourDump("hash_by_struct")).toBe(dump);
  });

  liveTest("except for floats, which are numbers where bpftool's output is not valid JSON", () => {
    const { btf, dump, entries, valueTypeId } = loaded.map("_data_floats");
    expect(dump).toContain("(unsupported-kind");
    const { value } = entries[0]!;
    const [single, twice, infinite] = ["0.1", "-2.5", '"Infinity"'];
    expect(bpftoolJson(btf, valueTypeId, value)).toBe(
      `{".data.floats":[{"single":${single}},{"twice":${twice}},{"infinite":${infinite}}]}`,
    );
    expect(plainValue(btf, valueTypeId, value)).toEqual({
      single: 0.1,
      twice: -2.5,
      infinite: Number.POSITIVE_INFINITY,
    });
  });
});

describe("plain data", () => {
  liveTest("has the values of the program's source", () => {
    const { btf, entries, valueTypeId } = loaded.map("types_data");
    expect(plainValue(btf, valueTypeId, entries[0]!.value)).toEqual({
      in_data: {
        u8: 255,
        s8: -128,
        u16: 65535,
        s16: -32768,
        u32: 4294967295,
        s32: -2147483648,
        u64: 0xffff_ffff_ffff_ffffn,
        s64: -0x8000_0000_0000_0000n,
        u128: 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210n,
        s128: -1,
        yes: true,
        no: false,
        letter: 107,
        bell: 7,
        name: "ktstr",
        full: "full",
        latin: [110, 97, -17, 118, 101, 0, 0, 0],
        quoted: 'say "hi"',
        empty: "",
        mac: [2, 0, 0, 0xab, 0xcd, 0xef],
        color: "BLUE",
        unknown: 77,
        small: "SMALL_B",
        big: "BIG_MIDDLE",
        far: "FAR_BELOW",
        path: [
          { x: 1, y: -1 },
          { x: 2, y: -2 },
          { x: 3, y: -3 },
        ],
        grid: [
          [1, 2, 3],
          [4, 5, 6],
        ],
        inside: 11,
        as_number: 0x04030201,
        as_bytes: [1, 2, 3, 4],
        number: { whole: 0x2_0000_0001, halves: [1, 2], bytes: [1, 0, 0, 0, 2, 0, 0, 0] },
        bits: { three: 5, nine: 300, negative: -7, wide: 0xab_cdef_0123, flag: true, shade: "GREEN" },
        unknown_pointer: 0xffff_8880_0000_1000n,
        text_pointer: 16,
        callback: 0xffff_ffff_8123_4567n,
        nothing: 0,
        hollow: {},
        zeros: new Array(32).fill(0),
        runs: [1, 7, 7, 7, 7, 7, 7, 9, 9, 2, 2, 2],
      },
    });
    const rodata = loaded.map("types_rodata");
    expect(plainValue(rodata.btf, rodata.valueTypeId, rodata.entries[0]!.value)).toEqual({
      in_rodata: 9007199254740993n,
    });
  });

  const writer = new BtfWriter();
  const u8 = writer.int("unsigned char", 1);
  const s32 = writer.int("int", 4, 1);
  const rest = writer.array(s32, 0);
  const flexible = writer.struct("flexible", 4, [
    ["count", s32, 0],
    ["rest", rest, 32],
  ]);
  const proto = writer.struct("proto", 4, [["__proto__", s32, 0]]);
  const loop = writer.raw(BTF_KIND.STRUCT, "loop", 4, [0, writer.nextId, 0], 1);
  const huge = writer.array(writer.array(u8, 0xffff_ffff), 0xffff_ffff);
  const oldEnum = writer.raw(BTF_KIND.ENUM, "old", 4, [writer.string("MINUS"), 0xffff_ffff], 1);
  const fwd = writer.raw(BTF_KIND.FWD, "later", 0);
  const btf = Btf.parse(writer.bytes());

  test("of a flexible array has as many elements as there are bytes for", () => {
    const bytes = new Uint8Array(Int32Array.of(2, -5, 6).buffer);
    expect(plainValue(btf, flexible, bytes)).toEqual({ count: 2, rest: [-5, 6] });
    expect(bpftoolJson(btf, flexible, bytes)).toBe('{"count":2,"rest":[]}');
  });

  test("of a member named __proto__ is a member", () => {
    const value = plainValue(btf, proto, new Uint8Array(Int32Array.of(9).buffer));
    expect(Object.entries(value as object)).toEqual([["__proto__", 9]]);
  });

  test("of missing bytes is null, not zero", () => {
    expect(plainValue(btf, flexible, new Uint8Array(3))).toEqual({ count: null, rest: [] });
    expect(bpftoolJson(btf, flexible, new Uint8Array(3))).toBe('{"count":null,"rest":[]}');
    expect(plainValue(btf, fwd, new Uint8Array(8))).toBeNull();
    expect(bpftoolJson(btf, 0, new Uint8Array(8))).toBe("null");
  });

  test("of an enum without the kind flag has names for negative values", () => {
    const bytes = new Uint8Array(Int32Array.of(-1).buffer);
    expect(plainValue(btf, oldEnum, bytes)).toBe("MINUS");
    expect(bpftoolJson(btf, oldEnum, bytes)).toBe('"MINUS"');
  });

  test("of bit-fields is exact at every offset and width", () => {
    const fields = new BtfWriter();
    const u64 = fields.int("unsigned long", 8);
    const s64 = fields.int("long", 8, 1);
    const old = fields.int("old_bits", 4, 1, 5, 2);
    const id = fields.struct("fields", 32, [
      ["low", u64, 0, 7],
      ["wide", u64, 7, 64],
      ["negative", s64, 71, 61],
      ["one", u64, 132, 1],
    ]);
    const before = fields.struct("before", 4, [["old", old, 3]]);
    const types = Btf.parse(fields.bytes());
    const all = 0x55n | (0xfedc_ba98_7654_3211n << 7n) | (BigInt.asUintN(61, -3n) << 71n) | (1n << 132n);
    const bytes = Uint8Array.from({ length: 32 }, (_, n) => Number((all >> BigInt(8 * n)) & 0xffn));
    expect(plainValue(types, id, bytes)).toEqual({
      low: 0x55,
      wide: 0xfedc_ba98_7654_3211n,
      negative: -3,
      one: 1,
    });
    expect(bpftoolJson(types, id, bytes)).toBe(
      '{"low":"0x55","wide":"0xfedcba9876543211","negative":"0x1ffffffffffffffd","one":"0x1"}',
    );
    const five = Uint8Array.of(0b1101_1111, 0b10, 0, 0);
    expect(plainValue(types, before, five)).toEqual({ old: -10 });
    expect(bpftoolJson(types, before, five)).toBe('{"old":"0x16"}');
  });

  test("of floats has the digits of the source", () => {
    const floats = new BtfWriter();
    const ids = [2, 4, 8, 16].map((size) => floats.raw(BTF_KIND.FLOAT, `f${size}`, size));
    const types = Btf.parse(floats.bytes());
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    view.setFloat16(0, 0.1, true);
    expect(plainValue(types, ids[0]!, bytes)).toBe(0.1);
    view.setFloat32(0, 16777217.5, true);
    expect(plainValue(types, ids[1]!, bytes)).toBe(16777218);
    view.setFloat64(0, 0.1 + 0.2, true);
    expect(plainValue(types, ids[2]!, bytes)).toBe(0.30000000000000004);
    view.setFloat64(0, Number.NaN, true);
    expect(bpftoolJson(types, ids[2]!, bytes)).toBe('"NaN"');
    expect(plainValue(types, ids[3]!, bytes)).toEqual([...bytes]);
  });

  test("of a type that contains itself, or has 2^64 elements, is a FormatError", () => {
    for (const id of [loop, huge]) {
      expect(() => plainValue(btf, id, new Uint8Array(64))).toThrow(FormatError);
      expect(() => bpftoolJson(btf, id, new Uint8Array(64))).toThrow("a value cannot be shown");
    }
  });
});
