/** Values as C-like text. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Btf } from "../../src/btf/btf.ts";
import { declaration } from "../../src/btf/declare.ts";
import { type TextOptions, valueText } from "../../src/btf/text.ts";
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

function shown(pin: string, options: TextOptions = {}): string {
  const { btf, valueTypeId, entries } = loaded.map(pin);
  return valueText(btf, valueTypeId, entries[0]!.value, options);
}

describe("text", () => {
  liveTest("of every type has the values of the program's source", () => {
    expect(shown("types_data")).toBe(
      `in_data = {
  u8 = 255
  s8 = -128
  u16 = 65535
  s16 = -32768
  u32 = 4294967295
  s32 = -2147483648
  u64 = 18446744073709551615
  s64 = -9223372036854775808
  u128 = 1512366075204170947332355369683137040
  s128 = -1
  yes = true
  no = false
  letter = 107 'k'
  bell = 7
  name = "ktstr"
  full = "full" (4 bytes, no NUL)
  latin = "na\\xefve"
  quoted = "say \\"hi\\""
  empty = ""
  mac = [2, 0, 0, 171, 205, 239]
  color = BLUE
  unknown = 77
  small = SMALL_B
  big = BIG_MIDDLE
  far = FAR_BELOW
  path = [{ x = 1, y = -1 }, { x = 2, y = -2 }, { x = 3, y = -3 }]
  grid = [[1, 2, 3], [4, 5, 6]]
  inside = 11
  union { as_number = 67305985, as_bytes = [1, 2, 3, 4] }
  number = union { whole = 8589934593, halves = [1, 2], bytes = [1, 0, 0, 0, 2, 0, 0, 0] }
  bits = { three = 5, nine = 300, negative = -7, wide = 737894400291, flag = true, shade = GREEN }
  unknown_pointer = 0xffff888000001000
  text_pointer = 0x10
  callback = 0xffffffff81234567
  nothing = NULL
  hollow = {}
  zeros = [0 <32 times>]
  runs = [1, 7 <6 times>, 9, 9, 2, 2, 2]
}`,
    );
  });

  liveTest("of sections has one line per variable, with its C type on request", () => {
    expect(shown("_data_floats")).toBe("single = 0.1\ntwice = -2.5\ninfinite = Infinity");
    expect(shown("types_bss", { types: true })).toBe(
      "volatile s32 hidden_in_bss = 0\nu32 in_bss = 0\nstruct point points_in_bss[2] = [{ x = 0, y = 0 }, { x = 0, y = 0 }]",
    );
    expect(shown("types_rodata", { types: true })).toBe("const volatile u64 in_rodata = 9007199254740993");
  });

  liveTest("of pointers names their targets", () => {
    const text = shown("types_data", {
      symbol: (address) => (address === 0xffff_ffff_8123_4567n ? "schedule+0x7" : undefined),
      arena: { base: 0xffff_8880_0000_0000n, size: 4096 * 4 },
    });
    expect(text).toContain("callback = 0xffffffff81234567 <schedule+0x7>\n");
    expect(text).toContain("unknown_pointer = arena+0x1000\n");
    expect(shown("types_data", { callee: () => "my_prog\x1b" })).toContain("callback = my_prog\\x1b\n");
  });
});

describe("text of", () => {
  const writer = new BtfWriter();
  const u8 = writer.int("unsigned char", 1);
  const char = writer.int("char", 1, 1);
  const u32 = writer.int("unsigned int", 4);
  const bool = writer.int("_Bool", 1, 4);
  const string = writer.array(char, 8000);
  const numbers = writer.array(u32, 1000);
  const point = writer.struct("point", 8, [
    ["x", u32, 0],
    ["y", u32, 32],
  ]);
  const points = writer.array(point, 100);
  const flexible = writer.struct("flexible", 4, [
    ["count", u32, 0],
    ["rest", writer.array(u8, 0), 32],
  ]);
  const hollows = writer.array(writer.struct("hollow", 0, []), 0xffff_ffff);
  const fwd = writer.raw(BTF_KIND.FWD, "later\x1b[2J", 0);
  const section = writer.raw(
    BTF_KIND.DATASEC,
    ".x",
    8,
    [writer.raw(BTF_KIND.VAR, "bad\x1bname", u32, [0]), 4, 4],
    1,
  );
  const loop = writer.raw(BTF_KIND.STRUCT, "loop", 4, [0, writer.nextId, 0], 1);
  const btf = Btf.parse(writer.bytes());

  test("a long string is cut, with its length", () => {
    const bytes = new Uint8Array(8000).fill(97);
    expect(valueText(btf, string, bytes)).toBe(`"${"a".repeat(4096)}"... (8000 bytes)`);
  });

  test("a long array has several lines and is cut at the limit", () => {
    const bytes = new Uint8Array(Uint32Array.from({ length: 1000 }, (_, n) => n).buffer);
    const text = valueText(btf, numbers, bytes, { width: 40, limit: 20 });
    expect(text).toBe(
      "[\n  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,\n  12, 13, 14, 15, 16, 17, 18, 19,\n  ... 980 more\n]",
    );
  });

  test("an array of structs has indices if it takes several lines", () => {
    const words = new Uint32Array(200);
    words.set([1, 2, 3, 4]);
    expect(valueText(btf, points, new Uint8Array(words.buffer), { width: 40 })).toBe(
      "[\n  [0] = { x = 1, y = 2 }\n  [1] = { x = 3, y = 4 }\n  [2..99] = { x = 0, y = 0 }\n]",
    );
  });

  test("a flexible array has as many elements as there are bytes for", () => {
    expect(valueText(btf, flexible, Uint8Array.of(3, 0, 0, 0, 7, 8, 9))).toBe(
      "{ count = 3, rest = [7, 8, 9] }",
    );
  });

  test("missing bytes is a message", () => {
    expect(valueText(btf, point, new Uint8Array(4))).toBe("{ x = 0, y = <not there> }");
    expect(valueText(btf, numbers, new Uint8Array(8))).toBe("[0, 0, <not there> <998 times>]");
    expect(valueText(btf, string, new Uint8Array(7999))).toBe("<not there>");
  });

  test("a bool that is neither 0 nor 1 shows the byte", () => {
    expect(valueText(btf, bool, Uint8Array.of(2))).toBe("true (2)");
  });

  test("names escapes control characters", () => {
    expect(valueText(btf, fwd, new Uint8Array(0))).toBe("<incomplete struct later\\x1b[2J>");
    expect(valueText(btf, section, new Uint8Array(8), { types: true })).toBe("unsigned int bad\\x1bname = 0");
  });

  test("elements of size 0 is bounded", () => {
    expect(valueText(btf, hollows, new Uint8Array(0))).toBe("[{}, ... 4294967294 more]");
  });

  test("a type that contains itself is a FormatError", () => {
    expect(() => valueText(btf, loop, new Uint8Array(4))).toThrow(FormatError);
  });
});

test("declarations have C's syntax", () => {
  const writer = new BtfWriter();
  const int = writer.int("int", 4, 1);
  const char = writer.int("char", 1, 1);
  const constChar = writer.raw(BTF_KIND.CONST, "", char);
  const text = writer.pointer(constChar);
  const constText = writer.raw(BTF_KIND.CONST, "", text);
  const sock = writer.struct("sock", 4, []);
  const params = [writer.string("sk"), writer.pointer(sock), writer.string("name"), constText, 0, 0];
  const proto = writer.raw(BTF_KIND.FUNC_PROTO, "", int, params, 3);
  const handler = writer.pointer(proto);
  const handlers = writer.array(handler, 4);
  const rows = writer.array(writer.array(int, 3), 2);
  const noArguments = writer.pointer(writer.raw(BTF_KIND.FUNC_PROTO, "", writer.pointer(handler)));
  const toRows = writer.pointer(rows);
  const tagged = writer.pointer(writer.raw(BTF_KIND.TYPE_TAG, "arena", sock));
  const anonymous = writer.pointer(writer.struct("", 4, [], BTF_KIND.UNION));
  const endless = writer.pointer(writer.nextId);
  const btf = Btf.parse(writer.bytes());
  const c = (id: number): string => declaration(btf, id, "x");
  expect(c(text)).toBe("const char *x");
  expect(c(constText)).toBe("const char *const x");
  expect(c(handlers)).toBe("int (*x[4])(struct sock *sk, const char *const name, ...)");
  expect(c(rows)).toBe("int x[2][3]");
  expect(c(toRows)).toBe("int (*x)[2][3]");
  expect(c(noArguments)).toBe("int (**(*x)(void))(struct sock *sk, const char *const name, ...)");
  expect(c(tagged)).toBe("struct sock *x");
  expect(c(anonymous)).toBe("union { ... } *x");
  expect(c(0)).toBe("void x");
  expect(declaration(btf, handlers, "")).toBe("int (*[4])(struct sock *sk, const char *const name, ...)");
  expect(btf.referenced(endless)).toBe(endless);
  expect(() => c(endless)).toThrow(FormatError);
});
