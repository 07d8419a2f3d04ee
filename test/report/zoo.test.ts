/** Plain data and text of the zoo's awkward types, compared with the answers of its loader, which were written by hand. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openGuest } from "../../src/guest/guest.ts";
import { openLive } from "../../src/live/live.ts";
import { PlaceNames } from "../../src/report/symbol.ts";
import { view } from "../../src/report/view.ts";
import { capturedImages } from "../guest/captured.ts";
import { labImages, testEachMachine } from "../guest/images.ts";
import type { ZooAnswers } from "../lab/zoo/answers.ts";
import { buildZoo } from "../lab/zoo/build.ts";
import { type RunningZoo, startZoo } from "../lab/zoo/run.ts";
import { CLI, type Ran, spawn } from "../live/bpftool.ts";
import { expectSameJited, type JitedFunction, noCounts } from "./support/jited.ts";
import { compareWithLoader, zooSkipReason } from "./support/zoo.ts";

const why = zooSkipReason();
const zooTest = test.skipIf(why !== "");
let zoo: RunningZoo;

beforeAll(async () => {
  if (why !== "") return;
  const { loader } = await buildZoo({ arch: process.arch === "arm64" ? "arm64" : "amd64" });
  zoo = await startZoo(loader);
}, 600_000);
afterAll(async () => {
  await zoo?.[Symbol.asyncDispose]();
});

/** Runs `ktstr map dump` on the zoo's own map, even if another map has that name. */
function dump(name: string, ...options: string[]): Ran {
  const map = zoo.answers.maps.find((one) => one.name === name);
  if (map === undefined) throw new Error(`this kernel has no ${name}`);
  return spawn([process.execPath, CLI, "map", "dump", "id", String(map.id), ...options]);
}

zooTest("plain data of every typed value equals the values that the loader stored", () => {
  using live = openLive();
  const { compared, differences } = compareWithLoader(live, zoo.answers);
  expect(differences).toEqual([]);
  expect(compared).toBeGreaterThan(30);
});

zooTest(
  "every program's instructions equal bpftool's, with lines, with opcodes and as a graph",
  () => {
    const ids = zoo.answers.programs.map(({ id }) => id);
    const forms = ["", "opcodes linum", "visual linum"];
    const batch = (tool: readonly string[], rest: string): Ran => {
      const file = join(tmpdir(), `ktstr-xlated-${process.pid}`);
      writeFileSync(file, ids.map((id) => `prog dump xlated id ${id} ${rest}\n`).join(""));
      const ran = spawn([...tool, "batch", "file", file]);
      rmSync(file);
      return ran;
    };
    for (const [options, rest] of [...forms.map((form) => [[], form] as const), [["-j"], "linum"] as const]) {
      const mine = batch([process.execPath, CLI, ...options], rest);
      const theirs = batch(["bpftool", ...options], rest);
      expect(mine.out).toBe(theirs.out);
      expect([mine.status, mine.err]).toEqual([0, ""]);
      expect(mine.out.length).toBeGreaterThan(10_000);
    }
    expect(ids.length).toBeGreaterThan(20);
  },
  300_000,
);

zooTest(
  "every program's machine code equals bpftool's: bytes, lines, functions, names of instructions",
  () => {
    const counts = noCounts();
    for (const { id } of zoo.answers.programs) {
      const words = ["-j", "prog", "dump", "jited", "id", String(id), "opcodes", "linum"];
      const mine = spawn([process.execPath, CLI, ...words]);
      expect([mine.status, mine.err]).toEqual([0, ""]);
      expectSameJited(mine.out, spawn(["bpftool", ...words]).out, counts);
    }
    console.log("jited", counts);
    expect(counts.insns).toBeGreaterThan(1000);
    expect(counts.lines).toBeGreaterThan(100);
    expect(counts.otherOperations / counts.insns).toBeLessThan(0.01);
  },
  300_000,
);

zooTest(
  "an address in machine code has the same line as in bpftool's disassembly",
  () => {
    const starts = new Map<string, bigint>();
    for (const [, at, name] of readFileSync("/proc/kallsyms", "latin1").matchAll(/^(\w+) t (bpf_prog_\w+)/gm))
      starts.set(name!, BigInt(`0x${at}`));
    let compared = 0;
    using live = openLive();
    const names = new PlaceNames(live);
    for (const { id, name } of zoo.answers.programs) {
      const theirs = spawn(["bpftool", "-j", "prog", "dump", "jited", "id", String(id), "linum"]).out;
      for (const func of JSON.parse(theirs) as JitedFunction[]) {
        const start = starts.get(func.name);
        if (start === undefined) continue;
        for (const { pc, src, line_num } of func.insns.filter((insn) => insn.src !== undefined)) {
          const place = names.at(start + BigInt(pc));
          expect([name, pc, place.prog?.id, place.source?.line, place.source?.text]).toEqual([
            name,
            pc,
            id,
            line_num,
            src,
          ]);
          compared++;
        }
      }
    }
    expect(compared).toBeGreaterThan(100);
  },
  300_000,
);

zooTest(
  "a return address in machine code has the line of its call in bpftool's disassembly",
  () => {
    let compared = 0;
    using live = openLive();
    const names = new PlaceNames(live);
    for (const { id } of zoo.answers.programs) {
      const words = ["-j", "prog", "dump", "jited", "id", String(id), "opcodes", "linum"];
      for (const func of JSON.parse(spawn(["bpftool", ...words]).out) as JitedFunction[]) {
        let line: { readonly src?: string; readonly line_num?: number } | undefined;
        for (const insn of func.insns) {
          if (insn.src !== undefined) line = insn;
          if (insn.operation !== "call" || line === undefined) continue;
          const back = Number(insn.pc) + insn.opcodes.length;
          const frame = `${func.name}+0x${back.toString(16)}/0x1000`;
          const source = names.linesOfFrames([frame, "schedule+0x10/0x100"]).get(frame);
          expect([frame, source?.line, source?.text]).toEqual([frame, line.line_num, line.src]);
          compared++;
        }
      }
    }
    expect(compared).toBeGreaterThan(20);
  },
  300_000,
);

const images = [...(await labImages()), ...capturedImages()].filter((image) =>
  image.answer("loader.json")?.includes('"expect":'),
);
/**
 * 5.10 does not have these kinds (floats since 5.13, 64-bit and negative enumerators since 6.0). libbpf loads structs,
 * unions and integers instead (`bpf_object__sanitize_btf`), so the types are not in memory.
 */
const UNTYPED =
  /^(z_scalars key .*: \.f32|z_enum_value key .*: |zoo_glob\.data key .*: \.big_enum|z_bits key .*: \.mood): /;

testEachMachine(
  images,
  "plain data of every typed value of the frozen machine %s is what the loader stored",
  (image) => {
    using guest = openGuest({ memory: image.memory });
    const answers = JSON.parse(image.answer("loader.json") ?? "") as ZooAnswers;
    const { compared, differences } = compareWithLoader(guest, answers);
    const isOld = guest.kernel().release.startsWith("5.10.");
    expect(differences.filter((one) => !(isOld && UNTYPED.test(one)))).toEqual([]);
    expect(compared).toBeGreaterThan(20);
  },
);

/** Expected text, written by hand from the loader's C source (test/lab/zoo/loader/maps_typed.c). */
const TEXTS: readonly (readonly [title: string, map: string, options: readonly string[], text: string])[] = [
  [
    "bit-fields, signed ones, an enum and a bool of bits",
    "z_bits",
    ["--key", "ZOO_GRUMPY"],
    `key: ZOO_GRUMPY
value: {
  a = 1
  b = 5
  c = -13
  d = 8043742
  e = 8570845848
  f = -1000000000
  g = 9
  h = 14
  mood = ZOO_GRUMPY
  flag = true
  after = 1234
  whole = 18446744073709551615
}`,
  ],
  [
    "anonymous structs and unions, arrays of arrays, an empty struct",
    "z_nested",
    ["--key", "0"],
    `key: 0
value: {
  union { low = 1, high = 32768, word = 2147483649 }
  union {
    wide = 9223372041149743103
    bytes = [255 <4 times>, 0, 0, 0, 128]
    left = -1
    union { right = -2147483648, right_half = 0 }
  }
  points = [{ x = 0, y = 0 }, { x = 1, y = -1 }, { x = 2, y = -2 }]
  matrix = [[[-500, -400], [-300, -200], [-100, 0]], [[100, 200], [300, 400], [500, 600]]]
  nothing = {}
  named = union { tag = 212, tagged = 2712847316 }
}`,
  ],
  [
    "scalars of every type",
    "z_scalars",
    ["--key", "-1"],
    `key: -1
value: {
  yes = true
  no = false
  s8 = -128
  letter = 122 'z'
  byte = 200
  s16 = -32768
  u16 = 65535
  s32 = -2147483648
  u32 = 4294967295
  s64 = -9223372036854775808
  u64 = 18446744073709551615
  s128 = -1267650600228229401496703205377
  u128 = ${(0x0123456789abcdefn << 64n) | 0xfedcba9876543210n}
  f32 = -1.5
  f64 = 0.1
  flags = [false, true, false]
  mood = ZOO_WORST
  stranger = 99
  top = ZOO_TOP
  big = ZOO_BIG
  big_signed = ZOO_BIG_LOW
  big_stranger = -5
  small = ZOO_SMALL_MINUS
}`,
  ],
  [
    "text with a NUL, without one, with control bytes, and not UTF-8",
    "z_text",
    ["--key", '{"kind": 7, "number": 3735928559, "name": "key"}'],
    `key: { kind = 7, number = 3735928559, name = "key" }
value: {
  plain = "plain"
  full = "nonul!!!" (8 bytes, no NUL)
  escapes = "\\x1b[31m\\"\\\\\\x0a\\x09\\x0d\\x08\\x01\\x7f/"
  invalid = "\\xff\\xfe\\xc3(\\xed\\xa0\\x80"
  utf8 = "é€"
  after_nul = "ab"
  empty = ""
  s = [-128, -1, 1, 127]
  u = [128, 255, 1, 127]
  two = ["abcd" (4 bytes, no NUL), "e"]
}`,
  ],
  [
    "a packed struct with bit-fields",
    "z_packed",
    ["--key", "2"],
    "key: 2  value: { first = 2, second = 72623859790382856, third = 65520, bits = 21, more = 4000 }",
  ],
  ["an aligned struct", "z_aligned", ["--key", "0"], "key: 0\nvalue: { first = 1, second = 2, last = 3 }"],
  [
    "unions as key and value",
    "z_union",
    ["--key", '{"number": 5}'],
    'key: union { number = 5, halves = { low = 5, high = 0 }, letters = "\\x05" }\n' +
      'value: union { number = 9415592384228981, halves = { low = 1869180533, high = 2192238 }, letters = "unions!" }',
  ],
  ["a typedef of an array", "z_vector", ["--key", "0"], "key: 0  value: [1, -2, 3, -2147483648]"],
  ["a 64-bit enum", "z_enum_value", ["--key", "0"], "key: 0  value: ZOO_BIG_LOW"],
  ["an enum's value without a name", "z_enum_value", ["--key", "2"], "key: 2  value: -1"],
  ["a flexible array", "z_flexible", ["--key", "0"], "key: 0  value: { count = 12, items = [] }"],
  ["a bool that C cannot make", "z_bool", ["--key", "false"], "key: false  value: true (2)"],
  [
    "typedefs of typedefs, an anonymous struct",
    "z_typedef",
    ["--key", "4000000000"],
    "key: 4000000000  value: { id = 1, pair = [2, 4000000000] }",
  ],
];

describe.each(TEXTS)("%s", (_title, map, options, text) => {
  zooTest(`has the expected text (${map})`, () => {
    const { out, err, status } = dump(map, ...options);
    expect([err, status]).toEqual(["", 0]);
    expect(out).toBe(`${text}\nFound 1 element\n`);
  });
});

zooTest("pointers are numbers, and kernel pointers have symbols", () => {
  const { out } = dump("z_pointers");
  expect(out).toContain("  any = 0xffff888000001000\n");
  expect(out).toMatch(/ {2}text = 0xffffffff81000010( <\S+>)?\n/);
  expect(out).toContain("  callback = 0x1234\n  inline_callback = 0xffffffffffffffff\n  forward = NULL\n");
  expect(out).toContain("  chain = 77\n  anonymous = { id = 88, pair = [99, 111] }\n");
});

zooTest("global variables with their C types, and a single one by its path", () => {
  const { out } = dump("zoo_glob.data", "--types");
  expect(out).toContain("int answer = 42\n");
  expect(out).toContain("__s64 negative = -9000000000\n");
  expect(out).toContain('char greeting[16] = "hello\\x09zoo\\"\\\\"\n');
  expect(out).toContain("struct zoo_flexible flexible = { count = 3, items = [10, 20, 30] }\n");
  expect(out).toContain("enum zoo_big big_enum = ZOO_BIG\n");
  using live = view(openLive());
  const data = live.map(zoo.answers.maps.find(({ name }) => name === "zoo_glob.data")?.id ?? 0);
  expect(data.global("answer")).toBe(42);
  expect(data.global("negative")).toBe(-9_000_000_000);
  expect(data.global("nested.points[2].y")).toBe(-3);
  expect(data.global("flexible.items[1]")).toBe(20);
  expect(data.global("nested.wide")).toBe(9833440827789222417n);
  expect(data.globals()).toMatchObject({ static_small: -7, big_enum: "ZOO_BIG" });
});

zooTest("a list in an arena is printed in order, from the global variable that is its head", () => {
  const { out, status } = dump("z_arena", "--follow", "32");
  expect(status).toBe(0);
  expect(out).toContain("  +0x000  __u64 zoo_arena_number = 1234605616436508552\n");
  expect(out).toContain("  +0x008  int zoo_arena_vector[4] = [1, -2, 3, -4]\n");
  const list = [
    ...out.matchAll(/^ {2}-> arena\+0x\S+ {2}struct node \{.*index = (\d).*label = "(..)" \}$/gm),
  ];
  expect(list.map(([, index, label]) => `${index} ${label}`)).toEqual(
    [6, 5, 4, 3, 2, 1, 0].map((index) => `${index} n${index}`),
  );
});
