/** Memory of a machine that runs: after `forget`, pages and translations are read again. */
import { expect, test } from "bun:test";
import { OnDemandFile, type PageSource } from "../../src/guest/image/on-demand.ts";
import { x86Paging } from "../../src/guest/memory/mmu.ts";
import { fromBigInt } from "../../src/guest/memory/pointer.ts";
import { Synthetic } from "./synthetic.ts";

const PAGE_BYTES = 4096;

test("pages that were read on demand are read again", () => {
  let value = 1;
  let reads = 0;
  let forgotten = 0;
  const source: PageSource = {
    path: "changing",
    pageBytes: PAGE_BYTES,
    ranges: [{ start: 0, end: 4 * PAGE_BYTES }],
    check() {},
    readPage(_, into) {
      reads++;
      into.fill(value);
      return true;
    },
    forget: () => void forgotten++,
    [Symbol.dispose]() {},
  };
  using file = new OnDemandFile(source);
  const byteAt = (offset: number): number | undefined => {
    expect(file.note(offset, 1)).toBe(true);
    return file.window(offset, 1)[0];
  };
  expect([byteAt(PAGE_BYTES), byteAt(PAGE_BYTES + 7)]).toEqual([1, 1]);
  value = 2;
  expect([byteAt(PAGE_BYTES), reads]).toEqual([1, 1]);
  file.forget();
  expect([byteAt(PAGE_BYTES), reads, forgotten]).toEqual([2, 2, 1]);
});

test("an address that is now mapped by another page table is translated again", () => {
  const mode = x86Paging(4);
  const machine = new Synthetic({ mode });
  const [last, above] = [mode.levels.at(-1)!, mode.levels.at(-2)!];
  const address = 0xffff_c900_0000_0000n + 5n * BigInt(2 ** last.shift);
  const other = address + BigInt(2 ** above.shift);
  for (const [at, value] of [
    [address, 1n],
    [other, 2n],
  ] as const) {
    const page = machine.allocate(machine.pageBytes, machine.pageBytes);
    machine.writeU64(page, value);
    machine.map(at, page);
  }
  const memory = machine.memory({ direct: false });
  const { hi, lo } = fromBigInt(address);
  const read = (): bigint => memory.u64(hi, lo, 0, "test");
  expect(read()).toBe(1n);
  // Replaces the table with that of `other`, as when the kernel frees the tables of a range and allocates new ones.
  machine.writeU64(machine.entry(address, above.name), machine.readU64(machine.entry(other, above.name)));
  memory.forget();
  expect(read()).toBe(2n);
});
