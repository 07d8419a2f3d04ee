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
  /** Offset of each page in the window that holds it; -1 if it is missing. The same array as `pages` if `window` holds all. */
  readonly places: Int32Array;
  /** The index of the window that holds each page; undefined if `window` holds all. */
  readonly indexes: Int32Array | undefined;
}

/** Limit on the length of a range. */
const MAX_BYTES = 2 ** 31 - 2 ** 16;

/**
 * Locates the pages of `length` bytes at `hi:lo`; undefined if the image has none of them. Pages that are not in the window of
 * the first one are left out of `pages`.
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
  const places = new Int32Array(Math.ceil(bytes / pageBytes));
  const indexes = new Int32Array(places.length);
  // A map instead of `indexOf`, because a capture has many windows.
  const indexOf = new Map(memory.physical.windows.map((each, index) => [each, index]));
  let window: Window | undefined;
  let index = -1;
  let last: Window | undefined;
  let lastIndex = -1;
  let isOneWindow = true;
  for (let page = 0; page < places.length; page++) {
    const at = memory.locate(hi, start, page * pageBytes, pageBytes);
    if (at >= 0 && memory.window !== last) {
      last = memory.window;
      // A part of a window, which a linear run can have, has no index.
      lastIndex = indexOf.get(last) ?? -1;
      if (window === undefined) {
        window = last;
        index = lastIndex;
      }
      isOneWindow &&= window === last;
    }
    places[page] = at >= 0 && lastIndex >= 0 ? at : -1;
    indexes[page] = Math.max(0, lastIndex);
  }
  if (window === undefined || index < 0) return undefined;
  const range = { hi: hi | 0, lo: start, length: bytes, pageShift, window, index, places };
  if (isOneWindow) return { ...range, pages: places, indexes: undefined };
  const pages = places.map((at, page) => (indexes[page] === index ? at : -1));
  return { ...range, pages, indexes };
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
  const { hi: rangeHi, places, indexes, pageShift, index } = range;
  const { hi, lo, at: ats, index: windows } = batch;
  const rangeLo = (range.lo - offset) | 0;
  const rangeBytes = range.length | 0;
  const inPageMask = ~(-1 << pageShift);
  const lastInPage = (2 ** pageShift - length) | 0;
  for (let n = 0; n < count; n++) {
    const inRange = (lo[n]! - rangeLo) | 0;
    const inPage = inRange & inPageMask;
    let at = -1;
    let window = index;
    if (hi[n] === rangeHi && inRange >= 0 && inRange < rangeBytes && inPage <= lastInPage) {
      const page = inRange >>> pageShift;
      const place = places[page]!;
      if (place >= 0) at = (place + inPage) | 0;
      if (indexes !== undefined) window = indexes[page]!;
    }
    ats[n] = at;
    windows[n] = window;
  }
}
