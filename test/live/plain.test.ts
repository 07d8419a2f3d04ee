/** `map dump|lookup --plain bpftool` and `map peek` compared with bpftool's output, byte for byte. */
import { afterAll, describe, expect, test } from "bun:test";
import { BTF_INT_BOOL, BTF_INT_CHAR, BTF_INT_SIGNED, BTF_KIND } from "../../src/uapi/btf.ts";
import { BtfWriter } from "../btf/support/encode.ts";
import { kernelSkipReason, ktstr, parseExact, spawn } from "./bpftool.ts";
import { type Held, type HeldMap, Kit, type MapOptions, u32 } from "./kit.ts";
import { loadBtf } from "./kit-progs.ts";

interface Types {
  readonly btf: Held;
  readonly key: number;
  readonly value: number;
  readonly size: number;
}

const VALUE_BYTES = 120;

/** Types with every form of value that the notation distinguishes. */
function everyForm(kit: Kit): Types {
  const writer = new BtfWriter();
  const int = writer.int("int", 4, BTF_INT_SIGNED);
  const u64 = writer.int("unsigned long", 8);
  const u128 = writer.int("unsigned __int128", 16);
  const s8 = writer.int("signed char", 1, BTF_INT_SIGNED);
  const char = writer.int("char", 1, BTF_INT_CHAR);
  const bool = writer.int("_Bool", 1, BTF_INT_BOOL);
  const old = writer.int("int", 4, 0, 5, 3);
  const none = writer.struct("none", 0, []);
  const color = writer.raw(BTF_KIND.ENUM, "color", 4, [writer.string("RED"), 1, writer.string("BLUE"), 2], 2);
  const pair = writer.struct("pair", 4, [
    ["low", int, 0, 4],
    ["high", int, 4, 28],
  ]);
  // Bit-fields as compilers encoded them before BTF_INFO_KFLAG.
  const early = writer.struct("early", 4, [["field", old, 0]]);
  const inner = writer.struct("inner", 8, [
    ["byte", s8, 0],
    ["letter", char, 8],
    ["flag", bool, 16],
    ["", color, 32],
  ]);
  const value = writer.struct("value", VALUE_BYTES, [
    ["huge", u128, 0],
    ["small", u128, 128],
    ["pointer", writer.pointer(0), 256],
    ["nothing", writer.pointer(int), 320],
    ["count", u64, 384],
    ["pair", pair, 448],
    ["early", early, 480],
    ["name", writer.array(char, 8, int), 512],
    ["bytes", writer.array(char, 8, int), 576],
    ["inner", writer.array(inner, 2, int), 640],
    ["numbers", writer.array(int, 3, int), 768],
    ["empty", writer.array(int, 0, int), 864],
    ["none", none, 864],
    ["two", writer.array(writer.array(s8, 2, int), 2, int), 864],
  ]);
  return { btf: loadBtf(kit, writer.bytes()), key: int, value, size: VALUE_BYTES };
}

function someValue(seed: number): Uint8Array {
  // A quote or a backslash in a char is escaped by ktstr, and not by bpftool.
  const bytes = new Uint8Array(VALUE_BYTES)
    .map((_, at) => (seed * 37 + at * 11) & 0xff)
    .map((byte) => (byte === 0x22 || byte === 0x5c ? 0x41 : byte));
  // `small`, `nothing`: zero; `name`: text with a quote and a backslash.
  bytes.fill(0, 24, 32);
  bytes.fill(0, 40, 48);
  bytes.set(new TextEncoder().encode('a"b\\c \0'), 64);
  // `flag` of both: a bool.
  bytes[82] = 1;
  bytes[90] = 0;
  return bytes;
}

/** Runs both tools, requires equal standard output, and returns it. */
function same(...words: string[]): string {
  const theirs = spawn(["bpftool", ...words]);
  const mine = ktstr([...words, "--plain", "bpftool"]);
  expect([mine.out, mine.err]).toEqual([theirs.out, ""]);
  expect(mine.status === 0).toBe(theirs.status === 0);
  return mine.out;
}

const dumped = (map: HeldMap): string => same("map", "dump", "id", String(map.id));

describe.skipIf(kernelSkipReason() !== "")("--plain bpftool", () => {
  const kit = new Kit();
  afterAll(() => kit[Symbol.dispose]());
  const types = everyForm(kit);
  const typed = (options: MapOptions): HeldMap =>
    kit.map({
      valueSize: types.size,
      btfFd: types.btf.fd,
      btfKeyTypeId: types.key,
      btfValueTypeId: types.value,
      ...options,
    });

  test("typed elements: pointers, bit-fields, 128 bits, chars, arrays, empty values", () => {
    const map = typed({ type: "hash", name: "forms", maxEntries: 16 });
    expect(dumped(map)).toBe("[]\n");
    for (let seed = 0; seed < 9; seed++) kit.update(map, u32(seed), someValue(seed));
    expect(dumped(map)).toContain('"pointer": "0x');
    expect(dumped(typed({ type: "array", maxEntries: 3 }))).toContain('"nothing": "(nil)"');
  });

  test("one element, and a missing key", () => {
    const map = typed({ type: "hash" });
    kit.update(map, u32(258), someValue(5));
    const words = ["map", "lookup", "id", String(map.id), "key"];
    expect(same(...words, "2", "1", "0", "0")).toStartWith('{\n    "key": 258,');
    expect(same(...words, "3", "1", "0", "0")).toContain("Not found");
  });

  test("each CPU's value", () => {
    const map = typed({ type: "percpu_array", maxEntries: 2 });
    expect(dumped(map)).toContain('"values": [{\n                "cpu": 0,');
    same("map", "lookup", "id", String(map.id), "key", "1", "0", "0", "0");
  });

  test("several maps with one name: one text if all have types, else bytes with a title each", () => {
    const one = typed({ type: "hash", name: "several_a" });
    kit.update(one, u32(1), someValue(1));
    typed({ type: "percpu_array", name: "several_a", maxEntries: 2 });
    typed({ type: "hash", name: "several_a" });
    expect(same("map", "dump", "name", "several_a")).toStartWith('[{\n        "id": ');
    // The map without types is the oldest: bpftool reads a map with the info of the one before, whose type ids remain in it.
    kit.map({ type: "array", name: "several_b", maxEntries: 2 });
    const other = typed({ type: "hash", name: "several_b" });
    kit.update(other, u32(1), someValue(1));
    expect(same("map", "dump", "name", "several_b")).toContain("Found 1 element\n");
  });

  test.each([
    { type: "array", valueSize: 1, maxEntries: 2 },
    { type: "array", valueSize: 17, maxEntries: 2 },
    { type: "hash", keySize: 16, valueSize: 8 },
    { type: "hash", keySize: 16, valueSize: 9 },
    { type: "hash", keySize: 17, valueSize: 40 },
    { type: "percpu_array", valueSize: 4, maxEntries: 2 },
    { type: "percpu_array", valueSize: 20, maxEntries: 2 },
  ] as const)("bytes: %o", (options) => {
    const map = kit.map({ maxEntries: 5, ...options });
    if (options.type !== "percpu_array") kit.fill(map, 2);
    dumped(map);
    same("map", "lookup", "id", String(map.id), "key", ...Array(map.keySize).fill("0"));
  });

  test("maps of maps, and of programs", () => {
    const inner = kit.map({ type: "array", valueSize: 8, maxEntries: 1 });
    for (const type of ["array_of_maps", "hash_of_maps"] as const) {
      const map = kit.map({ type, maxEntries: 5, innerFd: inner.fd });
      kit.update(map, u32(1), u32(inner.fd));
      expect(dumped(map)).toContain(`inner_map_id: ${inner.id} \n`);
    }
    dumped(kit.map({ type: "prog_array", maxEntries: 3 }));
  });

  test("is an error with options that bpftool lacks, and for other names", () => {
    const map = String(typed({ type: "array", maxEntries: 1 }).id);
    for (const words of [
      ["map", "dump", "id", map, "--plain", "bpftool", "--follow", "1"],
      ["map", "dump", "id", map, "--plain", "bpftool", "--types"],
      ["map", "lookup", "id", map, "key", "0", "0", "0", "0", "--plain", "bpftool", "--follow", "1"],
      ["map", "dump", "id", map, "--plain", "drgn"],
    ])
      expect([words, ktstr(words)]).toEqual([
        words,
        { status: 2, out: "", err: expect.stringMatching(/--plain|bpftool's text/) },
      ]);
    expect(ktstr(["-j", "map", "dump", "id", map, "--plain", "bpftool"])).toEqual(
      ktstr(["-j", "map", "dump", "id", map]),
    );
  });
});

describe.skipIf(kernelSkipReason() !== "")("map peek", () => {
  const kit = new Kit();
  afterAll(() => kit[Symbol.dispose]());

  test.each(["queue", "stack"] as const)("the next element of a %s is not removed", (type) => {
    const map = kit.map({ type, keySize: 0, valueSize: 4, maxEntries: 5 });
    const words = ["map", "peek", "id", String(map.id)];
    expect(same(...words)).toContain("Not found");
    for (const value of [11, 22, 33]) kit.update(map, new Uint8Array(), u32(value));
    const next = type === "queue" ? "0b" : "21";
    for (let again = 0; again < 2; again++) expect(same(...words)).toBe(`value: ${next} 00 00 00\n`);
    const [mine, theirs] = [ktstr(["-j", ...words]), spawn(["bpftool", "-j", ...words])];
    expect([mine.status, parseExact(mine.out)]).toEqual([0, parseExact(theirs.out)]);
    expect(ktstr(words)).toMatchObject({ status: 0, err: "" });
  });

  test("of a map with keys is an error, as in bpftool", () => {
    const map = kit.map({ type: "array", maxEntries: 1 });
    const words = ["map", "peek", "id", String(map.id)];
    expect(spawn(["bpftool", ...words]).status).not.toBe(0);
    expect(ktstr(words)).toMatchObject({ status: 2, err: expect.stringContaining("map peek: which key?") });
    same(...words, "key", "0", "0", "0", "0");
  });
});
