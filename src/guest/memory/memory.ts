/**
 * The guest's virtual memory: what every walker reads through.
 *
 * An address is two int32 words and a byte offset: `(hi, lo, offset)` reads at `hi:lo + offset`. The words come
 * as `DataView.getInt32` gives them (an unsigned word works too, and is slower). The offset is any integer, also
 * past 4 GiB and negative (`container_of`), so no caller ever carries between words.
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
 * `memory.view` and `memory.bytes` are the image itself wherever the range is contiguous there, else a copy
 * stitched from its pages; both are good until the next read. Where many objects lie all over memory, `locateEach` finds
 * some hundred of them together.
 *
 * **Everything else** uses `pointer`, `u32`, `copy` and their like, which throw `GuestFault` with the path that
 * led there. A walker catches it per object, counts it, and goes on.
 *
 * How an address is translated, first match wins: the linear run that was hit last, the page
 * tables that earlier walks came to (`page-cache.ts`), the other linear runs (the direct map, the kernel's image), the page tables.
 */

import { copyBytes, NO_WINDOW, type PhysicalMemory, type Window, windowOf } from "../image/physical.ts";
import type { AddressBatch } from "./address-batch.ts";
import { type FaultReason, faultSentence, GuestFault } from "./fault.ts";
import { NOT_CANONICAL, type PageTables, TABLE_OUTSIDE } from "./mmu.ts";
import { type PageCache, pageCache } from "./page-cache.ts";
import type { Pointer } from "./pointer.ts";
import { LinearRuns } from "./runs.ts";

const TWO_32 = 2 ** 32;
const SIGN = 0x8000_0000 | 0;

/** The longest range that `locate` answers; a longer one is read in parts. */
export const LOCATE_MAX_BYTES: number = 64 * 2 ** 20;

export class GuestMemory {
  /** What the last `locate` found something in; the offset that it returned counts from its start. */
  window: Window = NO_WINDOW;

  readonly physical: PhysicalMemory;
  readonly tables: PageTables;

  // The run that was hit last, spread out: one object less on the way in the hot path.
  #runHi = 0;
  #runLo = 0;
  #runLength = 0;
  #run: Window = NO_WINDOW;
  readonly #runs: LinearRuns = new LinearRuns();

  readonly #pageBytes: number;
  readonly #windows: readonly Window[];
  readonly #tables: PageCache;

  // What `#resolve` found: `#pieceLength` bytes at `#pieceAt` of `#piece`.
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

  /** The same. */
  get view(): DataView {
    return this.window.view;
  }

  /**
   * Tells that `length` bytes of kernel addresses from `base` on map to physical memory from `physical` on (the
   * direct map, the kernel's image). Where the image has no bytes, the page tables are asked as before.
   */
  addLinear(base: Pointer, physical: number, length: number): void {
    this.#runs.add(this.physical, base, physical, length);
  }

  /** Of memory that changes: where mapped addresses lead is asked of the page tables anew. */
  forget(): void {
    this.#tables.forget();
  }

  /**
   * Where the `length` bytes at `hi:lo + offset` lie: their offset in `this.bytes` and `this.view`, or -1 with
   * the reason kept for `faultSentence` and `fault`. `length` is 0 to `LOCATE_MAX_BYTES`.
   */
  locate(hi: number, lo: number, offset: number, length: number): number {
    // Integer arithmetic throughout: a run lies within one `hi` word, so the words never carry here.
    const delta = (lo - this.#runLo) | 0;
    const at = delta + offset;
    if ((hi | 0) === this.#runHi && delta >= 0 && offset >= 0 && at <= this.#runLength - length) {
      this.window = this.#run;
      return at;
    }
    return this.#locateOther(hi | 0, lo | 0, offset, length);
  }

  /** The same at `hi:lo + otherHi:otherLo + offset`: a per-CPU pointer and a CPU's offset. */
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
   * `locate` for the first `count` addresses of a batch at once: where `length` bytes `offset` (up to 2^31 either way) from
   * each lie in one of `physical.windows`. `bytes` and `view` stay what they were. An `at` of -1 is for `locate` to answer:
   * they lie there in parts or not at all, or in a page that nobody came to before.
   */
  locateEach(batch: AddressBatch, count: number, offset: number, length: number): void {
    // Objects of one kind lie all in linear runs, or all in mapped pages.
    const isLinear = count > 0 && this.#runs.at(batch.hi[0]!, (batch.lo[0]! + offset) | 0) !== undefined;
    if (isLinear) this.#runs.findEach(batch, count, offset, length);
    else this.#tables.findEach(batch, count, offset, length);
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

  /** A range that begins in a page that was found: of two pages, most often. */
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

  /** Makes the run that holds all of a range the one that is asked first. */
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

  /** A range that no run holds whole: page by page, and copied only where its pages are not neighbours. */
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

  /** Where a range is put together, at its start. */
  #scratchOf(length: number): Window {
    if (this.#scratch.bytes.length < length)
      this.#scratch = windowOf(0, new Uint8Array(Math.max(length, 2 * this.#scratch.bytes.length)));
    return this.#scratch;
  }

  /** How many bytes from an address on it copied before one had no answer. */
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

  /** Finds the bytes at an address and how many of them follow one another. */
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
    // The engine must see integers: a double in one place here makes the hot loops that call it slow.
    const at = (physical - window.physical) | 0;
    this.#piece = window;
    this.#pieceAt = at;
    const leafBytes = 1 << Math.min(this.tables.leafShift, 30);
    this.#pieceLength = Math.min(leafBytes - (lo & (leafBytes - 1)), window.bytes.length - at);
    this.#tables.remember(hi, lo, physical, this.tables.table, this.tables.leafShift);
    return true;
  }

  /** `answer`: a negative one of `PageTables.translate`. */
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

  /** For subclasses: a `locate` whose page is in the image and cannot be had. */
  protected failUnreadable(hi: number, lo: number): -1 {
    return this.#fail("unreadable", hi, lo, "");
  }

  /** Why the last `locate` that answered -1 did so. `path`: how the address was come by. */
  faultSentence(path: string): string {
    return faultSentence(this.#faultReason, this.#faultHi, this.#faultLo, this.#faultLevel, path);
  }

  /** The same as an error. */
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

  /** A pointer that lies in memory. */
  pointer(hi: number, lo: number, offset: number, path: string): Pointer {
    const at = this.expect(hi, lo, offset, 8, path);
    return { hi: this.view.getInt32(at + 4, true), lo: this.view.getInt32(at, true) };
  }

  /** `length` bytes as they lie in the image, good until it is closed; a copy where they lie there in parts. */
  share(hi: number, lo: number, offset: number, length: number, path: string): Uint8Array {
    const at = this.expect(hi, lo, offset, length, path);
    const part = this.bytes.subarray(at, at + length);
    return this.window === this.#scratch ? part.slice() : part;
  }

  /** The caller's own copy of `length` bytes (at most `LOCATE_MAX_BYTES`). */
  copy(hi: number, lo: number, offset: number, length: number, path: string): Uint8Array {
    const at = this.expect(hi, lo, offset, length, path);
    return this.bytes.slice(at, at + length);
  }

  /**
   * Fills `into` from an address, of any length, and returns how many bytes came before the first that has no
   * answer (then kept for `fault`); all of them where that is `into.length`.
   */
  copyOut(hi: number, lo: number, offset: number, into: Uint8Array): number {
    const sum = (lo >>> 0) + offset;
    return this.#copyPieces((hi + Math.floor(sum / TWO_32)) | 0, sum | 0, into, into.length);
  }

  /** A C string's bytes without its NUL; cut at `maxBytes` where none comes before. A copy. */
  cstring(hi: number, lo: number, offset: number, maxBytes: number, path: string): Uint8Array {
    const into = new Uint8Array(maxBytes);
    let done = 0;
    while (done < maxBytes) {
      // Page by page: the string may end just before a page that is not there.
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

  /** The physical address behind a kernel virtual one; the image need not hold it. */
  physicalOf(hi: number, lo: number, path: string): number {
    const physical = this.translate(hi | 0, lo | 0);
    if (physical >= 0) return physical;
    this.#failTranslation(physical, hi, lo);
    throw this.fault(path);
  }

  /** The same, or a negative answer of `PageTables.translate`. */
  translate(hi: number, lo: number): number {
    const run = this.#runs.at(hi, lo);
    return run === undefined ? this.tables.translate(hi, lo) : run.window.physical + ((lo - run.lo) | 0);
  }
}

/** What the high word gains by adding `offset` (0 up to 2^32) to the low one. */
function carry(lo: number, offset: number): number {
  return (lo >>> 0) + offset >= TWO_32 ? 1 : 0;
}
