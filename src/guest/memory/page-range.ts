/** Ranges of kernel addresses whose pages are located once, so that a loop finds an address by one load. */
import type { Window } from "../image/physical.ts";
import type { AddressBatch } from "./address-batch.ts";
import type { GuestMemory } from "./memory.ts";

/**
 * Byte `offset` of the range is at `pages[offset >>> pageShift] + (offset & ~(-1 << pageShift))` of `window`. An object that
 * does not end in the page where it begins may be split.
 */
export interface PageRange {
  /** The first address, which is the start of a page. */
  readonly hi: number;
  readonly lo: number;
  /** Length in bytes, less than 2^31. All addresses have the same high word. */
  readonly length: number;
  readonly pageShift: number;
  /** Offset of each page in `window`; -1 if it is not there. */
  readonly pages: Int32Array;
  readonly window: Window;
  /** The index of `window` in `physical.windows`. */
  readonly index: number;
  /** Whether pages that are not in `window` are missing, and not in another one. */
  readonly isOneWindow: boolean;
}

/** Limit on the length of a range. */
const MAX_BYTES = 2 ** 31 - 2 ** 16;

/**
 * Locates the pages of `length` bytes at `hi:lo`; undefined if the image has none of them. Pages that are not in the window of
 * the first one are left out.
 */
export function locatePages(
  memory: GuestMemory,
  hi: number,
  lo: number,
  length: number,
): PageRange | undefined {
  const { pageShift } = memory.tables.mode;
  const pageBytes = 2 ** pageShift;
  const start = lo & (-1 << pageShift);
  const bytes = Math.min(length + ((lo - start) | 0), 2 ** 32 - (start >>> 0), MAX_BYTES);
  const pages = new Int32Array(Math.ceil(bytes / pageBytes));
  let window: Window | undefined;
  let isOneWindow = true;
  for (let page = 0; page < pages.length; page++) {
    const at = memory.locate(hi, start, page * pageBytes, pageBytes);
    if (at >= 0) window ??= memory.window;
    const isHere = memory.window === window;
    pages[page] = at >= 0 && isHere ? at : -1;
    isOneWindow &&= at < 0 || isHere;
  }
  if (window === undefined) return undefined;
  // -1 for a part of a window, which a linear run can have.
  const index = memory.physical.windows.indexOf(window);
  isOneWindow &&= index >= 0;
  return { hi: hi | 0, lo: start, length: bytes, pageShift, pages, window, index, isOneWindow };
}

/**
 * Stores the places of the first `count` addresses of a batch plus `offset`; -1 if the `length` bytes there are not in one page
 * of the range.
 */
export function findInPages(
  range: PageRange,
  batch: AddressBatch,
  count: number,
  offset: number,
  length: number,
): void {
  const { hi: rangeHi, pages, pageShift, index } = range;
  const { hi, lo, at: ats, index: indexes } = batch;
  const rangeLo = (range.lo - offset) | 0;
  const rangeBytes = range.length | 0;
  const inPageMask = ~(-1 << pageShift);
  const lastInPage = (2 ** pageShift - length) | 0;
  for (let n = 0; n < count; n++) {
    const inRange = (lo[n]! - rangeLo) | 0;
    const inPage = inRange & inPageMask;
    let at = -1;
    if (hi[n] === rangeHi && inRange >= 0 && inRange < rangeBytes && inPage <= lastInPage) {
      const page = pages[inRange >>> pageShift]!;
      if (page >= 0) at = (page + inPage) | 0;
    }
    ats[n] = at;
    indexes[n] = index;
  }
}
