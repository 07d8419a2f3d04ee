/** Preallocated hash tables: the elements are contiguous in scattered pages, and some of them cross a page boundary. */
import { describe, expect, test } from "bun:test";
import { readContents } from "../../src/guest/bpf/maps/contents.ts";
import { PhysicalMemory, windowOf } from "../../src/guest/image/physical.ts";
import { GuestMemory } from "../../src/guest/memory/memory.ts";
import { PageTables } from "../../src/guest/memory/mmu.ts";
import { fromBigInt } from "../../src/guest/memory/pointer.ts";
import { MapType } from "../../src/uapi/names.ts";
import { BUCKET, ELEM, HTAB, MapMachine } from "./map-machine.ts";
import { hex, type Walked, walk } from "./map-walk.ts";

const PAGE = 4096;
const AREA = 0xffff_c900_0000_0000n;
/** 104 bytes: elements cross pages at their hash, key and value. */
const VALUE_BYTES = 64;
const STRIDE = ELEM.key + 8 + VALUE_BYTES;

class Table extends MapMachine {
  readonly pages: readonly number[];
  readonly bucketCount: number;

  /** `count` elements of keys from 0, each in the bucket of its key; chains are in descending order. */
  constructor(count: number, bucketCount: number) {
    super({ type: MapType.hash, maxEntries: count, valueSize: VALUE_BYTES });
    const { machine } = this;
    this.bucketCount = bucketCount;
    const pageCount = Math.ceil((count * STRIDE) / PAGE);
    const start = machine.allocate(pageCount * PAGE, PAGE);
    this.pages = Array.from({ length: pageCount }, (_, page) => start + (pageCount - 1 - page) * PAGE);
    for (const [page, physical] of this.pages.entries()) machine.map(AREA + BigInt(page * PAGE), physical);
    const buckets = machine.allocate(bucketCount * BUCKET.size);
    this.pointer(this.at + HTAB.buckets, buckets);
    this.pointer(this.at + HTAB.elems, AREA);
    this.u32(this.at + HTAB.n_buckets, bucketCount);
    for (let bucket = 0; bucket < bucketCount; bucket++) {
      let next = BigInt(bucket * 2 + 1);
      for (let key = bucket; key < count; key += bucketCount) {
        machine.writeU64(this.byte(key * STRIDE + ELEM.node), next);
        this.u32(this.byte(key * STRIDE + ELEM.hash), key);
        this.u32(this.byte(key * STRIDE + ELEM.key), key);
        for (let n = 0; n < VALUE_BYTES; n += 4)
          this.u32(this.byte(key * STRIDE + ELEM.key + 8 + n), key + n);
        next = AREA + BigInt(key * STRIDE);
      }
      machine.writeU64(buckets + bucket * BUCKET.size + BUCKET.first, next);
    }
  }

  /** The physical address of a byte of the area. */
  byte(offset: number): number {
    return this.pages[Math.floor(offset / PAGE)]! + (offset % PAGE);
  }

  walk(): Walked {
    return walk(readContents(this.kernel, this.map));
  }
}

const words = (...values: number[]): string => hex(new Uint8Array(new Uint32Array(values).buffer));
const pair = (key: number): string =>
  `${words(key)}=${words(...Array.from({ length: VALUE_BYTES / 4 }, (_, n) => key + 4 * n))}`;

/** In the order of a walk. */
function keysOf(count: number, bucketCount: number): number[] {
  const keys = Array.from({ length: count }, (_, key) => key);
  return keys.sort((a, b) => (a % bucketCount) - (b % bucketCount) || b - a);
}

describe("a preallocated hash", () => {
  test.each([
    [1, 4],
    [300, 512],
    [1000, 1024],
    [1000, 256],
    [1000, 4],
    [9000, 8192],
  ])("%i elements in %i buckets are read whole, even those that cross pages", (count, bucketCount) => {
    const { pairs, complete, skipped } = new Table(count, bucketCount).walk();
    expect(skipped).toEqual({});
    expect(complete).toBe(true);
    expect(pairs).toEqual(keysOf(count, bucketCount).map(pair));
  });

  test.each([
    [300, 512],
    [9000, 8192],
  ])(
    "of %i elements in %i buckets, those in an absent page, and those after them in their chains, are skipped",
    (count, bucketCount) => {
      const table = new Table(count, bucketCount);
      table.machine.unmap(AREA + BigInt(2 * PAGE), "PTE");
      const { pairs, complete } = table.walk();
      const isWhole = (key: number): boolean => (key + 1) * STRIDE <= 2 * PAGE || key * STRIDE >= 3 * PAGE;
      expect(complete).toBe(false);
      expect(pairs).toEqual(keysOf(count, bucketCount).filter(isWhole).map(pair));
    },
  );

  test.each([
    [300, 512],
    [9000, 8192],
  ])("%i elements in %i buckets are read whole if they are in two windows", (count, bucketCount) => {
    const table = new Table(count, bucketCount);
    const { machine } = table;
    const middle = table.pages[Math.floor(table.pages.length / 3)]!;
    const physical = new PhysicalMemory([
      windowOf(0, machine.bytes.subarray(0, middle)),
      windowOf(middle, machine.bytes.subarray(middle)),
    ]);
    const memory = new GuestMemory(physical, new PageTables(physical, machine.mode, machine.root));
    memory.addLinear(fromBigInt(machine.directBase), 0, machine.bytes.length);
    const { pairs, complete, skipped } = walk(readContents({ ...table.kernel, memory }, table.map));
    expect(skipped).toEqual({});
    expect(complete).toBe(true);
    expect(pairs).toEqual(keysOf(count, bucketCount).map(pair));
  });

  describe.each([0n, 0xdead_0000_0000_0000n, AREA + 0x5000n, AREA - 0x1000_0000n])(
    "all elements are read if elems is %i, which is not their area",
    (elems) => {
      test.each([
        [300, 256],
        [9000, 8192],
      ])("%i elements in %i buckets", (count, bucketCount) => {
        const table = new Table(count, bucketCount);
        table.pointer(table.at + HTAB.elems, elems);
        const { pairs, complete } = table.walk();
        expect(complete).toBe(true);
        expect(pairs).toEqual(keysOf(count, bucketCount).map(pair));
      });
    },
  );
});
