/**
 * Translation by the last-level page tables that earlier walks came to: one load of an entry, also for an address whose
 * page is new. A thousand tables cover 2 GiB of pages of 4 KiB; the entries themselves lie denser in the processor's
 * caches than copies of them would.
 *
 * A function with what it needs around it, and not a class: the engine takes the variables around the first one made in
 * a process for constants, which halves the time of a look-up. Integers throughout.
 */

import type { PhysicalMemory } from "../image/physical.ts";
import type { AddressBatch } from "./address-batch.ts";
import type { PageTables } from "./mmu.ts";

export interface PageCache {
  /** The window in which the last `find` found bytes. */
  index: number;
  /** What was read ahead: kept, so that the engine does not leave the reads out. */
  touched: number;
  /** Where in that window the byte at an address lies, as does the rest of its page; -1: nothing is known of it here. */
  find(hi: number, lo: number): number;
  /**
   * The same for the first `count` addresses of a batch, each `offset` (up to 2^31 either way) further; -1 also where
   * `length` bytes are not in one page.
   */
  findEach(batch: AddressBatch, count: number, offset: number, length: number): void;
  /** Takes over what a walk found: where an address leads to, through the table at `table` or a leaf of `2^shift` bytes. */
  remember(hi: number, lo: number, physical: number, table: number, shift: number): void;
  /** Nothing is known from here on. */
  forget(): void;
}

const SLOT_BITS = 10;
/**
 * What one table translates is a region. A slot holds the low word of a region's address with bit 0 set (0: empty), its
 * high word, a window's index, and in that window the table's first word; or, where the index is negative (`~index`),
 * the first byte of the memory itself, which a larger page maps.
 */
const SLOT_WORDS = 4;
/** Page numbers stay int32; what lies beyond is left to the walk. */
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

  /** What lies where the entry at a word of a table leads to. */
  function follow(table: Int32Array, at: number, lo: number): number {
    const entryLo = table[at]!;
    const entryHi = table[at + 1]! & addressMaskHi;
    if ((entryLo & pageMask) !== pageValue || ((entryLo >>> extraShift) & extraMask) !== 0) return -1;
    // A small machine's memory is one window.
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
   * Puts where each address's last-level entry lies into `at` and `index`; -1: in no table that is known. How often the
   * table changed.
   */
  function enterTables(
    { hi: highs, lo: lows, at: ats, index: indexes }: AddressBatch,
    count: number,
    offset: number,
  ): number {
    // The region at hand: neighbours are often in one.
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

  /** Entries lie far apart, too: read in a row without a use for them, many are on their way at once. */
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
    // Integers here, too: `find` shares what follows, and a double makes it slow for good.
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

  /** The window that holds a page whole, or -1. */
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

  /** Four neighbours stay side by side; what lies farther apart is spread (Fibonacci hashing), also what lies 2^n apart. */
  function slotOf(hi: number, lo: number): number {
    const region = (hi << (32 - regionShift)) | (lo >>> regionShift);
    const group = Math.imul(region >>> 2, 0x9e37_79b1) >>> (34 - SLOT_BITS);
    return ((group << 2) | (region & 3)) * SLOT_WORDS;
  }

  return cache;
}

/** Where the first window begins and how long it is, in whole pages; 0 bytes where pages do not begin as it does. */
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
  /** Of each window: its first whole page, one past its last, and where the first begins in it. */
  readonly firstPage: Int32Array;
  readonly endPage: Int32Array;
  readonly firstAt: Int32Array;
  /** For every `2^nearbyShift` pages of physical memory a window that lies there: most likely the one that is looked for. */
  readonly nearby: Int32Array;
  readonly nearbyShift: number;
}

/** Parts of physical memory that know a window at most. */
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
