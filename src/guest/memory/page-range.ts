/** Ranges of kernel addresses whose pages are located once, so that a loop finds an address by one load. */
import type { Window } from "../image/physical.ts";
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
  for (let page = 0; page < pages.length; page++) {
    const at = memory.locate(hi, start, page * pageBytes, pageBytes);
    if (at >= 0) window ??= memory.window;
    pages[page] = at >= 0 && memory.window === window ? at : -1;
  }
  return window && { hi: hi | 0, lo: start, length: bytes, pageShift, pages, window };
}
