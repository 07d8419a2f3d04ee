/** Constructed tables of kallsyms in memory: invalid ones are rejected, and the search ends. Real ones are in real.test.ts. */
import { describe, expect, test } from "bun:test";
import { PhysicalMemory, windowOf } from "../../src/guest/image/physical.ts";
import { searchKallsyms } from "../../src/guest/kernel/kallsyms-search.ts";
import { type KallsymsTables, tablesBetween } from "../../src/guest/kernel/kallsyms-shape.ts";
import { rebuildVmcoreinfo } from "../../src/guest/kernel/rebuilt.ts";
import { GuestMemory } from "../../src/guest/memory/memory.ts";
import { PageTables, x86Paging } from "../../src/guest/memory/mmu.ts";

const DIGITS = Buffer.from("0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0", "latin1");

function search(bytes: Uint8Array): KallsymsTables[] {
  const memory = new PhysicalMemory([windowOf(0, bytes)]);
  return [...tablesBetween(memory, 0, bytes.length)];
}

/** Tokens of one character for the codes 0 to 255, and their index, in the format of `scripts/kallsyms.c`. */
function tokens(): Buffer {
  const text = Buffer.concat(
    Array.from({ length: 256 }, (_, code) => Buffer.from([code === 0 ? 1 : code, 0])),
  );
  const index = Buffer.alloc(512);
  for (let token = 0; token < 256; token++) index.writeUInt16LE(2 * token, 2 * token);
  return Buffer.concat([text, index]);
}

test("the tokens of digits alone are not tables, however often they occur", () => {
  const bytes = Buffer.alloc(4 * 2 ** 20);
  for (let at = 0; at + DIGITS.length < bytes.length; at += 64) DIGITS.copy(bytes, at);
  expect(search(bytes)).toEqual([]);
});

test("tokens without names before them are not tables, and the search is bounded if many values look like markers", () => {
  const bytes = Buffer.alloc(16 * 2 ** 20);
  // Alternating zero and step: each pair may be the start of a list of markers.
  for (let at = 0; at < bytes.length - 2 ** 20; at += 8) bytes.writeUInt32LE(1024, at + 4);
  for (let at = bytes.length - 2 ** 20; at + 1024 < bytes.length; at += 1024) tokens().copy(bytes, at);
  expect(search(bytes)).toEqual([]);
});

test("tables that are cut off at an end of memory are rejected", () => {
  const bytes = tokens();
  for (const cut of [0, 1, 96, 97, 512, 1000]) {
    expect(search(bytes.subarray(cut))).toEqual([]);
    expect(search(bytes.subarray(0, bytes.length - cut))).toEqual([]);
  }
});

interface Form {
  readonly alignment: 4 | 8;
  /** Whether the offsets are before the count (until 6.3) or after the tokens. */
  readonly offsetsFirst: boolean;
  readonly hasBase: boolean;
  /** Position of the list of names in order. */
  readonly order: "none" | "before the tokens" | "last";
}

const FORMS: Readonly<Record<string, Form>> = {
  "5.10": { alignment: 8, offsetsFirst: true, hasBase: true, order: "none" },
  "6.2": { alignment: 8, offsetsFirst: true, hasBase: true, order: "before the tokens" },
  "6.4": { alignment: 8, offsetsFirst: false, hasBase: true, order: "last" },
  "7.2": { alignment: 4, offsetsFirst: false, hasBase: false, order: "last" },
};

/** Tables of `count` functions, 16 bytes apart, in the order of `write_src` of a release. */
function tablesOf(count: number, { alignment, offsetsFirst, hasBase, order }: Form): Uint8Array {
  const parts: Buffer[] = [Buffer.alloc(2 ** 16)];
  let size = 2 ** 16;
  const add = (part: Buffer, align: number = alignment): void => {
    const padding = Buffer.alloc((align - (size % align)) % align);
    parts.push(padding, part);
    size += padding.length + part.length;
  };
  const words = (values: readonly number[]): Buffer => {
    const bytes = Buffer.alloc(4 * values.length);
    for (const [index, value] of values.entries()) bytes.writeInt32LE(value | 0, 4 * index);
    return bytes;
  };
  const addOffsets = (): void => {
    const rule = (index: number): number => (hasBase ? -1 - 16 * index : 12 * index - 2 ** 20);
    add(words(Array.from({ length: count }, (_, index) => rule(index))));
    if (hasBase) add(Buffer.from("0000008affffffff", "hex"));
  };
  if (offsetsFirst) addOffsets();
  add(words([count]));
  const names = Array.from({ length: count }, (_, index) => Buffer.from(`\0tf${index}`, "latin1"));
  for (const name of names) name[0] = name.length - 1;
  const marks: number[] = [];
  let nameAt = 0;
  names.forEach((name, index) => {
    if (index % 256 === 0) marks.push(nameAt);
    nameAt += name.length;
  });
  add(Buffer.concat(names));
  add(words(marks));
  const sequences = Buffer.alloc(3 * count);
  for (let index = 0; index < count; index++) sequences.writeUIntBE(index, 3 * index, 3);
  if (order === "before the tokens") add(sequences);
  add(tokens().subarray(0, 512));
  add(tokens().subarray(512));
  if (!offsetsFirst) addOffsets();
  if (order === "last") add(sequences);
  add(Buffer.alloc(4096));
  return Buffer.concat(parts);
}

describe.each(Object.entries(FORMS))("tables in the order of %s", (_, form) => {
  test.each([512, 513, 1001, 70_002])("are found by their shape: %p symbols", (count) => {
    const found = search(tablesOf(count, form));
    expect(found).toHaveLength(1);
    expect(found[0]!.count).toBe(count);
    expect(found[0]!.base === undefined).toBe(!form.hasBase);
  });

  test("without variables are an error if VMCOREINFO must be rebuilt from them", () => {
    const memory = new PhysicalMemory([windowOf(0, tablesOf(1000, form))]);
    const [tables] = [...tablesBetween(memory, 0, memory.end)];
    expect(rebuildVmcoreinfo(memory, undefined, tables!, () => {})).toBe(
      "its symbol table has no variables: the kernel was built without CONFIG_KALLSYMS_ALL",
    );
  });

  test("that are damaged are rejected, or give other symbols, and the search ends", () => {
    const bytes = tablesOf(600, form);
    let state = 1;
    for (let round = 0; round < 300; round++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const copy = Uint8Array.from(bytes);
      copy[2 ** 16 + (state % (copy.length - 2 ** 16))]! ^= 1 << (state & 7);
      expect(search(copy).length).toBeLessThan(2);
    }
  });
});

test("an image without tables is an error with a hint", () => {
  const physical = new PhysicalMemory([windowOf(0, Buffer.alloc(2 ** 20))]);
  const memory = new GuestMemory(physical, new PageTables(physical, x86Paging(4), 0));
  const image = 0xffff_ffff_8000_0000n;
  expect(() => searchKallsyms(memory, physical, image, image)).toThrow(
    "find the kernel's symbols (kallsyms): VMCOREINFO does not have their address, and none was found in the kernel's image",
  );
});
