/** Translation of addresses, faults, and reads across pages. */
import { describe, expect, test } from "bun:test";
import { PhysicalMemory, windowOf } from "../../src/guest/image/physical.ts";
import { addressBatch } from "../../src/guest/memory/address-batch.ts";
import { GuestFault } from "../../src/guest/memory/fault.ts";
import { GuestMemory, LOCATE_MAX_BYTES } from "../../src/guest/memory/memory.ts";
import { arm64Paging, PageTables, type PagingMode, x86Paging } from "../../src/guest/memory/mmu.ts";
import { add, fromBigInt, hex, pointer, toBigInt } from "../../src/guest/memory/pointer.ts";
import { Synthetic } from "./synthetic.ts";

const u64At = (memory: GuestMemory, address: bigint): bigint => {
  const { hi, lo } = fromBigInt(address);
  return memory.u64(hi, lo, 0, "test");
};

const faultAt = (memory: GuestMemory, address: bigint): GuestFault => {
  try {
    u64At(memory, address);
  } catch (error) {
    if (error instanceof GuestFault) return error;
    throw error;
  }
  throw new Error(`${address.toString(16)} was read`);
};

/** Returns an address in the kernel's half for every mode, with an index above 0 on every level. */
const addressFor = (mode: PagingMode): bigint => {
  let address = BigInt.asUintN(64, -1n << BigInt(mode.canonicalBit));
  for (const { shift } of mode.levels.slice(1)) address |= 1n << BigInt(shift);
  return address | (1n << BigInt(mode.levels[0]!.shift));
};

const MODES: readonly PagingMode[] = [
  x86Paging(4),
  x86Paging(5),
  arm64Paging(12, 39),
  arm64Paging(12, 48),
  arm64Paging(12, 52),
  arm64Paging(14, 47),
  arm64Paging(14, 48),
  arm64Paging(14, 52),
  arm64Paging(16, 42),
  arm64Paging(16, 48),
  arm64Paging(16, 52),
];

describe.each(MODES.map((mode) => [mode.name, mode] as const))("%s", (_, mode) => {
  test("a mapped page is read, and the fault names the absent level", () => {
    const machine = new Synthetic({ mode });
    const address = addressFor(mode);
    const page = machine.allocate(machine.pageBytes, machine.pageBytes);
    machine.writeU64(page + 24, 0x1122_3344_5566_7788n);
    machine.map(address, page);
    expect(u64At(machine.memory({ direct: false }), address + 24n)).toBe(0x1122_3344_5566_7788n);
    for (const { name } of mode.levels) {
      const kept = machine.readU64(machine.entry(address, name));
      const at = machine.entry(address, name);
      machine.writeU64(at, kept & ~1n);
      const fault = faultAt(machine.memory({ direct: false }), address + 24n);
      expect([fault.reason, fault.level, fault.address]).toEqual(["not-mapped", name, address + 24n]);
      machine.writeU64(at, kept);
    }
  });

  test("a table outside the image is a separate fault", () => {
    const machine = new Synthetic({ mode });
    const address = addressFor(mode);
    machine.map(address, machine.physicalBase);
    const top = mode.levels[0]!.name;
    const at = machine.entry(address, top);
    machine.writeU64(at, machine.readU64(at) | (1n << 40n));
    expect(faultAt(machine.memory({ direct: false }), address).reason).toBe("table-outside");
  });

  test("an address outside the kernel's half is a fault", () => {
    const memory = new Synthetic({ mode }).memory({ direct: false });
    expect(faultAt(memory, 0x7fff_0000_0000n).reason).toBe("not-canonical");
    expect(faultAt(memory, 0n).reason).toBe("not-canonical");
  });
});

const HUGE: readonly (readonly [string, PagingMode])[] = [
  ["PMD", x86Paging(4)],
  ["PUD", x86Paging(4)],
  ["PMD", x86Paging(5)],
  ["PUD", x86Paging(5)],
  ["PMD", arm64Paging(12, 48)],
  ["PUD", arm64Paging(12, 48)],
  ["PMD", arm64Paging(14, 47)],
  ["PMD", arm64Paging(16, 48)],
];

test.each(HUGE)("a huge page is a leaf at the %s level", (level, mode) => {
  const { shift } = mode.levels.find(({ name }) => name === level)!;
  const size = 2 ** shift;
  // The image need not have the whole page of the leaf.
  const machine = new Synthetic({ mode, physicalBase: size + 0x40_0000 });
  const word = machine.allocate(8);
  machine.writeU64(word, 0xfeed_beefn);
  const address = addressFor(mode) & ~((1n << BigInt(shift)) - 1n);
  const leaf = Math.floor(word / size) * size;
  machine.map(address, leaf, level);
  expect(u64At(machine.memory({ direct: false }), address + BigInt(word - leaf))).toBe(0xfeed_beefn);
});

test("x86's PAT bit of a huge page is not an address bit", () => {
  const machine = new Synthetic({ physicalBase: 0x20_0000 });
  const address = 0xffff_c900_0000_0000n;
  machine.map(address, 0x20_0000, "PMD");
  const at = machine.entry(address, "PMD");
  machine.writeU64(at, machine.readU64(at) | 0x1000n);
  machine.writeU64(0x20_0000, 77n);
  expect(u64At(machine.memory({ direct: false }), address)).toBe(77n);
});

test("a 52-bit physical address is in bits 15:12 (64K pages) or 9:8 (LPA2) of an arm64 descriptor", () => {
  for (const [mode, physicalBase] of [
    [arm64Paging(16, 52), 5 * 2 ** 48],
    [arm64Paging(12, 52), 3 * 2 ** 50],
  ] as const) {
    const machine = new Synthetic({ mode, physicalBase });
    const page = machine.allocate(machine.pageBytes, machine.pageBytes);
    machine.writeU64(page, 99n);
    machine.map(addressFor(mode), page);
    expect(u64At(machine.memory({ direct: false }), addressFor(mode))).toBe(99n);
  }
});

test("arm64 ignores the top byte of an address", () => {
  const mode = arm64Paging(12, 48);
  const machine = new Synthetic({ mode });
  const page = machine.allocate(4096, 4096);
  machine.writeU64(page, 5n);
  machine.map(0xffff_8000_0000_0000n, page);
  expect(u64At(machine.memory({ direct: false }), 0xf5ff_8000_0000_0000n)).toBe(5n);
});

describe("reads that cross pages", () => {
  const base = 0xffff_c900_0000_0000n;
  const { hi, lo } = fromBigInt(base);
  const machineWith = (physicalPages: (number | undefined)[]): Synthetic => {
    const machine = new Synthetic();
    const first = machine.allocate(16 * 4096, 4096);
    for (let i = 0; i < 16 * 4096; i++) machine.bytes[first + i] = (i >>> 12) + 1;
    for (const [index, page] of physicalPages.entries())
      if (page !== undefined) machine.map(base + BigInt(index * 4096), first + page * 4096);
    return machine;
  };

  test("of adjacent physical pages are not copied", () => {
    const machine = machineWith([2, 3, 4]);
    const memory = machine.memory();
    const at = memory.locate(hi, lo, 100, 8192);
    expect(at).toBeGreaterThan(0);
    expect(memory.bytes.buffer).toBe(machine.bytes.buffer);
    expect([memory.bytes[at], memory.bytes[at + 4096], memory.bytes[at + 8191]]).toEqual([3, 4, 5]);
  });

  test("of scattered pages are stitched", () => {
    const memory = machineWith([9, 1, 5]).memory();
    const at = memory.locate(hi, lo, 4090, 4108);
    expect([...memory.bytes.subarray(at, at + 8)]).toEqual([10, 10, 10, 10, 10, 10, 2, 2]);
    expect([memory.bytes[at + 4101], memory.bytes[at + 4102], memory.bytes[at + 4107]]).toEqual([2, 6, 6]);
  });

  test("a read across an absent page is a fault at that page, and copyOut returns the number of bytes before it", () => {
    const memory = machineWith([9, undefined, 5]).memory();
    expect(memory.locate(hi, lo, 4080, 24)).toBe(-1);
    expect(memory.fault("prog.stats").message).toBe(
      "read prog.stats: 0xffffc90000001000 is not mapped (PTE entry not present)",
    );
    const into = new Uint8Array(64);
    expect(memory.copyOut(hi, lo, 4080, into)).toBe(16);
    expect(into.subarray(0, 17)).toEqual(new Uint8Array([...Array(16).fill(10), 0]));
  });

  test("a value at the end of a page is read if it fits to the byte", () => {
    const memory = machineWith([9, undefined]).memory();
    expect(memory.locate(hi, lo, 4072, 24)).toBeGreaterThanOrEqual(0);
    expect(memory.locate(hi, lo, 4073, 24)).toBe(-1);
    // Again, now with the first page in the TLB.
    expect(memory.locate(hi, lo, 4072, 24)).toBeGreaterThanOrEqual(0);
    expect(memory.locate(hi, lo, 4073, 24)).toBe(-1);
  });

  test("a string may end just before an absent page", () => {
    const machine = new Synthetic();
    const page = machine.allocate(4096, 4096);
    machine.map(base, page);
    machine.write(page + 4092, new TextEncoder().encode("scx\0"));
    const memory = machine.memory();
    expect(new TextDecoder().decode(memory.cstring(hi, lo, 4092, 64, "name"))).toBe("scx");
    const unterminated = machineWith([0, undefined]).memory();
    expect(() => unterminated.cstring(hi, lo, 4092, 64, "name")).toThrow(GuestFault);
  });
});

describe("the direct map", () => {
  test("a run across 4 GiB of addresses is read on both sides and across", () => {
    const machine = new Synthetic({ directBase: 0xffff_8880_ffff_f000n });
    for (let i = 0; i < 4; i++) machine.writeU64(0x2000 + i * 0x1000, BigInt(i));
    machine.writeU64(0x0ffc, 0x1111_2222_3333_4444n);
    const memory = machine.memory();
    for (let i = 0; i < 4; i++) expect(u64At(memory, machine.direct(0x2000 + i * 0x1000))).toBe(BigInt(i));
    expect(u64At(memory, machine.direct(0x0ffc))).toBe(0x1111_2222_3333_4444n);
    const { hi, lo } = fromBigInt(machine.directBase);
    expect(memory.u32(hi, lo, 0x0ffc, "test")).toBe(0x3333_4444);
    expect(memory.u32(hi, lo, 0x3000, "test")).toBe(1);
  });

  test("offsets are added to the pointer: past 4 GiB, and below it", () => {
    const machine = new Synthetic();
    machine.writeU64(0x3000, 42n);
    const memory = machine.memory();
    const { hi, lo } = fromBigInt(machine.directBase);
    expect(memory.u32(hi - 4, lo, 4 * 2 ** 32 + 0x3000, "test")).toBe(42);
    expect(memory.u32(hi, lo + 0x4000, -0x1000, "test")).toBe(42);
    expect(memory.u32(hi + 1, lo, -(2 ** 32) + 0x3000, "test")).toBe(42);
  });

  test("words may be given as unsigned numbers", () => {
    const machine = new Synthetic();
    machine.writeU64(0x3000, 42n);
    const memory = machine.memory();
    expect(memory.u32(0xffff_8880, 0x3000, 0, "test")).toBe(42);
    expect(memory.u32(0xffff_8880 | 0, 0x3000, 0, "test")).toBe(42);
  });

  test("past its end the page tables are walked", () => {
    const machine = new Synthetic();
    const memory = machine.memory();
    const end = machine.directBase + BigInt(machine.bytes.length);
    expect(faultAt(memory, end).reason).toBe("not-mapped");
    expect(faultAt(memory, end - 4n).address).toBe(end);
    machine.map(end, 0x1000);
    machine.writeU64(0x1000, 0x7777n);
    expect(u64At(memory, end)).toBe(0x7777n);
  });
});

describe("addresses that are located together", () => {
  const base = 0xffff_c900_0000_0000n;

  /** Returns for each address the byte at `offset` from it, or -1. */
  const found = (
    memory: GuestMemory,
    addresses: readonly bigint[],
    offset: number,
    length: number,
  ): number[] => {
    const batch = addressBatch(addresses.length);
    for (const [index, address] of addresses.entries()) {
      batch.hi[index] = fromBigInt(address).hi;
      batch.lo[index] = fromBigInt(address).lo;
    }
    // An index that this memory does not have, as after a walk through a memory with more windows.
    batch.index.fill(99);
    memory.locateEach(batch, addresses.length, offset, length);
    expect(batch.index.every((index) => memory.physical.windows[index] !== undefined)).toBe(true);
    return addresses.map((_, n) =>
      batch.at[n]! < 0 ? -1 : memory.physical.windows[batch.index[n]!]!.bytes[batch.at[n]!]!,
    );
  };

  /** Bytes of the pages are 1, 2, 3 and so on; the last one is absent. Each was read once. */
  const pages = (count: number): GuestMemory => {
    const machine = new Synthetic();
    for (let index = 0; index < count; index++) {
      const page = machine.allocate(8192, 4096);
      machine.bytes.fill(index + 1, page, page + 4096);
      machine.map(base + BigInt(index * 4096), page);
    }
    const memory = machine.memory();
    for (let index = 0; index < count; index++) u64At(memory, base + BigInt(index * 4096));
    return memory;
  };

  test("are found at the same place as each alone", () => {
    const memory = pages(3);
    const addresses = [base + 8200n, base, base + 4100n, base + 16n, base + 12_288n];
    expect(found(memory, addresses, 0, 8)).toEqual([3, 1, 2, 1, -1]);
    expect(found(memory, addresses, 4096, 8)).toEqual([-1, 2, 3, 2, -1]);
    expect(found(memory, addresses, -4096, 8)).toEqual([2, -1, 1, -1, 3]);
  });

  test("are not found if their bytes are in two pages", () => {
    expect(found(pages(2), [base + 4088n, base + 4089n, base + 4096n], 0, 8)).toEqual([1, -1, 2]);
  });

  test("an offset past 4 GiB does not wrap around", () => {
    const memory = pages(2);
    expect(found(memory, [base + 2n ** 32n - 8n, base + 8n], -16, 8)).toEqual([-1, -1]);
    expect(found(memory, [base - 8n], 16, 8)).toEqual([-1]);
  });

  test("a page that is not yet cached is found after it was read", () => {
    const machine = new Synthetic();
    const page = machine.allocate(4096, 4096);
    machine.bytes[page] = 7;
    machine.map(base, page);
    const memory = machine.memory();
    expect(found(memory, [base], 0, 8)).toEqual([-1]);
    expect(memory.u8(fromBigInt(base).hi, fromBigInt(base).lo, 0, "test")).toBe(7);
    expect(found(memory, [base], 0, 8)).toEqual([7]);
  });

  test("of the direct map are found in any window, whichever was read last", () => {
    const machine = new Synthetic({ directBase: 0xffff_8880_ffff_f000n });
    const half = machine.bytes.length / 2;
    const windows = [
      windowOf(0, machine.bytes.subarray(0, half)),
      windowOf(half, machine.bytes.subarray(half)),
    ];
    const physical = new PhysicalMemory(windows);
    const memory = new GuestMemory(physical, new PageTables(physical, machine.mode, machine.root));
    memory.addLinear(fromBigInt(machine.directBase), 0, machine.bytes.length);
    const places = [0x500, 0x2500, half + 0x800, half - 0x800];
    for (const [index, place] of places.entries()) machine.bytes[place] = index + 1;
    const addresses = places.map((place) => machine.direct(place));
    for (const last of addresses) {
      u64At(memory, last);
      expect(found(memory, addresses, 0, 8)).toEqual([1, 2, 3, 4]);
      expect(found(memory, addresses.toReversed(), 0, 8)).toEqual([4, 3, 2, 1]);
    }
    expect(found(memory, [machine.direct(half - 4)], 0, 8)).toEqual([-1]);
    expect(found(memory, [machine.direct(machine.bytes.length)], 0, 1)).toEqual([-1]);
  });
});

test("pages that share a TLB slot are not confused", () => {
  const machine = new Synthetic({ sizeBytes: 64 << 20 });
  const addresses = [0n, 1n << 24n, 1n << 32n, (1n << 32n) + (1n << 12n)].map(
    (o) => 0xffff_c900_0000_0000n + o,
  );
  for (const [index, address] of addresses.entries()) {
    const page = machine.allocate(4096, 4096);
    machine.writeU64(page, BigInt(index + 1));
    machine.map(address, page);
  }
  const memory = machine.memory();
  for (let round = 0; round < 3; round++)
    expect(addresses.map((address) => u64At(memory, address))).toEqual([1n, 2n, 3n, 4n]);
});

test("impossible lengths and ranges are faults, not RangeErrors", () => {
  const memory = new Synthetic().memory();
  const { hi, lo } = fromBigInt(0xffff_8880_0000_1000n);
  for (const length of [LOCATE_MAX_BYTES + 1, 2 ** 40, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(memory.locate(hi, lo, 0, length)).toBe(-1);
    expect(memory.fault("x").reason).toBe("too-long");
  }
  expect(memory.locate(-1, -8, 0, 16)).toBe(-1);
  expect(memory.fault("x").reason).toBe("wraps");
  expect(memory.locate(hi, lo, 2 ** 60, 16)).toBe(-1);
  expect(memory.locate(hi, lo, -(2 ** 60), 16)).toBe(-1);
});

test("pointers are printed, added and converted without loss", () => {
  expect(hex(0xff11_0000 | 0, 8)).toBe("0xff11000000000008");
  expect(toBigInt(-1, -1)).toBe(2n ** 64n - 1n);
  expect(fromBigInt(0xffff_ffff_8000_0001n)).toEqual(pointer(0xffff_ffff, 0x8000_0001));
  expect(add(pointer(1, 0xffff_fffc), 8)).toEqual(pointer(2, 4));
  expect(add(pointer(2, 4), -8)).toEqual(pointer(1, 0xffff_fffc));
  expect(add(pointer(-1, -1), 1)).toEqual(pointer(0, 0));
});
