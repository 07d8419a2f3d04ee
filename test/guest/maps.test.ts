/** Arrays, tries, queues and ring buffers in states that no kernel produces on demand: torn, reused, circular, with unbounded counts. */
import { describe, expect, test } from "bun:test";
import { lookup, readArray, readContents, readValue } from "../../src/guest/bpf/maps/contents.ts";
import { MapType } from "../../src/uapi/names.ts";
import { ARRAY, MapMachine, QUEUE, RINGBUF, RINGBUF_MAP, TRIE, TRIE_NODE } from "./map-machine.ts";
import { walk } from "./map-walk.ts";

describe("array", () => {
  const array = (maxEntries: number, valueSize: number): MapMachine =>
    new MapMachine({ type: MapType.array, maxEntries, valueSize });

  test("values are at multiples of 8 bytes", () => {
    const three = array(2, 3);
    three.u32(three.at + ARRAY.value, 0x0403_0201);
    three.u32(three.at + ARRAY.value + 8, 0x0807_0605);
    expect(walk(readContents(three.kernel, three.map)).pairs).toEqual(["00000000=010203", "01000000=050607"]);
    expect(readArray(three.kernel, three.map, 1)).toEqual({ ok: true, value: Uint8Array.of(5, 6, 7) });
    expect(readArray(three.kernel, three.map, 2)).toMatchObject({ why: { reason: "out-of-range" } });
    expect(readValue(three.kernel, three.map, 1, 2)).toEqual({ ok: true, value: Uint8Array.of(2, 3) });
    expect(readValue(three.kernel, three.map, 2, 2)).toMatchObject({ why: { reason: "out-of-range" } });
  });

  test("max_entries of 2^32-1 ends at the end of the image", () => {
    const huge = array(2 ** 32 - 1, 8);
    const { pairs, complete, stopped } = walk(readContents(huge.kernel, huge.map));
    expect(pairs.length).toBeLessThanOrEqual(huge.machine.bytes.length / 8);
    expect(complete).toBe(false);
    expect(stopped).not.toBe("");
  });

  test("a value of 4 GiB is reported without an allocation", () => {
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
  test("more specific prefixes come before less specific ones, and intermediate nodes are left out", () => {
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

  test("a child whose prefix is not longer than its parent's is not followed, because it can lead back up", () => {
    const trie = new Trie();
    const root = trie.node(16, [10, 0, 0, 0]);
    const child = trie.node(24, [10, 0, 1, 0], [root]);
    trie.pointer(root + TRIE_NODE.child, child);
    trie.root(root);
    const { pairs, skipped } = walk(readContents(trie.kernel, trie.map));
    expect(pairs).toHaveLength(2);
    expect(skipped).toEqual({ recycled: 1 });
  });

  test("a chain in which both children are the same node ends at the map's own bound", () => {
    const trie = new Trie();
    let below = trie.node(32, [10, 0, 0, 0]);
    for (let prefix = 31; prefix >= 0; prefix--) below = trie.node(prefix, [10, 0, 0, 0], [below, below]);
    trie.root(below);
    const { stopped } = walk(readContents(trie.kernel, trie.map));
    expect(stopped).toContain("more nodes than max_entries");
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

  test("a wrapped queue gives its oldest value first, a wrapped stack its newest", () => {
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
  test("records are between the positions, across the end of the ring, with their flags as text", () => {
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

  test("a record that is longer than the produced data ends the walk", () => {
    const ring = new Ring(0, 64);
    ring.record(0, 8, 1);
    ring.record(16, 4000);
    const contents = readContents(ring.kernel, ring.map);
    if (contents.kind !== "records") throw new Error(JSON.stringify(contents));
    expect(contents.records).toHaveLength(1);
    expect(contents.end.stopped).toContain("extends past the producer position");
  });

  test("positions that are further apart than the size of the ring are an error", () => {
    const ring = new Ring(0, 8192);
    expect(readContents(ring.kernel, ring.map)).toMatchObject({ why: { reason: "corrupt" } });
  });
});

test("an unknown type is unreadable, with a reason", () => {
  const machine = new MapMachine({ type: 77 });
  expect(readContents(machine.kernel, machine.map)).toMatchObject({
    kind: "unreadable",
    why: { reason: "unsupported" },
  });
});
