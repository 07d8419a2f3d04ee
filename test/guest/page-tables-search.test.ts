/** The search for page tables by checking candidates, in synthetic memory. Real kernels are in wiped.real.test.ts. */
import { expect, test } from "bun:test";
import { PhysicalMemory, windowOf } from "../../src/guest/image/physical.ts";
import {
  type FoundTables,
  type ImagePlaces,
  searchPageTables,
} from "../../src/guest/kernel/page-tables-search.ts";
import { arm64Paging, type PagingMode, x86Paging } from "../../src/guest/memory/mmu.ts";
import { SyntheticKernel } from "./machine.ts";

const X86_IMAGE = 0xffff_ffff_8000_0000n;
const X86_MODES = [x86Paging(5), x86Paging(4)];

function search(
  bytes: Uint8Array,
  modes: readonly PagingMode[],
  places: Partial<ImagePlaces> & Pick<ImagePlaces, "physical">,
): FoundTables | undefined {
  const memory = new PhysicalMemory([windowOf(0, bytes)]);
  const lowest = ({ addressBits, topByteIgnored }: PagingMode): bigint =>
    topByteIgnored ? 2n ** 64n - 2n ** BigInt(addressBits - 1) : X86_IMAGE;
  const all = { lowest, imageOffset: undefined, directBase: () => undefined, ...places };
  return searchPageTables(memory, modes, all, [], (visit) => {
    for (let at = 0; at < bytes.length; at += 4096) if (visit(at)) return;
  });
}

const placesOf = (kernel: SyntheticKernel): number[] =>
  ["_stext", "linux_banner", "init_uts_ns"].map((name) => kernel.physicalOf(name));

test("an x86-64 kernel's top table is found among all pages, with and without the image's offset", () => {
  const kernel = new SyntheticKernel();
  const { bytes, root } = kernel.machine;
  const physical = placesOf(kernel);
  const offset = kernel.text - BigInt(kernel.textPhysical);
  for (const imageOffset of [undefined, offset]) {
    const found = search(bytes, X86_MODES, { physical, imageOffset });
    expect([found?.root, found?.imageOffset, found?.mode.levels.length]).toEqual([root, offset, 5]);
  }
  expect(search(bytes, X86_MODES, { physical, imageOffset: offset + 0x20_0000n })).toBeUndefined();
});

test("an arm64 kernel's image is above its direct map", () => {
  const kernel = new SyntheticKernel({ arch: "aarch64" });
  const found = search(kernel.machine.bytes, [arm64Paging(12, 48)], { physical: placesOf(kernel) });
  expect(found?.root).toBe(kernel.machine.root);
  expect(found?.imageOffset).toBe(kernel.text - BigInt(kernel.textPhysical));
});

test("a table that does not map the direct map is used only if there is no other", () => {
  const kernel = new SyntheticKernel();
  const { bytes, root } = kernel.machine;
  // Like the top table with which CPUs start, it has only the entry of the image. It is before the kernel's own top table.
  const small = 0;
  bytes.set(bytes.subarray(root + 511 * 8, root + 512 * 8), small + 511 * 8);
  const physical = placesOf(kernel);
  const directBase = (): bigint => kernel.machine.direct(0);
  expect(search(bytes, X86_MODES, { physical, directBase })?.root).toBe(root);
  expect(search(bytes, X86_MODES, { physical, directBase: () => X86_IMAGE })?.root).toBe(small);
});

test("tables that point to themselves, and random bytes, are rejected, and the search ends", () => {
  const ring = new Uint8Array(1 << 20);
  const view = new DataView(ring.buffer);
  for (let at = 0; at < ring.length; at += 8) view.setUint32(at, (at & ~0xfff) | 3, true);
  const random = new Uint8Array(1 << 20);
  let state = 1;
  for (let at = 0; at < random.length; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    random[at] = state >>> 24;
  }
  for (const bytes of [ring, random])
    for (const modes of [X86_MODES, [arm64Paging(12, 48), arm64Paging(14, 47), arm64Paging(16, 48)]])
      expect(search(bytes, modes, { physical: [0x5_0000, 0x9_8000, 0xc_9008] })).toBeUndefined();
});
