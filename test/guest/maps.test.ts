/** Maps that no kernel shows on demand: torn, recycled, bent into rings, with counts that nothing bounds. */
import { describe, expect, test } from "bun:test";
import { arenaPages, lookup, readArray, readContents, readValue } from "../../src/guest/maps/contents.ts";
import type { MapContents } from "../../src/state.ts";
import { MapType } from "../../src/uapi/names.ts";
import {
  ARENA,
  ARRAY,
  BUCKET,
  ELEM,
  HTAB,
  MapMachine,
  QUEUE,
  RANGE,
  RINGBUF,
  RINGBUF_MAP,
  SELEM,
  STORAGE_BUCKET,
  STORAGE_MAP,
  STORAGE_OWNER,
  TASK,
  TRIE,
  TRIE_NODE,
  VM,
} from "./map-machine.ts";

interface Walked {
  readonly pairs: string[];
  readonly skipped: Record<string, number>;
  readonly stopped: string;
  readonly complete: boolean;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

function walk(contents: MapContents): Walked {
  if (contents.kind !== "entries") throw new Error(JSON.stringify(contents));
  const { cursor } = contents;
  const pairs: string[] = [];
  while (cursor.next()) {
    const key = cursor.keyBytes.subarray(cursor.keyOffset, cursor.keyOffset + cursor.keySize);
    const value = cursor.valueBytes.subarray(cursor.valueOffset, cursor.valueOffset + cursor.valueSize);
    pairs.push(`${hex(key)}=${hex(value)}`);
  }
  expect(cursor.next()).toBe(false);
  const { skipped, stopped, complete } = cursor.end;
  return { pairs, skipped: Object.fromEntries(skipped), stopped, complete };
}

/** A hash of 4-byte keys and 8-byte values with four buckets; a key's hash is the key. */
class Hash extends MapMachine {
  readonly buckets: number;

  constructor(maxEntries = 16) {
    super({ type: MapType.hash, maxEntries });
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

  /** An element at a place of its own; `hash` other than the key's makes it another map's. */
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

  test("a ring behind a straight piece gives each element once", () => {
    const hash = new Hash();
    const last = hash.element(17, 0n);
    const ring = hash.element(13, last);
    hash.pointer(last + ELEM.node, ring);
    hash.head(1, hash.element(1, hash.element(5, hash.element(9, ring))));
    expect(hash.walk().pairs).toEqual([1, 5, 9, 13, 17].map(pair));
  });

  test("a chain that was cut at NULL ends there", () => {
    const hash = new Hash();
    hash.head(1, hash.element(1, 0n));
    hash.head(2, hash.element(2, hash.end(2)));
    expect(hash.walk().pairs).toEqual([1, 2].map(pair));
  });

  test("an element whose hash belongs to another bucket is recycled memory: the chain is left", () => {
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

  test("an element whose value lies past the image's end is skipped, and its chain goes on", () => {
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
    // One more for each CPU: `extra_elems`.
    expect(pairs).toEqual([1, 5, 9].map(pair));
    expect(stopped).toContain("more elements than the map takes");
  });

  test("a bucket count that is no power of two is not walked", () => {
    const hash = new Hash();
    hash.u32(hash.at + HTAB.n_buckets, 5);
    const contents = readContents(hash.kernel, hash.map);
    expect(contents).toMatchObject({ kind: "unreadable", why: { reason: "corrupt" } });
  });

  test.each([
    ["2^31 buckets that are not there", 2 ** 31, 0xffff_c900_0000_0000n],
    ["2^31 buckets of which the image holds some", 2 ** 31, 0xffff_8880_0030_0000n],
  ])("%s end soon", (_, count, at) => {
    const hash = new Hash(2 ** 31);
    hash.u32(hash.at + HTAB.n_buckets, count);
    hash.pointer(hash.at + HTAB.buckets, at);
    const { pairs, complete } = hash.walk();
    expect(pairs).toEqual([]);
    expect(complete).toBe(false);
  });

  test("keys and values of 4 GiB are no reason to allocate them", () => {
    const hash = new Hash();
    hash.head(1, hash.element(1, hash.end(1)));
    const map = { at: hash.map.at, info: { ...hash.info, keySize: 2 ** 32 - 1, valueSize: 2 ** 32 - 1 } };
    const { pairs, skipped } = walk(readContents(hash.kernel, map));
    expect(pairs).toEqual([]);
    expect(skipped).toEqual({ "not-present": 1 });
  });

  test("a look-up finds a key's value, and says so where there is none", () => {
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

describe("array", () => {
  const array = (maxEntries: number, valueSize: number): MapMachine =>
    new MapMachine({ type: MapType.array, maxEntries, valueSize });

  test("values stand at multiples of 8 bytes", () => {
    const three = array(2, 3);
    three.u32(three.at + ARRAY.value, 0x0403_0201);
    three.u32(three.at + ARRAY.value + 8, 0x0807_0605);
    expect(walk(readContents(three.kernel, three.map)).pairs).toEqual(["00000000=010203", "01000000=050607"]);
    expect(readArray(three.kernel, three.map, 1)).toEqual({ ok: true, value: Uint8Array.of(5, 6, 7) });
    expect(readArray(three.kernel, three.map, 2)).toMatchObject({ why: { reason: "out-of-range" } });
    expect(readValue(three.kernel, three.map, 1, 2)).toEqual({ ok: true, value: Uint8Array.of(2, 3) });
    expect(readValue(three.kernel, three.map, 2, 2)).toMatchObject({ why: { reason: "out-of-range" } });
  });

  test("max_entries of 2^32-1 end where the image does", () => {
    const huge = array(2 ** 32 - 1, 8);
    const { pairs, complete, stopped } = walk(readContents(huge.kernel, huge.map));
    expect(pairs.length).toBeLessThanOrEqual(huge.machine.bytes.length / 8);
    expect(complete).toBe(false);
    expect(stopped).not.toBe("");
  });

  test("a value of 4 GiB is an answer, not an allocation", () => {
    const huge = array(1, 2 ** 32 - 1);
    expect(readArray(huge.kernel, huge.map, 0)).toMatchObject({ why: { reason: "not-present" } });
    expect(readValue(huge.kernel, huge.map, 0, 2 ** 32 - 1)).toMatchObject({
      why: { reason: "not-present" },
    });
    expect(walk(readContents(huge.kernel, huge.map)).pairs).toEqual([]);
  });
});

/** A trie of IPv4 prefixes with 4-byte values. */
class Trie extends MapMachine {
  constructor() {
    super({ type: MapType.lpm_trie, keySize: 8, valueSize: 4 });
  }

  root(to: number): void {
    this.pointer(this.at + TRIE.root, to);
  }

  node(prefix: number, bytes: readonly number[], children: readonly number[] = [], flags = 0): number {
    const at = this.machine.allocate(TRIE_NODE.data + 8);
    this.u32(at + TRIE_NODE.prefixlen, prefix);
    this.u32(at + TRIE_NODE.flags, flags);
    children.forEach((child, n) => {
      if (child !== 0) this.pointer(at + TRIE_NODE.child + 8 * n, child);
    });
    this.machine.write(at + TRIE_NODE.data, Uint8Array.from([...bytes, prefix, 0, 0, 0]));
    return at;
  }
}

describe("lpm trie", () => {
  test("the more specific come before the less, and nodes that only branch are left out", () => {
    const trie = new Trie();
    const low = trie.node(24, [192, 168, 0, 0]);
    const middle = trie.node(23, [192, 168, 0, 0], [low, trie.node(24, [192, 168, 1, 0])], 1);
    trie.root(trie.node(16, [192, 168, 0, 0], [middle, trie.node(24, [192, 168, 128, 0])]));
    expect(walk(readContents(trie.kernel, trie.map)).pairs.map((text) => text.slice(0, 16))).toEqual([
      "18000000c0a80000",
      "18000000c0a80100",
      "18000000c0a88000",
      "10000000c0a80000",
    ]);
    const address = Uint8Array.of(32, 0, 0, 0, 192, 168, 1, 77);
    expect(lookup(trie.kernel, trie.map, address)).toEqual({ ok: true, value: Uint8Array.of(24, 0, 0, 0) });
    const other = Uint8Array.of(32, 0, 0, 0, 192, 168, 2, 77);
    expect(lookup(trie.kernel, trie.map, other)).toEqual({ ok: true, value: Uint8Array.of(16, 0, 0, 0) });
    const none = Uint8Array.of(32, 0, 0, 0, 10, 0, 0, 1);
    expect(lookup(trie.kernel, trie.map, none)).toMatchObject({ why: { reason: "not-present" } });
  });

  test("a child whose prefix is not longer than its parent's leads back up: it is left", () => {
    const trie = new Trie();
    const root = trie.node(16, [10, 0, 0, 0]);
    const child = trie.node(24, [10, 0, 1, 0], [root]);
    trie.pointer(root + TRIE_NODE.child, child);
    trie.root(root);
    const { pairs, skipped } = walk(readContents(trie.kernel, trie.map));
    expect(pairs).toHaveLength(2);
    expect(skipped).toEqual({ recycled: 1 });
  });

  test("a ladder on which both children are the same node ends by the map's own bound", () => {
    const trie = new Trie();
    let below = trie.node(32, [10, 0, 0, 0]);
    for (let prefix = 31; prefix >= 0; prefix--) below = trie.node(prefix, [10, 0, 0, 0], [below, below]);
    trie.root(below);
    const { stopped } = walk(readContents(trie.kernel, trie.map));
    expect(stopped).toContain("more nodes than the map takes");
  });
});

describe("queue and stack", () => {
  const machine = (type: number, head: number, tail: number): MapMachine => {
    const made = new MapMachine({ type, keySize: 0, valueSize: 4, maxEntries: 3 });
    made.u32(made.at + QUEUE.head, head);
    made.u32(made.at + QUEUE.tail, tail);
    made.u32(made.at + QUEUE.size, 4);
    for (let n = 0; n < 4; n++) made.u32(made.at + QUEUE.elements + 4 * n, 10 + n);
    return made;
  };
  const values = (made: MapMachine): number[] => {
    const contents = readContents(made.kernel, made.map);
    if (contents.kind !== "records") throw new Error(JSON.stringify(contents));
    return contents.records.map(({ value }) => value[0]!);
  };

  test("a wrapped queue gives its oldest value first, a wrapped stack its youngest", () => {
    expect(values(machine(MapType.queue, 1, 3))).toEqual([13, 10]);
    expect(values(machine(MapType.stack, 1, 3))).toEqual([10, 13]);
    expect(values(machine(MapType.queue, 2, 2))).toEqual([]);
  });

  test.each([
    [4, 0],
    [0, 0xffff_ffff],
  ])("a head of %d and a tail of %d do not fit four places", (head, tail) => {
    const torn = machine(MapType.queue, head, tail);
    expect(readContents(torn.kernel, torn.map)).toMatchObject({
      kind: "unreadable",
      why: { reason: "corrupt" },
    });
  });
});

/** A ring of one page, whose page is mapped twice. */
class Ring extends MapMachine {
  readonly data: number;
  readonly ring: number;

  constructor(consumer: number, producer: number) {
    super({ type: MapType.ringbuf, keySize: 0, valueSize: 0, maxEntries: 4096 });
    const base = 0xffff_c900_0000_0000n;
    this.ring = this.machine.allocate(4096, 4096);
    const [consumerPage, producerPage] = [0, 1].map(() => this.machine.allocate(4096, 4096)) as [
      number,
      number,
    ];
    this.data = this.machine.allocate(4096, 4096);
    [this.ring, consumerPage, producerPage, this.data, this.data].forEach((page, n) => {
      this.machine.map(base + BigInt(n * 4096), page);
    });
    this.pointer(this.at + RINGBUF_MAP.rb, base);
    this.machine.writeU64(this.ring + RINGBUF.mask, 4095n);
    this.machine.writeU64(consumerPage, BigInt(consumer));
    this.machine.writeU64(producerPage, BigInt(producer));
  }

  record(position: number, header: number, first = 0): void {
    this.u32(this.data + (position % 4096), header);
    this.u32(this.data + ((position + 8) % 4096), first);
  }
}

describe("ring buffer", () => {
  test("records lie between the positions, across the ring's end, with their flags in words", () => {
    const ring = new Ring(4080, 4080 + 24 + 16 + 16);
    ring.record(4080, 12, 0x11);
    ring.record(4104, 0x8000_0004, 0x22);
    ring.record(4120, 0x4000_0004, 0x33);
    const contents = readContents(ring.kernel, ring.map);
    if (contents.kind !== "records") throw new Error(JSON.stringify(contents));
    expect(contents.records.map(({ value, note }) => [value.length, value[0], note])).toEqual([
      [12, 0x11, undefined],
      [4, 0x22, "busy"],
      [4, 0x33, "discarded"],
    ]);
    expect(contents.end.complete).toBe(true);
  });

  test("a record longer than what was produced ends the walk", () => {
    const ring = new Ring(0, 64);
    ring.record(0, 8, 1);
    ring.record(16, 4000);
    const contents = readContents(ring.kernel, ring.map);
    if (contents.kind !== "records") throw new Error(JSON.stringify(contents));
    expect(contents.records).toHaveLength(1);
    expect(contents.end.stopped).toContain("longer than what is left");
  });

  test("positions further apart than the ring is long are not believed", () => {
    const ring = new Ring(0, 8192);
    expect(readContents(ring.kernel, ring.map)).toMatchObject({ why: { reason: "corrupt" } });
  });
});

/** Task storage with two buckets. */
class Storage extends MapMachine {
  readonly buckets: number;

  constructor() {
    super({ type: MapType.task_storage, valueSize: 4, maxEntries: 0 });
    this.buckets = this.machine.allocate(2 * STORAGE_BUCKET.size);
    this.pointer(this.at + STORAGE_MAP.buckets, this.buckets);
    this.u32(this.at + STORAGE_MAP.log, 1);
  }

  head(bucket: number, element: number): void {
    this.pointer(this.buckets + bucket * STORAGE_BUCKET.size + STORAGE_BUCKET.first, element + SELEM.node);
  }

  element(value: number, next: number | undefined, map: number = this.at): number {
    const at = this.machine.allocate(SELEM.data + 8);
    const task = this.machine.allocate(32);
    const storage = this.machine.allocate(32);
    this.u32(task + TASK.pid, 1000 + value);
    this.u32(task + TASK.tgid, 1000);
    this.machine.write(task + TASK.comm, Buffer.from("worker"));
    this.pointer(storage + STORAGE_OWNER, task);
    if (next !== undefined) this.pointer(at + SELEM.node, next + SELEM.node);
    this.pointer(at + SELEM.storage, storage);
    this.pointer(at + SELEM.smap, map);
    this.u32(at + SELEM.data, value);
    return at;
  }

  read(): { pids: number[]; skipped: Record<string, number> } {
    const contents = readContents(this.kernel, this.map);
    if (contents.kind !== "records") throw new Error(JSON.stringify(contents));
    const pids = contents.records.map(({ owner }) => (owner?.kind === "task" ? owner.pid : -1));
    return { pids, skipped: Object.fromEntries(contents.end.skipped) };
  }
}

describe("local storage", () => {
  test("each element leads to its task", () => {
    const storage = new Storage();
    storage.head(0, storage.element(1, storage.element(2, undefined)));
    storage.head(1, storage.element(3, undefined));
    expect(storage.read()).toEqual({ pids: [1001, 1002, 1003], skipped: {} });
  });

  test("a list that is a ring gives each element once", () => {
    const storage = new Storage();
    const last = storage.element(3, undefined);
    const first = storage.element(1, storage.element(2, last));
    storage.pointer(last + SELEM.node, first + SELEM.node);
    storage.head(0, first);
    expect(storage.read()).toEqual({ pids: [1001, 1002, 1003], skipped: { cycle: 1 } });
  });

  test("an element of another map ends its list: it was given to somebody else", () => {
    const storage = new Storage();
    storage.head(0, storage.element(1, storage.element(2, storage.element(3, undefined), 64)));
    expect(storage.read()).toEqual({ pids: [1001], skipped: { recycled: 1 } });
  });

  test("2^32-1 as the logarithm of the bucket count is not believed", () => {
    const storage = new Storage();
    storage.u32(storage.at + STORAGE_MAP.log, 0xffff_ffff);
    expect(readContents(storage.kernel, storage.map)).toMatchObject({ why: { reason: "corrupt" } });
  });
});

/** An arena of ten pages at user address 0x7f0012345000, mapped where the kernel would. */
class Arena extends MapMachine {
  static readonly area: bigint = 0xffff_c900_0000_0000n;
  readonly user: bigint = 0x7f00_1234_5000n;

  constructor(maxEntries = 10) {
    super({ type: MapType.arena, keySize: 0, valueSize: 0, maxEntries });
    const vm = this.machine.allocate(32);
    this.machine.writeU64(this.at + ARENA.user, this.user);
    this.pointer(this.at + ARENA.vm, vm);
    this.pointer(vm + VM.addr, Arena.area);
    this.machine.writeU64(vm + VM.size, 2n ** 32n + 65_536n + 4096n);
  }

  /** Maps page `index`; its first byte is the index. */
  page(index: number): void {
    const page = this.machine.allocate(4096, 4096);
    this.machine.bytes[page] = index;
    const low = (this.user + BigInt(index) * 4096n) & 0xffff_ffffn;
    this.machine.map(Arena.area + 32_768n + low, page);
  }

  /** A node of the tree of free ranges. */
  free(start: number, last: number): number {
    const at = this.machine.allocate(40);
    this.u32(at + RANGE.start, start);
    this.u32(at + RANGE.last, last);
    return at;
  }

  read(): string[] {
    const pages = arenaPages(this.kernel, this.map);
    if (!pages.ok) throw new Error(pages.why.detail);
    return pages.value.pages.map(
      ({ index, userAddress, bytes }) => `${index} 0x${userAddress.toString(16)} ${bytes[0]}`,
    );
  }
}

describe("arena", () => {
  test("a page lies at the area's start, half a guard, and the low half of its user address", () => {
    const arena = new Arena();
    arena.page(0);
    arena.page(7);
    expect(arena.read()).toEqual(["0 0x7f0012345000 0", "7 0x7f001234c000 7"]);
  });

  test("a page that is mapped and yet free is the stand-in page: no page of the arena", () => {
    const arena = new Arena();
    for (const index of [2, 3, 4]) arena.page(index);
    const left = arena.free(0, 1);
    const top = arena.free(3, 3);
    arena.pointer(top + RANGE.node + 16, left);
    arena.pointer(top + RANGE.node + 8, arena.free(5, 9));
    arena.pointer(arena.at + ARENA.rt, top);
    expect(arena.read()).toEqual(["2 0x7f0012347000 2", "4 0x7f0012349000 4"]);
  });

  test("a tree of free ranges that leads in circles ends", () => {
    const arena = new Arena();
    arena.page(1);
    const top = arena.free(0, 0);
    arena.pointer(top + RANGE.node + 8, top);
    arena.pointer(top + RANGE.node + 16, top);
    arena.pointer(arena.at + ARENA.rt, top);
    expect(arena.read()).toEqual(["1 0x7f0012346000 1"]);
  });

  test("more than 4 GiB are cut, and said to be", () => {
    const arena = new Arena(2 ** 32 - 1);
    arena.page(1);
    const pages = arenaPages(arena.kernel, arena.map);
    expect(pages).toMatchObject({ ok: true, value: { spanBytes: 2 ** 32, spanCapped: true } });
  });

  test("an area that has no arena's size is not read", () => {
    const arena = new Arena();
    const { machine } = arena;
    const vm = Number(machine.readU64(arena.at + ARENA.vm) - machine.directBase);
    machine.writeU64(vm + VM.size, 4096n);
    expect(arenaPages(arena.kernel, arena.map)).toMatchObject({ why: { reason: "corrupt" } });
  });
});

test("a type that nobody knows is unreadable, and says so", () => {
  const machine = new MapMachine({ type: 77 });
  expect(readContents(machine.kernel, machine.map)).toMatchObject({
    kind: "unreadable",
    why: { reason: "unsupported" },
  });
});
