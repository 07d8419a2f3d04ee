/** IDRs in states that no kernel produces on demand. */
import { describe, expect, test } from "bun:test";
import { idrEntries } from "../../src/guest/kernel/idr.ts";
import { WalkLog } from "../../src/guest/kernel/walklog.ts";
import { fromBigInt, toBigInt } from "../../src/guest/memory/pointer.ts";
import { Synthetic } from "./synthetic.ts";
import {
  IDR_BASE,
  IDR_BYTES,
  IDR_HEAD,
  IDR_NEXT,
  kernelTypes,
  NODE_BYTES,
  NODE_SHIFT,
  NODE_SLOTS,
} from "./types.ts";

const btf = kernelTypes();

/** An IDR on its own machine; objects are addresses in the direct map. */
class Idr {
  readonly machine: Synthetic = new Synthetic({ sizeBytes: 8 << 20 });
  readonly at: number = this.machine.allocate(IDR_BYTES);

  head(entry: bigint): void {
    this.machine.writeU64(this.at + IDR_HEAD, entry);
  }

  /** Physical address of a node. */
  node(shift: number, slots: Readonly<Record<number, bigint>>): number {
    const node = this.machine.allocate(NODE_BYTES);
    this.machine.bytes[node + NODE_SHIFT] = shift;
    for (const [slot, entry] of Object.entries(slots))
      this.machine.writeU64(node + NODE_SLOTS + 8 * Number(slot), entry);
    return node;
  }

  /** `xa_mk_node`. */
  entryOf(node: number): bigint {
    return this.machine.direct(node) | 2n;
  }

  object(n: number): bigint {
    return this.machine.direct(0x10_0000 + 64 * n);
  }

  walk(): { ids: number[]; objects: bigint[]; log: WalkLog } {
    const log = new WalkLog();
    const at = fromBigInt(this.machine.direct(this.at));
    const found = [...idrEntries(this.machine.memory(), btf, at, "map_idr", log)];
    return {
      ids: found.map(({ id }) => id),
      objects: found.map(({ address: { hi, lo } }) => toBigInt(hi, lo)),
      log,
    };
  }
}

test("an empty array has no entries", () => {
  const { ids, log } = new Idr().walk();
  expect(ids).toEqual([]);
  expect(log.complete).toBe(true);
});

test("a lone entry at index 0 is in xa_head, without a node", () => {
  const idr = new Idr();
  idr.head(idr.object(7));
  const { ids, objects, log } = idr.walk();
  expect(ids).toEqual([0]);
  expect(objects).toEqual([idr.object(7)]);
  expect(log.complete).toBe(true);
});

test("ids are offset by idr_base", () => {
  const idr = new Idr();
  idr.machine.writeU32(idr.at + IDR_BASE, 1);
  idr.head(idr.entryOf(idr.node(0, { 0: idr.object(1), 5: idr.object(2) })));
  expect(idr.walk().ids).toEqual([1, 6]);
});

test("three levels of nodes give ids from the slots, ascending", () => {
  const idr = new Idr();
  const leafA = idr.node(0, { 1: idr.object(1), 63: idr.object(2) });
  const leafB = idr.node(0, { 0: idr.object(3) });
  const middle = idr.node(6, { 0: idr.entryOf(leafA), 2: idr.entryOf(leafB) });
  const other = idr.node(6, { 63: idr.entryOf(idr.node(0, { 63: idr.object(4) })) });
  idr.head(idr.entryOf(idr.node(12, { 0: idr.entryOf(middle), 15: idr.entryOf(other) })));
  const { ids, objects, log } = idr.walk();
  expect(ids).toEqual([1, 63, 128, 65535]);
  expect(objects).toEqual([1, 2, 3, 4].map((n) => idr.object(n)));
  expect(log.complete).toBe(true);
});

test("a corrupt idr_next of 2^32-1 takes no time and changes nothing", () => {
  const idr = new Idr();
  idr.machine.writeU32(idr.at + IDR_NEXT, 0xffff_ffff);
  idr.head(idr.entryOf(idr.node(0, { 3: idr.object(1) })));
  expect(idr.walk().ids).toEqual([3]);
});

test("zero, retry and sibling entries are not objects", () => {
  const idr = new Idr();
  const zero = (257n << 2n) | 2n;
  const retry = (256n << 2n) | 2n;
  const sibling = (3n << 2n) | 2n;
  idr.head(idr.entryOf(idr.node(0, { 1: zero, 2: retry, 3: sibling, 4: idr.object(1) })));
  const { ids, log } = idr.walk();
  expect(ids).toEqual([4]);
  expect(log.complete).toBe(true);
});

describe("damaged parts are left out and counted", () => {
  test("a node that points back to its parent is not followed", () => {
    const idr = new Idr();
    const top = idr.node(6, { 1: idr.entryOf(idr.node(0, { 2: idr.object(1) })) });
    idr.machine.writeU64(top + NODE_SLOTS + 8 * 5, idr.entryOf(top));
    idr.head(idr.entryOf(top));
    const { ids, log } = idr.walk();
    expect(ids).toEqual([66]);
    expect([...log.skipped]).toEqual([["a node that was reached before", 1]]);
    expect(log.details[0]).toContain("map_idr.xa_head -> slots[5]");
  });

  test("a child with its parent's shift is left out", () => {
    const idr = new Idr();
    const top = idr.node(6, { 1: idr.entryOf(idr.node(6, { 0: idr.object(1) })) });
    idr.head(idr.entryOf(top));
    expect([...idr.walk().log.skipped]).toEqual([["a node whose shift does not fit", 1]]);
  });

  test("a node outside the image is a fault with its path, and its siblings are still read", () => {
    const idr = new Idr();
    const outside = idr.machine.direct(idr.machine.bytes.length + 0x1000) | 2n;
    idr.head(idr.entryOf(idr.node(6, { 3: outside, 4: idr.entryOf(idr.node(0, { 0: idr.object(1) })) })));
    const { ids, log } = idr.walk();
    expect(ids).toEqual([256]);
    expect([...log.skipped]).toEqual([["a node that cannot be read", 1]]);
    expect(log.details[0]).toMatch(/^read map_idr\.xa_head -> slots\[3\]: 0x[0-9a-f]{16} is not mapped/);
  });

  test("the same leaf in 64 slots of 64 nodes is walked once", () => {
    const idr = new Idr();
    const leaf = idr.entryOf(idr.node(0, { 0: idr.object(1) }));
    const all = (entry: bigint): Record<number, bigint> =>
      Object.fromEntries(Array.from({ length: 64 }, (_, i) => [i, entry]));
    let entry = leaf;
    for (const shift of [6, 12, 18, 24]) entry = idr.entryOf(idr.node(shift, all(entry)));
    idr.head(entry);
    const { ids, log } = idr.walk();
    expect(ids).toEqual([0]);
    expect(log.skipped.get("a node that was reached before")).toBe(4 * 63);
  });

  test("a value, which is not a pointer, and a node below the last level are counted", () => {
    const idr = new Idr();
    const below = idr.entryOf(idr.node(0, {}));
    idr.head(idr.entryOf(idr.node(0, { 1: 0x1235n, 2: below, 3: idr.object(1) })));
    const { ids, log } = idr.walk();
    expect(ids).toEqual([3]);
    expect([...log.skipped]).toEqual([
      ["an entry that is not a pointer", 1],
      ["a node below the last level", 1],
    ]);
  });

  test("a shift larger than any id needs is an error at the head", () => {
    const idr = new Idr();
    idr.head(idr.entryOf(idr.node(36, { 1: idr.object(1) })));
    expect([...idr.walk().log.skipped]).toEqual([["a node whose shift does not fit", 1]]);
  });

  test("an unreadable IDR stops the walk with the reason", () => {
    const machine = new Synthetic();
    const log = new WalkLog();
    expect([
      ...idrEntries(machine.memory(), btf, fromBigInt(0xffff_c900_0000_0000n), "link_idr", log),
    ]).toEqual([]);
    expect(log.complete).toBe(false);
    expect(log.stopped).toBe("read link_idr: 0xffffc90000000010 is not mapped (PGD entry not present)");
  });
});
