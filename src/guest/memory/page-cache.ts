/**
 * Translates addresses with the last-level page tables that earlier walks found: one load of an entry, also for pages that were
 * not accessed before. A thousand tables cover 2 GiB of 4 KiB pages. The entries themselves use less of the CPU's caches than
 * copies of them would.
 *
 * A closure instead of a class: the JIT treats the variables of the first closure in a process as constants, which halves the
 * time of a lookup. All numbers are integers.
 */

import type { PhysicalMemory } from "../image/physical.ts";
import type { AddressBatch } from "./address-batch.ts";
import type { PageTables } from "./mmu.ts";

export interface PageCache {
  /** The window of the last successful `find`. */
  index: number;
  /** The result of prefetch reads. It is stored so that the JIT does not remove them. */
  touched: number;
  /** Returns the offset in that window of an address; the rest of its page follows. -1 if its table is not known. */
  find(hi: number, lo: number): number;
  /**
   * Finds the first `count` addresses of a batch plus `offset` (up to 2^31 in either direction). Also -1 if the `length` bytes
   * are not in one page.
   */
  findEach(batch: AddressBatch, count: number, offset: number, length: number): void;
  /** Adds the result of a walk: the physical address, through the table at `table` or a leaf of `2^shift` bytes. */
  remember(hi: number, lo: number, physical: number, table: number, shift: number): void;
  /** Removes all entries. */
  forget(): void;
}

const SLOT_BITS = 10;
/**
 * A region is the address range of one table. A slot holds the low word of the region's address with bit 0 set (0 if empty),
 * its high word, a window's index, and the offset of the table's first word in that window. If the index is negative
 * (`~index`), a larger page maps the region, and the offset is that of its first byte.
 */
const SLOT_WORDS = 4;
/** Page numbers are int32; larger ones are left to the walk. */
const MOST_PAGES = 2 ** 31;

export function pageCache(memory: PhysicalMemory, { mode }: PageTables): PageCache {
  const { pageMask, pageValue, addressMaskHi, addressMaskLo, extraMask, extraShift, pageShift } = mode;
  const slots = new Int32Array(SLOT_WORDS << SLOT_BITS);
  const { windows } = memory;
  const words = windows.map((window) => window.words);
  const { firstPage, endPage, firstAt, nearby, nearbyShift } = pagesOf(memory, 2 ** pageShift);
  const regionShift = 2 * pageShift - 3;
  const regionMask = -1 << regionShift;
  const inPage = ~(-1 << pageShift);
  const inTable = ~(-1 << (pageShift - 3));
  const { firstStart, firstBytes } = firstOf(memory, 2 ** pageShift);
  const cache: PageCache = { index: 0, touched: 0, find, findEach, remember, forget };

  function find(hi: number, lo: number): number {
    const slot = slotOf(hi, lo);
    if (slots[slot] !== ((lo & regionMask) | 1) || slots[slot + 1] !== hi) return -1;
    const index = slots[slot + 2]!;
    if (index < 0) {
      cache.index = ~index;
      return slots[slot + 3]! + (lo & ~regionMask);
    }
    return follow(words[index]!, slots[slot + 3]! + ((lo >>> pageShift) & inTable) * 2, lo);
  }

  /** Returns the offset of `lo` in the window `cache.index`, by the table entry at word `at`; -1 if it is not found. */
  function follow(table: Int32Array, at: number, lo: number): number {
    const entryLo = table[at]!;
    const entryHi = table[at + 1]! & addressMaskHi;
    if ((entryLo & pageMask) !== pageValue || ((entryLo >>> extraShift) & extraMask) !== 0) return -1;
    // The memory of a small machine is one window.
    const inFirst = ((entryLo & addressMaskLo) - firstStart) | 0;
    if (entryHi === 0 && inFirst >= 0 && inFirst < firstBytes) {
      cache.index = 0;
      return inFirst + (lo & inPage);
    }
    return findInOther(entryHi, entryLo, lo);
  }

  function findEach(batch: AddressBatch, count: number, offset: number, length: number): void {
    const { hi: highs, lo: lows, at: ats, index: indexes } = batch;
    const changes = enterTables(batch, count, offset);
    if (changes > count >> 2) touchEntries(batch, count);
    const lastInPage = (inPage + 1 - length) | 0;
    let tableIndex = 0;
    let table = words[0]!;
    for (let n = 0; n < count; n++) {
      const start = lows[n]!;
      const lo = (start + offset) | 0;
      const index = indexes[n]!;
      if (index !== tableIndex) {
        tableIndex = index;
        table = words[index]!;
      }
      const isInPage = (lo & inPage) <= lastInPage && (lo ^ start) >= 0;
      if (!isInPage) ats[n] = -1;
      else ats[n] = ats[n]! < 0 ? find(highs[n]!, lo) : follow(table, ats[n]!, lo);
      indexes[n] = cache.index;
    }
  }

  /**
   * Stores the place of each address's last-level entry in `at` and `index`; -1 if its table is not known. Returns the number of
   * changes of table.
   */
  function enterTables(
    { hi: highs, lo: lows, at: ats, index: indexes }: AddressBatch,
    count: number,
    offset: number,
  ): number {
    // The current region: consecutive addresses are often in the same one.
    let regionHi = 0;
    let regionLo = 0;
    let index = 0;
    let first = 0;
    let changes = 0;
    for (let n = 0; n < count; n++) {
      const hi = highs[n]!;
      const lo = (lows[n]! + offset) | 0;
      if (((lo & regionMask) | 1) !== regionLo || hi !== regionHi) {
        const slot = slotOf(hi, lo);
        changes++;
        regionLo = slots[slot]!;
        regionHi = slots[slot + 1]!;
        index = slots[slot + 2]!;
        first = slots[slot + 3]!;
        if (regionLo !== ((lo & regionMask) | 1) || regionHi !== hi || index < 0) {
          ats[n] = -1;
          indexes[n] = 0;
          regionLo = 0;
          continue;
        }
      }
      ats[n] = (first + ((lo >>> pageShift) & inTable) * 2) | 0;
      indexes[n] = index;
    }
    return changes;
  }

  /** Prefetches the entries: independent reads overlap in the CPU. */
  function touchEntries({ at: ats, index: indexes }: AddressBatch, count: number): void {
    let touched = 0;
    for (let n = 0; n < count; ) {
      const index = indexes[n]!;
      const table = words[index]!;
      for (; n < count && indexes[n] === index; n++) touched ^= table[Math.max(0, ats[n]!)]!;
    }
    cache.touched = touched;
  }

  function findInOther(entryHi: number, entryLo: number, lo: number): number {
    if (entryHi >>> (pageShift - 1) !== 0) return -1;
    const page = (entryHi << (32 - pageShift)) | ((entryLo & addressMaskLo) >>> pageShift);
    const found = windowOf(page);
    if (found < 0) return -1;
    cache.index = found;
    return firstAt[found]! + ((page - firstPage[found]!) << pageShift) + (lo & inPage);
  }

  function remember(hi: number, lo: number, physical: number, table: number, shift: number): void {
    const isTable = shift === pageShift;
    if (!isTable && shift < regionShift) return;
    const bytes = 2 ** (isTable ? shift : regionShift);
    const start = isTable ? table : Math.floor(physical / bytes) * bytes;
    if (start + bytes > MOST_PAGES * 2 ** pageShift) return;
    // Integers only: `find` shares this code, and a double would deoptimize it.
    const first = (start / 2 ** pageShift) | 0;
    const index = windowOf(first);
    if (index < 0 || windowOf((first + bytes / 2 ** pageShift - 1) | 0) !== index) return;
    const at = firstAt[index]! + ((first - firstPage[index]!) << pageShift);
    if (isTable && words[index]!.length === 0) return;
    const slot = slotOf(hi, lo);
    slots[slot] = (lo & regionMask) | 1;
    slots[slot + 1] = hi;
    slots[slot + 2] = isTable ? index : ~index;
    slots[slot + 3] = isTable ? at >>> 2 : at;
  }

  function forget(): void {
    slots.fill(0);
  }

  /** Returns the window that holds a whole page, or -1. */
  function windowOf(page: number): number {
    const near = nearby[page >>> nearbyShift];
    if (near === undefined) return -1;
    return page >= firstPage[near]! && page < endPage[near]! ? near : search(page);
  }

  function search(page: number): number {
    let low = 0;
    let high = windows.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (page < firstPage[middle]!) high = middle;
      else if (page >= endPage[middle]!) low = middle + 1;
      else return middle;
    }
    return -1;
  }

  /** Four adjacent regions have adjacent slots. Fibonacci hashing spreads the others, also those with a distance of 2^n. */
  function slotOf(hi: number, lo: number): number {
    const region = (hi << (32 - regionShift)) | (lo >>> regionShift);
    const group = Math.imul(region >>> 2, 0x9e37_79b1) >>> (34 - SLOT_BITS);
    return ((group << 2) | (region & 3)) * SLOT_WORDS;
  }

  return cache;
}

/** The start and length of the first window in whole pages; 0 bytes if it is not page-aligned. */
function firstOf(
  { windows: [first] }: PhysicalMemory,
  pageBytes: number,
): { readonly firstStart: number; readonly firstBytes: number } {
  if (first === undefined || first.physical % pageBytes !== 0 || first.physical >= 2 ** 32)
    return { firstStart: 0, firstBytes: 0 };
  return {
    firstStart: first.physical | 0,
    firstBytes: Math.floor(first.bytes.length / pageBytes) * pageBytes,
  };
}

interface WindowPages {
  /** For each window: its first whole page, the page after its last, and the offset of the first. */
  readonly firstPage: Int32Array;
  readonly endPage: Int32Array;
  readonly firstAt: Int32Array;
  /** For every `2^nearbyShift` pages of physical memory, a window in that range: the first one to try. */
  readonly nearby: Int32Array;
  readonly nearbyShift: number;
}

/** Limit on the length of `nearby`. */
const NEARBY = 4096;

function pagesOf({ windows, end }: PhysicalMemory, pageBytes: number): WindowPages {
  const page = (number: number): number => Math.min(number, MOST_PAGES - 1);
  const pages = Math.min(Math.ceil(end / pageBytes), MOST_PAGES);
  const nearbyShift = Math.max(0, Math.ceil(Math.log2(pages / NEARBY)));
  const nearby = new Int32Array(Math.ceil(pages / 2 ** nearbyShift));
  const firstPage = new Int32Array(windows.length);
  const endPage = new Int32Array(windows.length);
  const firstAt = new Int32Array(windows.length);
  for (const [index, { physical, end: windowEnd }] of windows.entries()) {
    firstPage[index] = page(Math.ceil(physical / pageBytes));
    endPage[index] = page(Math.floor(windowEnd / pageBytes));
    firstAt[index] = (pageBytes - (physical % pageBytes)) % pageBytes;
    const first = Math.floor(physical / pageBytes / 2 ** nearbyShift);
    const last = Math.min(Math.floor(windowEnd / pageBytes / 2 ** nearbyShift), nearby.length - 1);
    for (let part = first; part <= last; part++) nearby[part] = index;
  }
  return { firstPage, endPage, firstAt, nearby, nearbyShift };
}
