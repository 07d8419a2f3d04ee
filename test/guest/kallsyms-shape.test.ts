/** Tables of kallsyms in memory that somebody made: none is taken, and the search ends. Real ones are in real.test.ts. */
import { expect, test } from "bun:test";
import { PhysicalMemory, windowOf } from "../../src/guest/image/physical.ts";
import { searchKallsyms } from "../../src/guest/kernel/kallsyms-search.ts";
import { type KallsymsTables, tablesBetween } from "../../src/guest/kernel/kallsyms-shape.ts";
import { GuestMemory } from "../../src/guest/memory/memory.ts";
import { PageTables, x86Paging } from "../../src/guest/memory/mmu.ts";

const DIGITS = Buffer.from("0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0", "latin1");

function search(bytes: Uint8Array): KallsymsTables[] {
  const memory = new PhysicalMemory([windowOf(0, bytes)]);
  return [...tablesBetween(memory, 0, bytes.length)];
}

/** Tokens of one character from code 0 to 255, and their index, as `scripts/kallsyms.c` writes them. */
function tokens(): Buffer {
  const text = Buffer.concat(
    Array.from({ length: 256 }, (_, code) => Buffer.from([code === 0 ? 1 : code, 0])),
  );
  const index = Buffer.alloc(512);
  for (let token = 0; token < 256; token++) index.writeUInt16LE(2 * token, 2 * token);
  return Buffer.concat([text, index]);
}

test("digits alone are no tables, however often they lie there", () => {
  const bytes = Buffer.alloc(4 * 2 ** 20);
  for (let at = 0; at + DIGITS.length < bytes.length; at += 64) DIGITS.copy(bytes, at);
  expect(search(bytes)).toEqual([]);
});

test("tokens without names before them are no tables, and what looks like many markers ends the search", () => {
  const bytes = Buffer.alloc(16 * 2 ** 20);
  // A zero and a step, over and over: each pair may begin a list of markers.
  for (let at = 0; at < bytes.length - 2 ** 20; at += 8) bytes.writeUInt32LE(1024, at + 4);
  for (let at = bytes.length - 2 ** 20; at + 1024 < bytes.length; at += 1024) tokens().copy(bytes, at);
  expect(search(bytes)).toEqual([]);
});

test("tables that are cut off at either end of memory are none", () => {
  const bytes = tokens();
  for (const cut of [0, 1, 96, 97, 512, 1000]) {
    expect(search(bytes.subarray(cut))).toEqual([]);
    expect(search(bytes.subarray(0, bytes.length - cut))).toEqual([]);
  }
});

test("an image without tables says so, and what to do", () => {
  const physical = new PhysicalMemory([windowOf(0, Buffer.alloc(2 ** 20))]);
  const memory = new GuestMemory(physical, new PageTables(physical, x86Paging(4), 0));
  const image = 0xffff_ffff_8000_0000n;
  expect(() => searchKallsyms(memory, physical, image, image)).toThrow(
    "find the kernel's symbols (kallsyms): VMCOREINFO does not say where it lies, and none was found in the kernel's image",
  );
});
