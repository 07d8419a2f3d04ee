/** The first elements of a hash table's chains, read for many buckets at once and prefetched before the walk visits them. */
import type { Window } from "../../image/physical.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { type AddressBatch, addressBatch } from "../../memory/address-batch.ts";
import type { GuestMemory } from "../../memory/memory.ts";
import { findInPages, type PageRange } from "../../memory/page-range.ts";
import type { BucketTable, Elements } from "./chain-layout.ts";
import { type Account, mostObjects } from "./walk.ts";

/** Most callers stop after the first few elements, so the first batch is small. */
const FIRST_CHAINS = 16;
/** Chains in every later batch; the second number is for tables whose chains hold one element on average. */
const CHAINS = 64;
const SHORT_CHAINS = 256;
/** The same in tables that are not prefetched, where only the number of batches costs time. */
const SMALL_TABLE_CHAINS = 1024;
/** Bytes to prefetch: must fit in the L2 cache until the walk reaches them. */
const PREFETCH_BYTES = 2 ** 19;
/** A table with fewer buckets fits in the L2 cache with its elements, and is not prefetched. */
const MANY_BUCKETS = 8192;
const CACHE_LINE_BYTES = 64;
/** The pages of a table with no more than these are located at once. */
const FEW_PAGES = 64;
/** The smallest page size of any supported kernel. */
export const PAGE_BYTES = 4096;

/** Elements that are collected together, at most. */
export const MAX_ELEMENTS = 1024;
/** Elements among them that begin in one page and end in another. */
export const MAX_SPLIT = 64;

/** The buffers of one walk. Allocating them takes as long as walking a table of a few hundred elements. */
export class WalkBuffers {
  readonly keyOffsets: Int32Array = new Int32Array(MAX_ELEMENTS);
  readonly valueOffsets: Int32Array = new Int32Array(MAX_ELEMENTS);
  /** For each split element: its index among the collected ones, and its node's address. */
  readonly splitIndex: Int32Array = new Int32Array(MAX_SPLIT);
  readonly splitHi: Int32Array = new Int32Array(MAX_SPLIT);
  readonly splitLo: Int32Array = new Int32Array(MAX_SPLIT);

  readonly batch: AddressBatch;
  readonly bucket: Int32Array;
  /** The addresses of `batch` as the kernel stores them: low word, high word. */
  readonly heads: Int32Array;
  /** A copy of buckets of one page, if they are not aligned words of the image. */
  readonly words: Int32Array = new Int32Array(PAGE_BYTES / 4);
  readonly wordBytes: Uint8Array = new Uint8Array(this.words.buffer);
  /** Later elements of the same chains, located to be prefetched. */
  readonly followers: AddressBatch;

  constructor(chains: number) {
    this.batch = addressBatch(chains);
    this.bucket = new Int32Array(chains);
    this.heads = new Int32Array(2 * chains);
    this.followers = addressBatch(chains);
  }
}

/** Buffers of walks that ended. The next walks use them. */
const spare: WalkBuffers[] = [];
const MAX_SPARE = 4;

/** Offsets in an element, relative to its start, and how many of its bytes are read. */
export interface ElementSpan {
  readonly node: number;
  readonly key: number;
  readonly span: number;
  readonly elements: Elements | undefined;
}

const NO_WORDS = new Int32Array(0);

export class ChainHeads {
  count = 0;
  /** A range of addresses that holds elements of this batch; undefined if every element must be located by a call. */
  range: PageRange | undefined;
  /** Index of the next head in the batch. */
  index = 0;

  /**
   * Head `n` of the batch: `words[firstWord + n * wordsEach]` is the low word of its first node's address, masked by
   * `headMask`, and the next word is the high one. It is empty if bit 0 is set or if both are 0. Its bucket is
   * `firstBucket + n`, or `buckets[n]` if empty ones were removed.
   */
  words: Int32Array = NO_WORDS;
  firstWord = 0;
  wordsEach = 2;
  headMask = -1;
  firstBucket = 0;
  buckets: Int32Array | undefined;
  /** The head that `take` took: its node's address, its bucket, and the offset of its element in `memory.window`, or -1. */
  lo = 1;
  hi = 0;
  bucket = 0;
  at = -1;

  readonly #kernel: GuestKernel;
  readonly #memory: GuestMemory;
  readonly #windows: readonly Window[];
  readonly #account: Account;
  readonly #nodeAt: number;
  readonly #keyAt: number;
  readonly #span: number;
  readonly #chains: number;
  #table: BucketTable;
  #nextBucket = 0;
  #bucketCount = 0;
  /** Whether `at` and `index` of the addresses are set. */
  #isLocated = false;
  /** Whether all buckets are adjacent in the image. */
  #isLinear = false;
  #room = FIRST_CHAINS;
  #isStopped = false;
  #buffers: WalkBuffers;
  /** Preallocated elements whose pages are not located yet. */
  #elements: Elements | undefined;
  #pages: PageRange | undefined;
  /** The result of the prefetch reads. It is stored so that the JIT does not remove them. */
  touched = 0;

  constructor(
    kernel: GuestKernel,
    table: BucketTable,
    { node, key, span, elements }: ElementSpan,
    maxEntries: number,
    account: Account,
  ) {
    this.#kernel = kernel;
    this.#memory = kernel.memory;
    this.#windows = kernel.memory.physical.windows;
    this.#account = account;
    this.#nodeAt = node;
    this.#keyAt = key;
    this.#span = span;
    const isShort = maxEntries <= table.count;
    this.#chains = table.count < MANY_BUCKETS ? SMALL_TABLE_CHAINS : isShort ? SHORT_CHAINS : CHAINS;
    this.#table = table;
    this.#elements = elements;
    this.#buffers = spare.pop() ?? new WalkBuffers(SMALL_TABLE_CHAINS);
    this.enter(table);
  }

  /** The buffers for the elements that the walk collects. */
  get buffers(): WalkBuffers {
    return this.#buffers;
  }

  /** Starts at the first bucket of a table. */
  enter(table: BucketTable): void {
    this.#table = table;
    this.#nextBucket = 0;
    this.#bucketCount = Math.min(table.count, mostObjects(this.#kernel, table.bytesEach));
    this.headMask = table.hasLockBit === true ? -2 : -1;
    const { hi, lo } = table.at;
    const run = this.#memory.runAt(hi, lo);
    const bytes = this.#bucketCount * table.bytesEach + table.first;
    this.#isLinear = run !== undefined && bytes <= run.length - ((lo - run.lo) | 0) && this.#isAligned(run);
  }

  #isAligned({ lo, pages, window }: PageRange): boolean {
    const { at, first, bytesEach } = this.#table;
    return window.words.length > 0 && (((pages[0]! + at.lo - lo + first) | bytesEach) & 3) === 0;
  }

  /** Skips everything that is left, and gives the buffers to the next walk. */
  stop(): void {
    this.#nextBucket = this.#bucketCount;
    this.count = 0;
    if (!this.#isStopped && spare.length < MAX_SPARE) spare.push(this.#buffers);
    this.#isStopped = true;
  }

  /** Reads batches until one has a chain that is not empty. False at the end of the table, or if the walk was stopped. */
  read(): boolean {
    while (this.index >= this.count) {
      if (this.#account.stopped !== "" || this.#nextBucket >= this.#bucketCount) return false;
      this.#readBatch();
    }
    return true;
  }

  /** Reads buckets that are adjacent in the image, and keeps those whose chain is not empty. */
  #readBatch(): void {
    const { at: table, bytesEach, first } = this.#table;
    const start = this.#nextBucket * bytesEach + first;
    const inPage = (table.lo + start) & (PAGE_BYTES - 1);
    const fitting = this.#isLinear ? this.#chains : Math.floor((PAGE_BYTES - inPage - 8) / bytesEach) + 1;
    const count = Math.min(this.#room, this.#bucketCount - this.#nextBucket, Math.max(1, fitting));
    const length = (count - 1) * bytesEach + 8;
    const at = this.#memory.locate(table.hi, table.lo, start, length);
    this.#room = this.#chains;
    this.count = 0;
    this.index = 0;
    if (at < 0) {
      this.#nextBucket++;
      this.#account.skip("bucket not-present");
      return;
    }
    this.#account.seen();
    this.#setWords(at, length);
    this.wordsEach = bytesEach >>> 2;
    this.firstBucket = this.#nextBucket;
    this.#nextBucket += count;
    this.count = count;
    this.buckets = undefined;
    this.#isLocated = false;
    const isSmall = this.#bucketCount < MANY_BUCKETS;
    if (!isSmall) this.#removeEmpty();
    this.range = this.#rangeOfBatch();
    if (!isSmall) this.#prefetch();
  }

  /** Sets `words` to the image's own if they are aligned there. */
  #setWords(at: number, length: number): void {
    const { window } = this.#memory;
    if ((at & 3) === 0 && window.words.length > 0) {
      this.words = window.words;
      this.firstWord = at >>> 2;
      return;
    }
    const { words, wordBytes } = this.#buffers;
    wordBytes.set(window.bytes.subarray(at, at + length));
    this.words = words;
    this.firstWord = 0;
  }

  /** Keeps the heads of chains that are not empty. */
  #removeEmpty(): void {
    const { bucket: buckets, batch, heads } = this.#buffers;
    const { words, count, wordsEach, firstBucket, headMask } = this;
    const { hi, lo } = batch;
    let kept = 0;
    for (let index = 0, word = this.firstWord; index < count; index++, word = (word + wordsEach) | 0) {
      const low = words[word]! & headMask;
      const high = words[word + 1]!;
      buckets[kept] = firstBucket + index;
      heads[2 * kept] = lo[kept] = low;
      heads[2 * kept + 1] = hi[kept] = high;
      // Branchless: the next bucket overwrites an empty one. A branch here would be mispredicted often.
      const either = low | high;
      kept += ~low & ((either | -either) >>> 31);
    }
    this.count = kept;
    this.words = heads;
    this.firstWord = 0;
    this.wordsEach = 2;
    this.buckets = buckets;
  }

  /** Takes the next head of the batch. False if it is empty. */
  take(): boolean {
    const index = this.index++;
    const word = this.firstWord + index * this.wordsEach;
    this.lo = this.words[word]! & this.headMask;
    this.hi = this.words[word + 1]!;
    if ((this.lo & 1) === 1 || (this.lo | this.hi) === 0) return false;
    this.bucket = this.buckets === undefined ? this.firstBucket + index : this.buckets[index]!;
    this.at = this.#isLocated ? this.#placeOf(index) : -1;
    return true;
  }

  /**
   * Returns the offset of a head's element in `memory.window`, or -1 if it must be located again: the batch located only the part
   * up to the end of the node, and the rest may be in another page or not in the image.
   */
  #placeOf(index: number): number {
    const { batch } = this.#buffers;
    const at = batch.at[index]!;
    const window = this.#windows[batch.index[index]!]!;
    const inPage = (this.lo - this.#nodeAt) & (PAGE_BYTES - 1);
    if (at < 0 || inPage + this.#span > PAGE_BYTES || at > window.bytes.length - this.#span) return -1;
    this.#memory.window = window;
    return at;
  }

  /** Most callers stop in the first batch, so the pages of a large table are located after it. */
  #rangeOfBatch(): PageRange | undefined {
    const elements = this.#elements;
    if (elements !== undefined && (this.firstBucket > 0 || elements.length <= FEW_PAGES * PAGE_BYTES)) {
      this.#elements = undefined;
      this.#pages = this.#memory.pagesAt(elements.hi, elements.lo, elements.length);
    }
    return this.#pages ?? this.#runOfBatch();
  }

  /** The linear run of the first element. */
  #runOfBatch(): PageRange | undefined {
    const { words, wordsEach, headMask } = this;
    let word = this.firstWord;
    for (let index = 0; index < this.count; index++, word += wordsEach) {
      const lo = words[word]! & headMask;
      const hi = words[word + 1]!;
      if ((lo & 1) === 0 && (lo | hi) !== 0) return this.#memory.runAt(hi, lo);
    }
    return undefined;
  }

  /**
   * Locates the heads, and prefetches the elements: first those that the heads point to, then the next elements of all these
   * chains. Reads that do not depend on each other overlap in the CPU; following one chain at a time would wait for every
   * element.
   */
  #prefetch(): void {
    let { batch } = this.#buffers;
    const { followers } = this.#buffers;
    let { count } = this;
    this.#isLocated = true;
    this.#locate(batch, count);
    for (let left = PREFETCH_BYTES / this.#span; count > 0 && left > 0; left -= count) {
      this.#touch(batch, count);
      count = this.#readNext(batch, count);
      batch = followers;
      this.#locate(batch, count);
    }
  }

  /** Locates the start of each element, up to the end of its node. */
  #locate(batch: AddressBatch, count: number): void {
    const elementAt = 0 - this.#nodeAt;
    const nodeEnd = this.#nodeAt + 8;
    const pages = this.#pages;
    if (pages !== undefined) findInPages(pages, batch, count, elementAt, nodeEnd);
    else this.#memory.locateEach(batch, count, elementAt, nodeEnd);
  }

  /**
   * Reads the first and the last byte of each element, and of long ones the key. The loop has no branch that depends on
   * memory: an element that is missing or split reads byte 0 instead.
   */
  #touch({ at: ats, index: windows }: AddressBatch, count: number): void {
    const keyAt = this.#keyAt;
    const last = this.#span - 1;
    const isLong = this.#span > 2 * CACHE_LINE_BYTES;
    let touched = 0;
    for (let n = 0; n < count; ) {
      const window = windows[n]!;
      const { bytes } = this.#windows[window]!;
      const most = (bytes.length - 1) | 0;
      for (; n < count && windows[n] === window; n++) {
        // Not Math.max: it is a call until this loop is compiled.
        const at = ats[n]! & ~(ats[n]! >> 31);
        const end = (at + last) | 0;
        touched ^= bytes[at]! ^ bytes[end < most ? end : most]!;
        if (isLong) touched ^= bytes[at + keyAt < most ? at + keyAt : most]!;
      }
    }
    this.touched = touched;
  }

  /** Fills the followers with the elements that come after these. Returns how many there are. */
  #readNext({ at: ats, index: windows }: AddressBatch, count: number): number {
    const { hi, lo } = this.#buffers.followers;
    let next = 0;
    for (let n = 0; n < count; n++) {
      const at = ats[n]! + this.#nodeAt;
      if (at < this.#nodeAt) continue;
      const { view } = this.#windows[windows[n]!]!;
      const low = view.getInt32(at, true);
      const high = view.getInt32(at + 4, true);
      lo[next] = low;
      hi[next] = high;
      // Branchless, as in `#removeEmpty`: the next element overwrites the end of a chain.
      const either = low | high;
      next += ~low & ((either | -either) >>> 31);
    }
    return next;
  }
}
