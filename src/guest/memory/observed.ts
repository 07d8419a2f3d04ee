/** Virtual memory that calls an observer before pages are read (image/observed.ts). */
import type { PageObserver } from "../image/observed.ts";
import type { PhysicalMemory } from "../image/physical.ts";
import type { AddressBatch } from "./address-batch.ts";
import { GuestMemory, type LazyBytes, LOCATE_MAX_BYTES } from "./memory.ts";
import type { PageTables } from "./mmu.ts";
import { add, type Pointer } from "./pointer.ts";

/**
 * Observes reads by virtual address up to the first fault, so that a reader of a capture gets a fault in the same place and for
 * the same reason.
 *
 * @public Loaded by kernel.ts.
 */
export class ObservedMemory extends GuestMemory {
  readonly #observer: PageObserver;
  readonly #pageBytes: number;

  constructor(physical: PhysicalMemory, tables: PageTables, observer: PageObserver) {
    super(physical, tables);
    this.#observer = observer;
    this.#pageBytes = 1 << tables.mode.pageShift;
  }

  override locate(hi: number, lo: number, offset: number, length: number): number {
    if (length >= 0 && length <= LOCATE_MAX_BYTES) {
      const start = add({ hi, lo }, offset);
      if (this.#noted(start, length) < 0) return this.failUnreadable(start.hi, start.lo);
    }
    return super.locate(hi, lo, offset, length);
  }

  override locateEach(batch: AddressBatch, count: number, offset: number, length: number): void {
    // The caller uses `locate` for addresses that cannot be read, because it gives the reason.
    const unreadable: number[] = [];
    for (let n = 0; n < count; n++)
      if (this.#noted(add({ hi: batch.hi[n]!, lo: batch.lo[n]! }, offset), length) < 0) unreadable.push(n);
    super.locateEach(batch, count, offset, length);
    for (const n of unreadable) batch.at[n] = -1;
  }

  /** Returns undefined, because reads that do not go through `locate` would not be observed. */
  override runAt(): undefined {}

  /** Returns undefined for the same reason. */
  override pagesAt(): undefined {}

  override copyOut(hi: number, lo: number, offset: number, into: Uint8Array): number {
    const start = add({ hi, lo }, offset);
    const noted = this.#noted(start, into.length);
    if (noted >= 0) return super.copyOut(hi, lo, offset, into);
    const got = super.copyOut(hi, lo, offset, into.subarray(0, ~noted));
    const at = add(start, got);
    this.failUnreadable(at.hi, at.lo);
    return got;
  }

  override lazily(hi: number, lo: number, length: number): LazyBytes | undefined {
    const at = super.locate(hi, lo, 0, length);
    if (at < 0) return undefined;
    // Parts that are not adjacent are copied into one buffer, so they are read now.
    if (!this.physical.windows.includes(this.window)) return super.lazily(hi, lo, length);
    const need = (from: number, count: number): void => {
      const start = add({ hi, lo }, from);
      if (this.#noted(start, count) >= 0) return;
      this.failUnreadable(start.hi, start.lo);
      throw this.fault("");
    };
    return { bytes: this.bytes.subarray(at, at + length), need };
  }

  /** Returns the number of observed bytes up to the first fault; `~count` if the page after them is unreadable. */
  #noted(start: Pointer, length: number): number {
    const wanted = Math.max(length, 1);
    let at = start;
    let done = 0;
    while (done < wanted) {
      const physical = this.translate(at.hi, at.lo);
      const window = this.physical.windows[this.physical.indexOf(physical)];
      if (window === undefined) return done;
      // A capture can hold only a part of a page (CAPTURE_PAGE_BYTES).
      const restOfPage = this.#pageBytes - (at.lo & (this.#pageBytes - 1));
      const size = Math.min(wanted - done, restOfPage, window.end - physical);
      if (!this.#observer.note(physical, size)) return ~done;
      at = add(at, size);
      done += size;
    }
    return done;
  }
}
