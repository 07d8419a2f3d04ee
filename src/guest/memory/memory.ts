/**
 * The guest's virtual memory.
 *
 * An address is two int32 words and a byte offset: `(hi, lo, offset)` reads at `hi:lo + offset`. The words are as
 * `DataView.getInt32` returns them (unsigned words work too, but are slower). The offset is any integer, also above 4 GiB or
 * negative (`container_of`), so that callers never carry between words.
 *
 * **Hot loops** use `locate`, which allocates nothing and never throws:
 *
 * ```ts
 * // struct hlist_nulls_node { struct hlist_nulls_node *next, **pprev; }
 * const at = memory.locate(hi, lo, 0, elementBytes);
 * if (at < 0) return stop(memory.faultSentence("bpf_htab.buckets[7]"));
 * const nextLo = memory.view.getInt32(at, true);
 * const nextHi = memory.view.getInt32(at + 4, true);
 * ```
 *
 * `memory.view` and `memory.bytes` are the image itself if the range is contiguous there, else a copy joined from its pages.
 * Both are valid until the next read. For many scattered objects, `locateEach` locates a few hundred together.
 *
 * **Everything else** uses `pointer`, `u32`, `copy` and so on, which throw `GuestFault` with the path. A walker catches it for
 * each object, counts it, and continues.
 *
 * Translation tries in this order: the linear run of the last hit, the page tables that earlier walks found (page-cache.ts),
 * the other linear runs (the direct map, the kernel's image), a page-table walk.
 */

import { copyBytes, NO_WINDOW, type PhysicalMemory, type Window, windowOf } from "../image/physical.ts";
import type { AddressBatch } from "./address-batch.ts";
import { type FaultReason, faultSentence, GuestFault } from "./fault.ts";
import { NOT_CANONICAL, type PageTables, TABLE_OUTSIDE } from "./mmu.ts";
import { type PageCache, pageCache } from "./page-cache.ts";
import { locatePages, type PageRange } from "./page-range.ts";
import type { Pointer } from "./pointer.ts";
import { LinearRuns } from "./runs.ts";

const TWO_32 = 2 ** 32;
const SIGN = 0x8000_0000 | 0;

/** A table in the image, whose pages may not have been read yet. */
export interface LazyBytes {
  /** Valid until the image is closed. */
  readonly bytes: Uint8Array;
  /** Must be called before a part of `bytes` is read. Throws `GuestFault` if a page is damaged. */
  need(offset: number, length: number): void;
}

/** Maximum length of a range in `locate`. Longer ranges are read in parts. */
export const LOCATE_MAX_BYTES: number = 64 * 2 ** 20;

export class GuestMemory {
  /** The window of the last successful `locate`; the returned offset is relative to its start. */
  window: Window = NO_WINDOW;

  readonly physical: PhysicalMemory;
  readonly tables: PageTables;

  // The members of the last run, copied here so that the hot path reads one object less.
  #runHi = 0;
  #runLo = 0;
  #runLength = 0;
  #run: Window = NO_WINDOW;
  readonly #runs: LinearRuns = new LinearRuns();

  readonly #pageBytes: number;
  readonly #windows: readonly Window[];
  readonly #tables: PageCache;

  // The result of `#resolve`: `#pieceLength` bytes at `#pieceAt` of `#piece`.
  #piece: Window = NO_WINDOW;
  #pieceAt = 0;
  #pieceLength = 0;
  #scratch: Window = windowOf(0, new Uint8Array(4096));

  #faultReason: FaultReason = "not-mapped";
  #faultHi = 0;
  #faultLo = 0;
  #faultLevel = "";

  constructor(physical: PhysicalMemory, tables: PageTables) {
    this.physical = physical;
    this.tables = tables;
    this.#pageBytes = 1 << tables.mode.pageShift;
    this.#windows = physical.windows;
    this.#tables = pageCache(physical, tables);
  }

  /** The bytes of `window`. */
  get bytes(): Uint8Array {
    return this.window.bytes;
  }

  /** View of the same bytes. */
  get view(): DataView {
    return this.window.view;
  }

  /**
   * Adds a linear mapping of `length` bytes from kernel address `base` to physical address `physical` (the direct map, the
   * kernel's image). Parts that are not in the image are still looked up in the page tables.
   */
  addLinear(base: Pointer, physical: number, length: number): void {
    this.#runs.add(this.physical, base, physical, length);
  }

  /** Drops cached translations, because the memory changes. */
  forget(): void {
    this.#tables.forget();
  }

  /**
   * Returns the offset in `this.bytes` and `this.view` of the `length` bytes at `hi:lo + offset`, or -1; `faultSentence` and
   * `fault` then give the reason. `length` is 0 to `LOCATE_MAX_BYTES`.
   */
  locate(hi: number, lo: number, offset: number, length: number): number {
    // Integer arithmetic only: a run has one `hi` word, so no carry between the words is needed.
    const delta = (lo - this.#runLo) | 0;
    const at = delta + offset;
    if ((hi | 0) === this.#runHi && delta >= 0 && offset >= 0 && at <= this.#runLength - length) {
      this.window = this.#run;
      return at;
    }
    return this.#locateOther(hi | 0, lo | 0, offset, length);
  }

  /** `locate` at `hi:lo + otherHi:otherLo + offset`: a per-CPU pointer plus a CPU's offset. */
  locateSum(
    hi: number,
    lo: number,
    otherHi: number,
    otherLo: number,
    offset: number,
    length: number,
  ): number {
    const low = (lo + otherLo) | 0;
    const carried = (low ^ SIGN) < (lo ^ SIGN) ? 1 : 0;
    return this.locate((hi + otherHi + carried) | 0, low, offset, length);
  }

  /**
   * Locates the first `count` addresses of a batch: `length` bytes at `offset` (up to 2^31 in either direction) from each, in
   * one of `physical.windows`. `bytes` and `view` do not change. If `at` is -1, the caller must use `locate`: the bytes are
   * split or missing, or in a page that was not looked up before.
   */
  locateEach(batch: AddressBatch, count: number, offset: number, length: number): void {
    // Objects of one kind are either all in linear runs or all in mapped pages.
    const isLinear = count > 0 && this.#runs.at(batch.hi[0]!, (batch.lo[0]! + offset) | 0) !== undefined;
    if (isLinear) this.#runs.findEach(batch, count, offset, length);
    else this.#tables.findEach(batch, count, offset, length);
  }

  /**
   * Returns the linear run that holds an address, so that a loop can locate others in it without a call. Returns undefined
   * if there is none, or if every read must go through `locate`.
   */
  runAt(hi: number, lo: number): PageRange | undefined {
    return this.#runs.at(hi, lo)?.range;
  }

  /** Returns the same for `length` bytes of mapped pages, which are located by this call: 10 ns each. */
  pagesAt(hi: number, lo: number, length: number): PageRange | undefined {
    return locatePages(this, hi, lo, length);
  }

  #locateOther(hi: number, lo: number, offset: number, length: number): number {
    const low = (lo + offset) | 0;
    const inPage = low & (this.#pageBytes - 1);
    // An int32 offset whose sum did not carry out of the low word (an unsigned compare, by flipped sign bits).
    const isPlain = (offset | 0) === offset && offset >= 0 && (low ^ SIGN) >= (lo ^ SIGN);
    if (!(isPlain && length >= 0)) return this.#locateSlow(hi, lo, offset, length);
    const at = this.#tables.find(hi, low);
    if (at < 0) {
      if (this.#enterRun(hi, low, length)) return (low - this.#runLo) | 0;
      return this.#locateSlow(hi, low, 0, length);
    }
    const index = this.#tables.index;
    if (inPage + length > this.#pageBytes) return this.#locateAcross(hi, low, length, at, index);
    this.window = this.#windows[index]!;
    return at;
  }

  /** Locates a range that starts in a known page; most of these cross into a second page. */
  #locateAcross(hi: number, lo: number, length: number, at: number, index: number): number {
    const first = this.#pageBytes - (lo & (this.#pageBytes - 1));
    const next = (lo + first) | 0;
    if (length > first + this.#pageBytes || next === 0) return this.#locateSlow(hi, lo, 0, length);
    const nextAt = this.#tables.find(hi, next);
    if (nextAt < 0) return this.#locateSlow(hi, lo, 0, length);
    const piece = this.#windows[index]!;
    const nextPiece = this.#windows[this.#tables.index]!;
    if (piece === nextPiece && nextAt === at + first) {
      this.window = piece;
      return at;
    }
    const scratch = this.#scratchOf(length);
    copyBytes(piece, at, scratch, 0, first);
    copyBytes(nextPiece, nextAt, scratch, first, length - first);
    this.window = scratch;
    return 0;
  }

  /** Finds the run that contains a whole range, so that it is tried first. */
  #enterRun(hi: number, lo: number, length: number): boolean {
    const run = this.#runs.at(hi, lo);
    if (run === undefined || ((lo - run.lo) | 0) > run.length - length) return false;
    this.#runHi = run.hi;
    this.#runLo = run.lo;
    this.#runLength = run.length;
    this.window = this.#run = run.window;
    return true;
  }

  #locateSlow(hi: number, lo: number, offset: number, length: number): number {
    const sum = (lo >>> 0) + offset;
    const high = (hi >>> 0) + Math.floor(sum / TWO_32);
    hi = high | 0;
    lo = sum | 0;
    if (!(length >= 0 && length <= LOCATE_MAX_BYTES)) return this.#fail("too-long", hi, lo, "");
    if (!(high >= 0 && high < TWO_32) || (hi === -1 && (lo >>> 0) + length > TWO_32))
      return this.#fail("wraps", hi, lo, "");
    return this.#enterRun(hi, lo, length) ? (lo - this.#runLo) | 0 : this.#gather(hi, lo, length);
  }

  /** Locates a range that is not in one run, page by page. It is copied only if its pages are not adjacent in the image. */
  #gather(hi: number, lo: number, length: number): number {
    if (!this.#resolve(hi, lo)) return -1;
    const piece = this.#piece;
    const at = this.#pieceAt;
    let done = this.#pieceLength;
    while (done < length) {
      if (!this.#resolve(hi + carry(lo, done), (lo + done) | 0)) return -1;
      if (this.#piece !== piece || this.#pieceAt !== at + done) return this.#stitch(hi, lo, length);
      done += this.#pieceLength;
    }
    this.window = piece;
    return at;
  }

  #stitch(hi: number, lo: number, length: number): number {
    const scratch = this.#scratchOf(length);
    if (this.#copyPieces(hi, lo, scratch.bytes, length) < length) return -1;
    this.window = scratch;
    return 0;
  }

  /** Returns the buffer in which ranges are joined, with at least `length` bytes. */
  #scratchOf(length: number): Window {
    if (this.#scratch.bytes.length < length)
      this.#scratch = windowOf(0, new Uint8Array(Math.max(length, 2 * this.#scratch.bytes.length)));
    return this.#scratch;
  }

  /** Copies from an address up to the first fault. Returns the number of bytes. */
  #copyPieces(hi: number, lo: number, into: Uint8Array, length: number): number {
    let done = 0;
    while (done < length) {
      if (!this.#resolve((hi + carry(lo, done)) | 0, (lo + done) | 0)) return done;
      const size = Math.min(this.#pieceLength, length - done);
      into.set(this.#piece.bytes.subarray(this.#pieceAt, this.#pieceAt + size), done);
      done += size;
    }
    return done;
  }

  /** Resolves an address, and the number of contiguous bytes there. */
  #resolve(hi: number, lo: number): boolean {
    const run = this.#runs.at(hi, lo);
    if (run !== undefined) {
      this.#piece = run.window;
      this.#pieceAt = (lo - run.lo) | 0;
      this.#pieceLength = run.length - this.#pieceAt;
      return true;
    }
    const at = this.#tables.find(hi, lo);
    if (at < 0) return this.#walkTables(hi, lo);
    this.#piece = this.physical.windows[this.#tables.index]!;
    this.#pieceAt = at;
    this.#pieceLength = this.#pageBytes - (lo & (this.#pageBytes - 1));
    return true;
  }

  #walkTables(hi: number, lo: number): boolean {
    const physical = this.tables.translate(hi, lo);
    if (physical < 0) {
      this.#failTranslation(physical, hi, lo);
      return false;
    }
    const window = this.physical.windows[this.physical.indexOf(physical)];
    if (window === undefined) {
      this.#fail("outside-image", hi, lo, "");
      return false;
    }
    // These must stay integers: a double here deoptimizes the hot loops that call this.
    const at = (physical - window.physical) | 0;
    this.#piece = window;
    this.#pieceAt = at;
    const leafBytes = 1 << Math.min(this.tables.leafShift, 30);
    this.#pieceLength = Math.min(leafBytes - (lo & (leafBytes - 1)), window.bytes.length - at);
    this.#tables.remember(hi, lo, physical, this.tables.table, this.tables.leafShift);
    return true;
  }

  /** `answer` is a negative result of `PageTables.translate`. */
  #failTranslation(answer: number, hi: number, lo: number): void {
    const reason: FaultReason =
      answer === NOT_CANONICAL ? "not-canonical" : answer === TABLE_OUTSIDE ? "table-outside" : "not-mapped";
    this.#fail(reason, hi, lo, this.tables.level);
  }

  #fail(reason: FaultReason, hi: number, lo: number, level: string): -1 {
    this.#faultReason = reason;
    this.#faultHi = hi;
    this.#faultLo = lo;
    this.#faultLevel = level;
    return -1;
  }

  /** For subclasses: fails `locate` for a page that is in the image but cannot be read. */
  protected failUnreadable(hi: number, lo: number): -1 {
    return this.#fail("unreadable", hi, lo, "");
  }

  /** Returns why the last `locate` returned -1. `path` says where the address comes from. */
  faultSentence(path: string): string {
    return faultSentence(this.#faultReason, this.#faultHi, this.#faultLo, this.#faultLevel, path);
  }

  /** Returns the same as an error. */
  fault(path: string): GuestFault {
    return new GuestFault(this.#faultReason, this.#faultHi, this.#faultLo, this.#faultLevel, path);
  }

  /** `locate` that throws `GuestFault`. */
  expect(hi: number, lo: number, offset: number, length: number, path: string): number {
    const at = this.locate(hi, lo, offset, length);
    if (at < 0) throw this.fault(path);
    return at;
  }

  u8(hi: number, lo: number, offset: number, path: string): number {
    const at = this.expect(hi, lo, offset, 1, path);
    return this.view.getUint8(at);
  }

  u16(hi: number, lo: number, offset: number, path: string): number {
    const at = this.expect(hi, lo, offset, 2, path);
    return this.view.getUint16(at, true);
  }

  u32(hi: number, lo: number, offset: number, path: string): number {
    const at = this.expect(hi, lo, offset, 4, path);
    return this.view.getUint32(at, true);
  }

  i32(hi: number, lo: number, offset: number, path: string): number {
    const at = this.expect(hi, lo, offset, 4, path);
    return this.view.getInt32(at, true);
  }

  u64(hi: number, lo: number, offset: number, path: string): bigint {
    const at = this.expect(hi, lo, offset, 8, path);
    return this.view.getBigUint64(at, true);
  }

  /** Reads a pointer stored at an address. */
  pointer(hi: number, lo: number, offset: number, path: string): Pointer {
    const at = this.expect(hi, lo, offset, 8, path);
    return { hi: this.view.getInt32(at + 4, true), lo: this.view.getInt32(at, true) };
  }

  /** Returns `length` bytes in the image, valid until it is closed, or a copy if they are split. */
  share(hi: number, lo: number, offset: number, length: number, path: string): Uint8Array {
    const at = this.expect(hi, lo, offset, length, path);
    const part = this.bytes.subarray(at, at + length);
    return this.window === this.#scratch ? part.slice() : part;
  }

  /**
   * Returns `length` bytes in the image, or undefined if a page is absent; `fault` then gives the reason. If the pages are
   * adjacent in the image, and are read on demand, this does not read them.
   */
  lazily(hi: number, lo: number, length: number): LazyBytes | undefined {
    const at = this.locate(hi, lo, 0, length);
    if (at < 0) return undefined;
    const part = this.bytes.subarray(at, at + length);
    return { bytes: this.window === this.#scratch ? part.slice() : part, need: () => {} };
  }

  /** Returns a new copy of `length` bytes (at most `LOCATE_MAX_BYTES`). */
  copy(hi: number, lo: number, offset: number, length: number, path: string): Uint8Array {
    const at = this.expect(hi, lo, offset, length, path);
    return this.bytes.slice(at, at + length);
  }

  /**
   * Fills `into` from an address, with any length. Returns the number of bytes before the first fault, which `fault` then
   * describes, or `into.length`.
   */
  copyOut(hi: number, lo: number, offset: number, into: Uint8Array): number {
    const sum = (lo >>> 0) + offset;
    return this.#copyPieces((hi + Math.floor(sum / TWO_32)) | 0, sum | 0, into, into.length);
  }

  /** Copies a C string without its NUL, or its first `maxBytes` bytes if there is no NUL in them. */
  cstring(hi: number, lo: number, offset: number, maxBytes: number, path: string): Uint8Array {
    const into = new Uint8Array(maxBytes);
    let done = 0;
    while (done < maxBytes) {
      // Page by page: the string may end just before an absent page.
      const size = Math.min(
        maxBytes - done,
        this.#pageBytes - (((lo >>> 0) + offset + done) % this.#pageBytes),
      );
      const at = this.expect(hi, lo, offset + done, size, path);
      const end = this.bytes.subarray(at, at + size).indexOf(0);
      into.set(this.bytes.subarray(at, at + (end < 0 ? size : end)), done);
      if (end >= 0) return into.subarray(0, done + end);
      done += size;
    }
    return into;
  }

  /** Returns the physical address of a kernel virtual address. It need not be in the image. */
  physicalOf(hi: number, lo: number, path: string): number {
    const physical = this.translate(hi | 0, lo | 0);
    if (physical >= 0) return physical;
    this.#failTranslation(physical, hi, lo);
    throw this.fault(path);
  }

  /** Returns the same, or a negative result of `PageTables.translate`. */
  translate(hi: number, lo: number): number {
    const run = this.#runs.at(hi, lo);
    return run === undefined ? this.tables.translate(hi, lo) : run.window.physical + ((lo - run.lo) | 0);
  }
}

/** Returns the carry into the high word of adding `offset` (0 up to 2^32) to the low one. */
function carry(lo: number, offset: number): number {
  return (lo >>> 0) + offset >= TWO_32 ? 1 : 0;
}
