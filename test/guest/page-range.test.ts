/** Pages of a range that are located once, compared with a call for each address. */
import { expect, test } from "bun:test";
import { PhysicalMemory, windowOf } from "../../src/guest/image/physical.ts";
import { addressBatch } from "../../src/guest/memory/address-batch.ts";
import { GuestMemory } from "../../src/guest/memory/memory.ts";
import { PageTables } from "../../src/guest/memory/mmu.ts";
import { findInPages } from "../../src/guest/memory/page-range.ts";
import { fromBigInt } from "../../src/guest/memory/pointer.ts";
import { Synthetic } from "./synthetic.ts";

const PAGE = 4096;
const AREA = 0xffff_c900_0000_0000n;
const { hi, lo } = fromBigInt(AREA);

/** Memory with pages in descending order, the third one absent, split before the last `inSecond` of the physical pages. */
function memoryOf(count: number, inSecond: number): GuestMemory {
  const machine = new Synthetic();
  const start = machine.allocate(count * PAGE, PAGE);
  for (let page = 0; page < count; page++)
    if (page !== 2) machine.map(AREA + BigInt(page * PAGE), start + (count - 1 - page) * PAGE);
  const split = start + (count - inSecond) * PAGE;
  const physical = new PhysicalMemory([
    windowOf(0, machine.bytes.subarray(0, split)),
    windowOf(split, machine.bytes.subarray(split)),
  ]);
  return new GuestMemory(physical, new PageTables(physical, machine.mode, machine.root));
}

test.each([0, 1, 3, 5])(
  "addresses are found in the window that has their page; %i pages in the second",
  (inSecond) => {
    const count = 6;
    const memory = memoryOf(count, inSecond);
    const range = memory.pagesAt(hi, lo, count * PAGE)!;
    const offsets = [0, 4088, 4090, PAGE, 2 * PAGE, 3 * PAGE + 16, 5 * PAGE + 4088, 6 * PAGE, -8];
    const batch = addressBatch(offsets.length);
    batch.hi.fill(hi);
    batch.lo.set(offsets.map((offset) => (lo + offset) | 0));
    batch.hi[offsets.length - 1] = hi - 1;
    findInPages(range, batch, offsets.length, 0, 8);
    const found = offsets.map((_, n) => [batch.at[n]!, batch.at[n]! < 0 ? -1 : batch.index[n]!]);
    const each = offsets.map((offset) => {
      const isInOnePage = (offset & (PAGE - 1)) <= PAGE - 8;
      const at = isInOnePage ? memory.locate(hi, lo, offset, 8) : -1;
      return [at, at < 0 ? -1 : memory.physical.windows.indexOf(memory.window)];
    });
    expect(found).toEqual(each);
    expect(found.map(([at]) => at! >= 0)).toEqual([true, true, false, true, false, true, true, false, false]);
    const own = Array.from({ length: count }, (_, page) => memory.locate(hi, lo, page * PAGE, PAGE));
    expect([...range.places]).toEqual(own);
  },
);
