/** The first elements of a hash table's chains, read for many buckets at once and prefetched before the walk visits them. */
import type { Window } from "../../image/physical.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { type AddressBatch, addressBatch } from "../../memory/address-batch.ts";
import type { GuestMemory } from "../../memory/memory.ts";
import type { BucketTable } from "./chain-layout.ts";
import { type Account, mostObjects } from "./walk.ts";

/** Most callers stop after the first few elements, so the first batch is small. */
const FIRST_CHAINS = 16;
/** Chains in every later batch; the second number is for tables whose chains hold one element on average. */
const CHAINS = 64;
const SHORT_CHAINS = 256;
/** Bytes to prefetch: must fit in the L2 cache until the walk reaches them. */
const PREFETCH_BYTES = 2 ** 19;
/** A table with fewer buckets fits in the L2 cache with its elements, and is not prefetched. */
const MANY_BUCKETS = 8192;
const CACHE_LINE_BYTES = 64;
/** The smallest page size of any supported kernel. */
export const PAGE_BYTES = 4096;

/** The buffers of one walk. Allocating them takes as long as walking a table of a few hundred elements. */
class HeadBuffers {
  readonly batch: AddressBatch;
  readonly bucket: Int32Array;
  /** A copy of buckets of one page: an Int32Array is faster to read than a DataView. */
  readonly words: Int32Array = new Int32Array(PAGE_BYTES / 4);
  readonly wordBytes: Uint8Array = new Uint8Array(this.words.buffer);
  /** Later elements of the same chains, located to be prefetched. */
  readonly followers: AddressBatch;

  constructor(chains: number) {
    this.batch = addressBatch(chains);
    this.bucket = new Int32Array(chains);
    this.followers = addressBatch(chains);
  }
}

const NO_BUFFERS = new HeadBuffers(0);
/** Buffers of walks that ended. The next walks use them. */
const spare: HeadBuffers[] = [];
const MAX_SPARE = 4;

/** Offsets in an element, relative to its start, and how many of its bytes are read. */
export interface ElementSpan {
  readonly node: number;
  readonly key: number;
  readonly span: number;
}

export class ChainHeads {
  count = 0;
  /** Whether `batch.at` and `batch.index` are set. They are not for small tables in linear runs: see `GuestMemory.runAt`. */
  isLocated = false;
  /** The next one in the batch that was not visited. */
  index = 0;

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
  #headMask = -1;
  #room = FIRST_CHAINS;
  #buffers: HeadBuffers = NO_BUFFERS;
  /** The result of the prefetch reads. It is stored so that the JIT does not remove them. */
  touched = 0;

  constructor(
    kernel: GuestKernel,
    table: BucketTable,
    { node, key, span }: ElementSpan,
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
    this.#chains = maxEntries > table.count ? CHAINS : SHORT_CHAINS;
    this.#table = table;
    this.enter(table);
  }

  /** Addresses of the nodes that the current batch of buckets points to; `at` is where their elements begin. */
  get batch(): AddressBatch {
    return this.#buffers.batch;
  }

  /** The bucket number of each. */
  get bucket(): Int32Array {
    return this.#buffers.bucket;
  }

  /** Starts at the first bucket of a table. */
  enter(table: BucketTable): void {
    this.#table = table;
    this.#nextBucket = 0;
    this.#bucketCount = Math.min(table.count, mostObjects(this.#kernel, table.bytesEach));
    this.#headMask = table.hasLockBit === true ? -2 : -1;
  }

  /** Skips everything that is left, and gives the buffers to the next walk. */
  stop(): void {
    this.#nextBucket = this.#bucketCount;
    this.count = 0;
    if (this.#buffers !== NO_BUFFERS && spare.length < MAX_SPARE) spare.push(this.#buffers);
    this.#buffers = NO_BUFFERS;
  }

  /** Reads batches until one has a chain that is not empty. False at the end of the table, or if the walk was stopped. */
  read(): boolean {
    while (this.index >= this.count) {
      if (this.#account.stopped !== "" || this.#nextBucket >= this.#bucketCount) return false;
      this.#readBatch();
    }
    return true;
  }

  /** Reads the buckets that lie in one page, and keeps those whose chain is not empty. */
  #readBatch(): void {
    if (this.#buffers === NO_BUFFERS) this.#buffers = spare.pop() ?? new HeadBuffers(SHORT_CHAINS);
    const { words, wordBytes, bucket: buckets, batch } = this.#buffers;
    const { at: table, bytesEach, first } = this.#table;
    const start = this.#nextBucket * bytesEach + first;
    const inPage = (table.lo + start) & (PAGE_BYTES - 1);
    const fitting = Math.floor((PAGE_BYTES - inPage - 8) / bytesEach) + 1;
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
    wordBytes.set(this.#memory.bytes.subarray(at, at + length));
    const wordsEach = bytesEach >>> 2;
    const { hi, lo } = batch;
    const nextBucket = this.#nextBucket;
    const mask = this.#headMask;
    let heads = 0;
    for (let index = 0, word = 0; index < count; index++, word += wordsEach) {
      const low = words[word]! & mask;
      const high = words[word + 1]!;
      buckets[heads] = nextBucket + index;
      lo[heads] = low;
      hi[heads] = high;
      // Branchless: the next bucket overwrites an empty one. A branch here would be mispredicted often.
      const either = low | high;
      heads += ~low & ((either | -either) >>> 31);
    }
    this.count = heads;
    this.#nextBucket += count;
    this.#prefetch();
  }

  /**
   * Locates the heads, and in large tables prefetches the elements: first those that the heads point to, then the next
   * elements of all these chains. Reads that do not depend on each other overlap in the CPU; following one chain at a
   * time would wait for every element.
   */
  #prefetch(): void {
    const memory = this.#memory;
    const elementAt = 0 - this.#nodeAt;
    const nodeEnd = this.#nodeAt + 8;
    let { batch } = this.#buffers;
    const { followers } = this.#buffers;
    let count = this.count;
    const isSmall = this.#bucketCount < MANY_BUCKETS;
    this.isLocated = !isSmall || elementAt !== 0 || memory.runAt(batch.hi[0]!, batch.lo[0]!) === undefined;
    if (this.isLocated) memory.locateEach(batch, count, elementAt, nodeEnd);
    if (isSmall) return;
    for (let left = PREFETCH_BYTES / this.#span; count > 0 && left > 0; left -= count) {
      this.#touch(batch, count);
      count = this.#readNext(batch, count);
      batch = followers;
      memory.locateEach(batch, count, elementAt, nodeEnd);
    }
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
      if ((low & 1) === 1 || (low | high) === 0) continue;
      lo[next] = low;
      hi[next++] = high;
    }
    return next;
  }
}
