/** Linear runs: kernel addresses that are translated by one subtraction, in the direct map or the kernel's image. */

import { type PhysicalMemory, type Window, windowOf } from "../image/physical.ts";
import type { AddressBatch } from "./address-batch.ts";
import type { PageRange } from "./page-range.ts";
import { fromBigInt, type Pointer, toBigInt } from "./pointer.ts";

/** A range of linearly mapped addresses, in one window and with the same high word. */
export interface LinearRun {
  readonly hi: number;
  readonly lo: number;
  /** Length in bytes, at most that of a window. */
  readonly length: number;
  /** The run's bytes as a window, which is a part of the physical window or all of it. */
  readonly window: Window;
  /** The index of the window in the physical windows, and the run's offset in it. */
  readonly index: number;
  readonly start: number;
  /** The run as a range of one page, in the physical window. */
  readonly range: PageRange;
}

/** Every offset in a run is less than a page of this size. */
const RUN_PAGE_SHIFT = 31;

const SPACE_END = 1n << 64n;
const TWO_32 = 2 ** 32;
/** With the sign bit flipped, int32 words compare like unsigned ones. */
const SIGN = 0x8000_0000 | 0;

const NEAR_SLOTS = 256;
/** 16 KiB: nearby addresses are often in the same run. */
const NEAR_SHIFT = 14;

/** Runs sorted by address. They do not overlap. */
export class LinearRuns {
  readonly #runs: LinearRun[] = [];
  /** A cache by part of the address: a capture has hundreds of runs, most of which are used often. */
  readonly #near: (LinearRun | undefined)[] = new Array<LinearRun | undefined>(NEAR_SLOTS).fill(undefined);

  /** Adds the mapping of `length` bytes from `base` to `physical`, limited to the windows. */
  add(memory: PhysicalMemory, base: Pointer, physical: number, length: number): void {
    const start = toBigInt(base.hi, base.lo);
    for (const [index, window] of memory.windows.entries()) {
      let from = Math.max(window.physical, physical);
      const end = Math.min(window.end, physical + length);
      while (from < end) {
        const address = start + BigInt(from - physical);
        const { hi, lo } = fromBigInt(address);
        const size = Math.min(end - from, TWO_32 - (lo >>> 0));
        if (address + BigInt(size) > SPACE_END) break;
        const at = from - window.physical;
        const isAll = from === window.physical && from + size === window.end;
        const part = isAll ? window : windowOf(from, window.bytes.subarray(at, at + size));
        const pages = Int32Array.of(at);
        const range = {
          hi,
          lo,
          length: size,
          pageShift: RUN_PAGE_SHIFT,
          pages,
          window,
          index,
          places: pages,
          indexes: undefined,
        };
        this.#runs.push({ hi, lo, length: size, window: part, index, start: at, range });
        from += size;
      }
    }
    this.#runs.sort((a, b) => (a.hi >>> 0) - (b.hi >>> 0) || (a.lo >>> 0) - (b.lo >>> 0));
  }

  /** Returns the run that contains an address, by bisection: a filtered dump has thousands of runs. */
  at(hi: number, lo: number): LinearRun | undefined {
    const slot = ((lo >>> NEAR_SHIFT) ^ hi) & (NEAR_SLOTS - 1);
    const near = this.#near[slot];
    if (near !== undefined && near.hi === hi && (lo - near.lo) >>> 0 < near.length) return near;
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const run = this.#runs[middle]!;
      const isBelow = hi === run.hi ? (lo ^ SIGN) < (run.lo ^ SIGN) : (hi ^ SIGN) < (run.hi ^ SIGN);
      if (isBelow) high = middle;
      else low = middle + 1;
    }
    const run = this.#runs[low - 1];
    if (run === undefined || run.hi !== hi || (lo - run.lo) >>> 0 >= run.length) return undefined;
    this.#near[slot] = run;
    return run;
  }

  /**
   * Stores the places of the first `count` addresses of a batch plus `offset` (up to 2^31 in either direction); -1 if the
   * `length` bytes are not all in one run.
   */
  findEach(batch: AddressBatch, count: number, offset: number, length: number): void {
    const { hi, lo, at, index } = batch;
    let runHi = 0;
    let runLo = 0;
    let runStart = 0;
    let runIndex = 0;
    let last = -1;
    for (let n = 0; n < count; n++) {
      const start = lo[n]!;
      const low = (start + offset) | 0;
      let inRun = (low - runLo) | 0;
      if (hi[n] !== runHi || inRun < 0 || inRun > last || (low ^ start) < 0) {
        at[n] = -1;
        // Buffers are reused: an index of another machine may be here, and this one may have fewer windows.
        index[n] = 0;
        const run = (low ^ start) < 0 ? undefined : this.at(hi[n]!, low);
        if (run === undefined || ((low - run.lo) | 0) > run.length - length) continue;
        runHi = run.hi;
        runLo = run.lo;
        runStart = run.start;
        runIndex = run.index;
        last = (run.length - length) | 0;
        inRun = (low - runLo) | 0;
      }
      at[n] = (runStart + inRun) | 0;
      index[n] = runIndex;
    }
  }
}
