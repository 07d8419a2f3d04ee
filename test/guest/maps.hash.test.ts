/** Hash maps in states that no kernel produces on demand: torn, reused, circular, with unbounded counts. */
import { describe, expect, test } from "bun:test";
import { ChainCursor } from "../../src/guest/bpf/maps/chain-cursor.ts";
import { lookup, readContents } from "../../src/guest/bpf/maps/contents.ts";
import { add } from "../../src/guest/memory/pointer.ts";
import { MapType } from "../../src/uapi/names.ts";
import { BUCKET, ELEM, HTAB, MapMachine } from "./map-machine.ts";
import { hex, type Walked, walk } from "./map-walk.ts";

/** A hash of 4-byte keys and 8-byte values with four buckets. The hash of a key is the key. */
class Hash extends MapMachine {
  readonly buckets: number;

  constructor(maxEntries = 16, sizeBytes?: number) {
    super({ type: MapType.hash, maxEntries }, sizeBytes);
    this.buckets = this.machine.allocate(4 * BUCKET.size);
    this.pointer(this.at + HTAB.buckets, this.buckets);
    this.u32(this.at + HTAB.n_buckets, 4);
    for (let bucket = 0; bucket < 4; bucket++) this.head(bucket, this.end(bucket));
  }

  end(bucket: number): bigint {
    return BigInt(bucket * 2 + 1);
  }

  head(bucket: number, to: number | bigint): void {
    this.pointer(this.buckets + bucket * BUCKET.size + BUCKET.first, to);
  }

  /** Adds an element at a separate place. If `hash` is not the key, the element belongs to another map. */
  element(key: number, next: number | bigint, hash: number = key): number {
    const at = this.machine.allocate(ELEM.key + 16);
    this.pointer(at + ELEM.node, next);
    this.u32(at + ELEM.hash, hash);
    this.u32(at + ELEM.key, key);
    this.u32(at + ELEM.key + 8, key + 0x100);
    return at;
  }

  walk(): Walked {
    return walk(readContents(this.kernel, this.map));
  }
}

const pair = (key: number): string => {
  const word = (value: number): string => hex(new Uint8Array(new Uint32Array([value]).buffer));
  return `${word(key)}=${word(key + 0x100)}00000000`;
};

describe("hash", () => {
  test("chains are walked bucket by bucket, to the marker", () => {
    const hash = new Hash();
    hash.head(1, hash.element(1, hash.element(5, hash.element(9, hash.element(13, hash.end(1))))));
    hash.head(3, hash.element(3, hash.end(3)));
    expect(hash.walk()).toEqual({
      pairs: [1, 5, 9, 13, 3].map(pair),
      skipped: {},
      stopped: "",
      complete: true,
    });
  });

  test.each([
    ["itself", [1]],
    ["the first of two", [1, 5]],
    ["the first of three", [1, 5, 9]],
    ["the first of five", [1, 5, 9, 13, 17]],
  ] as const)("a chain whose last element points to %s gives each element once", (_, keys) => {
    const hash = new Hash();
    const last = hash.element(keys.at(-1)!, 0n);
    let first = last;
    for (const key of keys.slice(0, -1).toReversed()) first = hash.element(key, first);
    hash.pointer(last + ELEM.node, first);
    hash.head(1, first);
    hash.head(2, hash.element(2, hash.end(2)));
    expect(hash.walk()).toEqual({
      pairs: [...keys, 2].map(pair),
      skipped: { cycle: 1 },
      stopped: "",
      complete: false,
    });
  });

  test("a chain that ends in a ring gives each element once", () => {
    const hash = new Hash();
    const last = hash.element(17, 0n);
    const ring = hash.element(13, last);
    hash.pointer(last + ELEM.node, ring);
    hash.head(1, hash.element(1, hash.element(5, hash.element(9, ring))));
    expect(hash.walk().pairs).toEqual([1, 5, 9, 13, 17].map(pair));
  });

  test("an element at which the image ends, within a page, is left out", () => {
    const hash = new Hash(16, (4 << 20) - 4096 + 512);
    const at = hash.machine.bytes.length - 16;
    hash.pointer(at + ELEM.node, hash.end(1));
    hash.head(1, at);
    hash.head(2, hash.element(2, hash.end(2)));
    expect(hash.walk()).toEqual({
      pairs: [pair(2)],
      skipped: { "not-present": 1 },
      stopped: "",
      complete: false,
    });
  });

  test("a chain that was cut at NULL ends there", () => {
    const hash = new Hash();
    hash.head(1, hash.element(1, 0n));
    hash.head(2, hash.element(2, hash.end(2)));
    expect(hash.walk().pairs).toEqual([1, 2].map(pair));
  });

  test("a first element whose hash belongs to another bucket is counted", () => {
    const hash = new Hash();
    hash.head(1, hash.element(1, hash.end(1), 6));
    hash.head(2, hash.element(2, hash.end(2)));
    expect(hash.walk()).toEqual({
      pairs: [pair(2)],
      skipped: { recycled: 1 },
      stopped: "",
      complete: false,
    });
  });

  test("an element whose hash belongs to another bucket is reused memory: the rest of the chain is skipped", () => {
    const hash = new Hash();
    hash.head(1, hash.element(1, hash.element(5, hash.element(9, hash.end(1)), 6)));
    hash.head(2, hash.element(2, hash.end(2)));
    expect(hash.walk()).toEqual({
      pairs: [1, 2].map(pair),
      skipped: { recycled: 1 },
      stopped: "",
      complete: false,
    });
  });

  test.each([
    ["outside the image", 0xffff_8880_7000_0000n],
    ["to no kernel address", 0x1234_5678n],
    ["to an unmapped one", 0xffff_c900_0000_0000n],
  ])("a pointer %s ends its chain and no other", (_, to) => {
    const hash = new Hash();
    hash.head(1, hash.element(1, to));
    hash.head(2, hash.element(2, hash.end(2)));
    expect(hash.walk()).toEqual({
      pairs: [1, 2].map(pair),
      skipped: { "not-present": 1 },
      stopped: "",
      complete: false,
    });
  });

  test("an element whose value is past the end of the image is skipped, and its chain continues", () => {
    const hash = new Hash();
    const last = hash.machine.bytes.length - ELEM.key - 4;
    hash.pointer(last + ELEM.node, hash.element(5, hash.end(1)));
    hash.u32(last + ELEM.hash, 1);
    hash.head(1, last);
    expect(hash.walk()).toEqual({
      pairs: [pair(5)],
      skipped: { "not-present": 1 },
      stopped: "",
      complete: false,
    });
  });

  test("more elements than max_entries end the walk", () => {
    const hash = new Hash(2);
    hash.head(1, hash.element(1, hash.element(5, hash.element(9, hash.element(13, hash.end(1))))));
    const { pairs, stopped } = hash.walk();
    // One more element per CPU: `extra_elems`.
    expect(pairs).toEqual([1, 5, 9].map(pair));
    expect(stopped).toContain("more elements than max_entries");
  });

  test("a table whose bucket count is not a power of two is not walked", () => {
    const hash = new Hash();
    hash.u32(hash.at + HTAB.n_buckets, 5);
    const contents = readContents(hash.kernel, hash.map);
    expect(contents).toMatchObject({ kind: "unreadable", why: { reason: "corrupt" } });
  });

  test.each([
    ["2^31 buckets that are not there", 2 ** 31, 0xffff_c900_0000_0000n],
    ["2^31 buckets of which the image holds some", 2 ** 31, 0xffff_8880_0030_0000n],
  ])("the walk over %s ends soon", (_, count, at) => {
    const hash = new Hash(2 ** 31);
    hash.u32(hash.at + HTAB.n_buckets, count);
    hash.pointer(hash.at + HTAB.buckets, at);
    const { pairs, complete } = hash.walk();
    expect(pairs).toEqual([]);
    expect(complete).toBe(false);
  });

  test("keys and values of 4 GiB are not allocated", () => {
    const hash = new Hash();
    hash.head(1, hash.element(1, hash.end(1)));
    const map = { ...hash.map, info: { ...hash.info, keySize: 2 ** 32 - 1, valueSize: 2 ** 32 - 1 } };
    const { pairs, skipped } = walk(readContents(hash.kernel, map));
    expect(pairs).toEqual([]);
    expect(skipped).toEqual({ "not-present": 1 });
  });

  test("a look-up finds the value of a key, and reports a missing key", () => {
    const hash = new Hash();
    hash.head(1, hash.element(1, hash.element(5, hash.end(1))));
    const key = (n: number): Uint8Array => Uint8Array.of(n, 0, 0, 0);
    expect(lookup(hash.kernel, hash.map, key(5))).toEqual({
      ok: true,
      value: Uint8Array.of(5, 1, 0, 0, 0, 0, 0, 0),
    });
    expect(lookup(hash.kernel, hash.map, key(9))).toMatchObject({
      ok: false,
      why: { reason: "not-present" },
    });
    expect(lookup(hash.kernel, hash.map, Uint8Array.of(5))).toMatchObject({
      why: { reason: "out-of-range" },
    });
  });
});

/** Buckets are one pointer whose bit 0 is a lock. Elements are a pointer, a key of 4 bytes and a value of 8. */
describe("a table that grows is walked together with its second table", () => {
  test.each([
    [4, 8192],
    [8192, 4],
    [64, 16_384],
    [8192, 16_384],
  ])("of %d and %d buckets", (one, other) => {
    const machine = new MapMachine({ type: MapType.rhash, maxEntries: 4096 });
    const buckets = machine.machine.allocate(8 * (one + other), 4096);
    const wanted: string[] = [];
    const tables = [one, other].map((count, table) => {
      const start = table === 0 ? 0 : 8 * one;
      for (let bucket = 0; bucket < count; bucket += 3) {
        // Chains of two elements, so that the second ones are prefetched.
        const keys = [table * 100_000 + 2 * bucket, table * 100_000 + 2 * bucket + 1];
        let next = 0;
        for (const key of keys.toReversed()) {
          const at = machine.machine.allocate(24);
          if (next !== 0) machine.pointer(at, next);
          machine.u32(at + 8, key);
          machine.u32(at + 16, key + 0x100);
          next = at;
        }
        machine.pointer(buckets + start + 8 * bucket, machine.machine.direct(next) | 1n);
        wanted.push(...keys.map(pair));
      }
      const { at } = machine.map;
      return { at: add(at, buckets + start - machine.at), count, bytesEach: 8, first: 0, hasLockBit: true };
    });
    const info = { ...machine.info, maxEntries: wanted.length };
    const layout = { node: 0, hash: -1, key: 8, value: 16, reader: undefined, cpuCount: 0 };
    const cursor = new ChainCursor(machine.kernel, { ...machine.map, info }, tables, layout);
    expect(walk({ kind: "entries", cursor })).toEqual({
      pairs: wanted,
      skipped: {},
      stopped: "",
      complete: true,
    });
  });
});
