/** Reads the kernel's BTF, compared with bpftool's raw dump, and BTF with unusual headers, members and bases. */
import { describe, expect, test } from "bun:test";
import { Btf } from "../../src/btf/btf.ts";
import { FormatError } from "../../src/errors.ts";
import { BTF_KIND, BTF_KIND_NAMES } from "../../src/uapi/btf.ts";
import { BtfWriter } from "./support/encode.ts";
import { LONG_MS, liveSkipReason, run, vmlinuxBytes } from "./support/live.ts";

/** A type of `bpftool -j btf dump`. */
interface Dumped {
  readonly id: number;
  readonly kind: string;
  readonly name: string;
  readonly size?: number;
  readonly type_id?: number;
  readonly ret_type_id?: number;
  readonly nr_elems?: number;
  readonly members?: readonly {
    name: string;
    type_id: number;
    bits_offset: number;
    bitfield_size?: number;
  }[];
  readonly values?: readonly { name: string; val: string }[];
  readonly params?: readonly { name: string; type_id: number }[];
}

const kernelTest = test.skipIf(liveSkipReason("bpftool") !== "");

describe("the kernel's own types", () => {
  kernelTest(
    "are all equal to bpftool's",
    () => {
      const btf = Btf.parse(vmlinuxBytes(), { name: "vmlinux" });
      const json = run("bpftool", "-j", "btf", "dump", "file", "/sys/kernel/btf/vmlinux");
      const { types } = JSON.parse(json.replace(/"val":(-?\d+)/g, '"val":"$1"')) as { types: Dumped[] };
      expect(btf.typeCount).toBe(types.length + 1);
      const anonymous = (name: string): string => (name === "" ? "(anon)" : name);
      for (const { id, kind, name, size, type_id, nr_elems, members, values, params } of types) {
        expect(BTF_KIND_NAMES[btf.kind(id)]).toBe(kind);
        expect(anonymous(btf.typeName(id))).toBe(name);
        if (size !== undefined) expect(btf.sizeOf(id)).toBe(size);
        if (nr_elems !== undefined)
          expect(btf.array(id)).toMatchObject({ elementTypeId: type_id, count: nr_elems });
        else if (type_id !== undefined) expect(btf.referenced(id)).toBe(type_id);
        if (members !== undefined) {
          const seen = [...btf.members(id)].map((member) => ({
            name: anonymous(member.name),
            type_id: member.typeId,
            bits_offset: member.bitOffset,
            ...(member.bitSize > 0 ? { bitfield_size: member.bitSize } : {}),
          }));
          expect(seen).toEqual(members as typeof seen);
        }
        // bpftool prints the unsigned values of an ENUM sign-extended to 64 bits; the value is their low 32 bits.
        const wide = kind === "ENUM64";
        if (values !== undefined)
          expect([...btf.enumValues(id)].map(({ name, value }) => [anonymous(name), BigInt(value)])).toEqual(
            values.map(({ name, val }) => [
              name,
              wide || btf.kindFlag(id) ? BigInt(val) : BigInt.asUintN(32, BigInt(val)),
            ]),
          );
        if (params !== undefined)
          expect([...btf.params(id)].map(({ name, typeId }) => [anonymous(name), typeId])).toEqual(
            params.map(({ name, type_id }) => [name, type_id]),
          );
      }
    },
    LONG_MS,
  );

  kernelTest(
    "are found by name and kind, the lowest id first",
    () => {
      const btf = Btf.parse(vmlinuxBytes());
      const first = new Map<string, number>();
      for (let id = 1; id < btf.typeCount; id++) {
        const key = `${btf.kind(id)} ${btf.typeName(id)}`;
        if (!first.has(key)) first.set(key, id);
      }
      for (const [key, id] of first) {
        const name = key.slice(key.indexOf(" ") + 1);
        if (name !== "") expect(btf.find(name, btf.kind(id))).toBe(id);
      }
      expect(btf.find("no_such_type_anywhere")).toBeUndefined();
      expect(btf.find("task_struct", BTF_KIND.UNION)).toBeUndefined();
    },
    LONG_MS,
  );

  kernelTest("read the same at an odd address, where no word is aligned", () => {
    const bytes = vmlinuxBytes();
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    const odd = Btf.parse(shifted.subarray(1));
    const even = Btf.parse(bytes);
    expect(odd.typeCount).toBe(even.typeCount);
    const id = odd.find("bpf_map", BTF_KIND.STRUCT)!;
    expect([...odd.members(id)]).toEqual([...even.members(id)]);
  });
});

describe("the place of a member", () => {
  const writer = new BtfWriter();
  const u32 = writer.int("unsigned int", 4);
  const inner = writer.struct("", 8, [
    ["x", u32, 0],
    ["y", u32, 32],
  ]);
  const pair = writer.struct("pair", 8, [["both", inner, 0]]);
  const list = writer.array(pair, 4);
  const flags = writer.struct("flags", 4, [
    ["low", u32, 0, 3],
    ["high", u32, 3, 7],
  ]);
  const oldBits = writer.int("old_bits", 4, 0, 5, 2);
  const outer = writer.struct("outer", 64, [
    ["", inner, 0],
    ["list", writer.typedef("list_t", list), 64],
    ["flags", flags, 320],
    ["old", oldBits, 352],
  ]);
  const btf = Btf.parse(writer.bytes());

  test("is found through an anonymous struct", () => {
    expect(btf.member(outer, "y")).toEqual({ byteOffset: 4, bitOffset: 0, bitSize: 0, typeId: u32 });
  });

  test("is found through typedefs, arrays and nested structs", () => {
    expect(btf.member(outer, "list[2].both.y")?.byteOffset).toBe(8 + 16 + 4);
    expect(btf.member(outer, "list")?.byteOffset).toBe(8);
  });

  test("of a bit-field is a byte, a bit in it, and a number of bits", () => {
    expect(btf.member(outer, "flags.high")).toEqual({
      byteOffset: 40,
      bitOffset: 3,
      bitSize: 7,
      typeId: u32,
    });
  });

  test("of a bit-field without the kind flag comes from the bits of its INT", () => {
    expect(btf.member(outer, "old")).toEqual({ byteOffset: 44, bitOffset: 2, bitSize: 5, typeId: oldBits });
  });

  test("is undefined if there is no such path", () => {
    for (const path of ["z", "list[4]", "list[0]x", "y.x", "flags.low.x", "list[", "list[-1]", "..", "x[0]"])
      expect(btf.member(outer, path)).toBeUndefined();
  });
});

describe("split BTF", () => {
  const base = new BtfWriter();
  const int = base.int("int", 4, 1);
  const baseBytes = base.bytes();
  const parsedBase = Btf.parse(baseBytes, { name: "vmlinux" });
  const stringLength = new DataView(baseBytes.buffer).getUint32(20, true);
  const writer = new BtfWriter({ firstId: parsedBase.typeCount, stringStart: stringLength });
  const own = writer.struct("module_thing", 8, [["number", int, 0]]);
  const shadow = writer.struct("int", 4, []);
  const btf = Btf.parse(writer.bytes(), { base: parsedBase, name: "module" });

  test("continues its base's ids and strings", () => {
    expect(btf.firstId).toBe(2);
    expect(btf.typeCount).toBe(4);
    expect(btf.typeName(own)).toBe("module_thing");
    expect(btf.typeName(int)).toBe("int");
    expect(btf.nameBytes(int)).toEqual(Buffer.from("int"));
    expect(btf.nameBytes(0).length).toBe(0);
    expect(btf.sizeOf(btf.member(own, "number")!.typeId)).toBe(4);
  });

  test("is searched after the base", () => {
    expect(btf.find("int")).toBe(int);
    expect(btf.find("int", BTF_KIND.STRUCT)).toBe(shadow);
    expect(btf.find("module_thing")).toBe(own);
    expect(parsedBase.find("module_thing")).toBeUndefined();
  });
});

describe("bytes that are not BTF", () => {
  const good = (): Uint8Array => {
    const writer = new BtfWriter();
    writer.struct("s", 4, [["m", writer.int("int", 4), 0]]);
    return writer.bytes();
  };
  const withWord = (at: number, value: number): Uint8Array => {
    const bytes = good();
    new DataView(bytes.buffer).setUint32(at, value, true);
    return bytes;
  };

  test.each([
    ["nothing", new Uint8Array(0), /ends inside its header/],
    ["a swapped magic before words that are not swapped", withWord(0, 0x0001_9feb), /header claims/],
    ["another magic", withWord(0, 0x0001_1234), /the magic is 0x1234/],
    ["a later version", withWord(0, 0x0002_eb9f), /version 2/],
    ["a header past the end", withWord(4, 4096), /header claims 4096/],
    ["types past the end", withWord(12, 0xffff_fffc), /type section claims/],
    ["types that are not aligned", withWord(8, 2), /not aligned/],
    ["strings past the end", withWord(20, 0xffff_ffff), /string section claims/],
    ["no strings", withWord(20, 0), /string section is empty/],
    ["strings without their last NUL", withWord(20, 3), /does not end with a NUL/],
    ["a kind that is not known", withWord(28, 0x1700_0000), /kind 23, which is not known/],
    ["more members than bytes", withWord(44, 0x0400_ffff), /runs past the type section/],
  ])("%s: a FormatError that says so", (_, bytes, message) => {
    expect(() => Btf.parse(bytes)).toThrow(FormatError);
    expect(() => Btf.parse(bytes)).toThrow(message);
  });

  test("a longer header is skipped", () => {
    const bytes = good();
    const longer = new Uint8Array(bytes.length + 16);
    longer.set(bytes.subarray(0, 24));
    longer.set(bytes.subarray(24), 40);
    new DataView(longer.buffer).setUint32(4, 40, true);
    expect(Btf.parse(longer).find("s", BTF_KIND.STRUCT)).toBe(2);
  });

  test("a kind that the object itself describes is skipped", () => {
    const writer = new BtfWriter();
    writer.raw(23, "", 0, [1, 2, 3, 4, 5], 2);
    const int = writer.int("int", 4);
    const bytes = writer.bytes();
    const layoutBytes = 24 * 4;
    const withLayout = new Uint8Array(bytes.length + 8 + layoutBytes);
    withLayout.set(bytes.subarray(0, 24));
    withLayout.set(bytes.subarray(24), 32);
    const view = new DataView(withLayout.buffer);
    view.setUint32(4, 32, true);
    view.setUint32(24, bytes.length - 24, true);
    view.setUint32(28, layoutBytes, true);
    withLayout.set([4, 8], bytes.length + 8 + 23 * 4);
    const btf = Btf.parse(withLayout);
    expect(btf.kind(1)).toBe(23);
    expect(btf.find("int")).toBe(int);
  });

  test("a query for an id, string or kind that does not exist is an error", () => {
    const writer = new BtfWriter();
    const far = writer.pointer(77);
    const loop = writer.typedef("loop", 2);
    const nameless = writer.raw(BTF_KIND.TYPEDEF, "", far);
    const bytes = writer.bytes();
    new DataView(bytes.buffer).setUint32(24 + 2 * 12, 9999, true);
    const btf = Btf.parse(bytes);
    expect(() => btf.kind(btf.referenced(far))).toThrow("type 77 does not exist");
    expect(() => btf.resolve(loop)).toThrow("its chain of typedefs and modifiers is longer than 32");
    expect(() => btf.sizeOf(loop)).toThrow(FormatError);
    expect(() => btf.typeName(nameless)).toThrow("string 9999 is outside");
    expect(() => btf.array(far)).toThrow("it is a PTR, not a ARRAY");
    expect(() => btf.kind(-1)).toThrow(FormatError);
    expect(btf.find("absent")).toBeUndefined();
  });

  test("nested arrays saturate instead of overflowing", () => {
    const writer = new BtfWriter();
    let id = writer.int("int", 4);
    for (let n = 0; n < 20; n++) id = writer.array(id, 0xffff_ffff);
    expect(Btf.parse(writer.bytes()).sizeOf(id)).toBe(Number.MAX_SAFE_INTEGER);
    for (let n = 0; n < 20; n++) id = writer.array(id, 2);
    expect(() => Btf.parse(writer.bytes()).sizeOf(id)).toThrow("nest deeper");
  });
});
