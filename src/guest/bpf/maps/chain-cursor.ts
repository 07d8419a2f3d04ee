/** A walk over the chains of a hash table, whatever table it is: every kind that has buckets is one layout. */
import type { Window } from "../../image/physical.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { type AddressBatch, addressBatch } from "../../memory/address-batch.ts";
import type { GuestMemory } from "../../memory/memory.ts";
import { countNodes, type StepBudget } from "./chain.ts";
import type { BucketTable, ElementLayout } from "./chain-layout.ts";
import type { ValueReader } from "./value-reader.ts";
import { BatchedCursor, type GuestMap, mostObjects } from "./walk.ts";

const NO_BYTES = new Uint8Array(0);
const NO_BATCH = addressBatch(0);

const MAX_KEY_BYTES = 2 ** 20;

/** Chains that are read ahead first: of most tables nobody wants more elements than they hold. */
const FIRST_CHAINS = 16;
/** Then, and where they are of one element most often. */
const CHAINS_AT_ONCE = 64;
const SHORT_CHAINS_AT_ONCE = 256;
/** Elements that are handed out together; of one chain no more than so many of them. */
const TOGETHER = 256;
const MOST_FOLLOWED = 8;
/** What is read ahead: no more than stays in the processor's caches until it is visited. */
const AHEAD_BYTES = 2 ** 19;
/** From here on a table and its elements are more than the processor's nearest caches hold. */
const MANY_BUCKETS = 8192;
const CACHE_LINE_BYTES = 64;
/** The smallest page of any kernel. */
const PAGE_BYTES = 4096;

export class ChainCursor extends BatchedCursor {
  readonly #kernel: GuestKernel;
  readonly #memory: GuestMemory;
  readonly #windows: readonly Window[];
  readonly #tables: readonly BucketTable[];
  #table: BucketTable;
  #nextTable = 1;
  #hashMask = 0;
  #headMask = -1;
  /** From a node to its element. */
  readonly #elementAt: number;
  readonly #nodeAt: number;
  readonly #hashAt: number;
  readonly #keyAt: number;
  readonly #valueAt: number;
  /** What is located of an element at once. */
  readonly #span: number;
  readonly #reader: ValueReader | undefined;
  readonly #key: Uint8Array;

  /** First elements of chains that were read and not walked yet, and their buckets. */
  #heads: AddressBatch = NO_BATCH;
  #headBucket: Int32Array = NO_BATCH.at;
  /** Their buckets, copied: words of an array are faster to read than those of a view. */
  #words: Int32Array = NO_BATCH.at;
  #wordBytes: Uint8Array = NO_BYTES;
  /** Later elements of these chains, which are read ahead of the walk. */
  #followers: AddressBatch = NO_BATCH;
  #headCount = 0;
  #headIndex = 0;
  /** What `#touch` read: kept, so that the engine does not leave the reads out. */
  touched = 0;
  /** The bucket of the chain at hand, and the one that is read next. */
  #bucket = 0;
  #nextBucket = 0;
  #bucketCount = 0;
  /** Chains that are read ahead at once from the second time on. */
  readonly #chains: number;
  // The chain's next node. Odd: a marker, the chain has ended.
  #hi = 0;
  #lo = 1;
  /** Where its element lies, in the memory's window; -1: not known yet. */
  #at = -1;
  #firstHi = 0;
  #firstLo = 0;
  /** Nodes of this chain that were seen; and that it has, once three were. */
  #seen = 0;
  #nodes = 0;
  /** For chains of three nodes and more; Brent's algorithm takes less than four steps a node. */
  readonly #probes: StepBudget;
  /** Elements that may still come. */
  #left: number;

  /** At least one table; where there are more, one is being moved to the next. */
  constructor(kernel: GuestKernel, map: GuestMap, tables: readonly BucketTable[], layout: ElementLayout) {
    const { keySize, valueSize, maxEntries } = map.info;
    // Beside max_entries elements, each CPU may have one more in its hands (`extra_elems`).
    const left = maxEntries + kernel.cpus.areas.length;
    super({ keySize, valueSize, cpuCount: layout.cpuCount }, Math.min(left, TOGETHER));
    this.#memory = kernel.memory;
    this.#windows = kernel.memory.physical.windows;
    this.#tables = tables;
    this.#kernel = kernel;
    this.#elementAt = 0 - layout.node;
    this.#nodeAt = layout.node;
    this.#hashAt = layout.hash;
    this.#keyAt = layout.key;
    this.#valueAt = layout.value;
    this.#reader = layout.reader;
    this.#key = new Uint8Array(layout.reader === undefined ? 0 : Math.min(keySize, MAX_KEY_BYTES));
    const valueEnd = layout.value + (layout.reader?.inlineBytes ?? valueSize);
    this.#span = Math.max(layout.node + 8, layout.key + keySize, valueEnd);
    this.#left = left;
    this.#probes = { left: 4 * Math.min(this.#left, mostObjects(kernel, 16)) + 64 };
    this.#table = tables[0]!;
    this.#chains = maxEntries > this.#table.count ? CHAINS_AT_ONCE : SHORT_CHAINS_AT_ONCE;
    this.#enter(this.#table);
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#nextBucket = this.#bucketCount;
    this.#headCount = 0;
    this.#nextTable = this.#tables.length;
    this.#lo = 1;
  }

  protected fill(): number {
    const count = this.#reader === undefined && (this.#lo & 1) === 1 ? this.#takeChains() : 0;
    if (count > 0) return count;
    if (!this.#advance()) return 0;
    this.keyOffsets[0] = this.keyOffset;
    this.valueOffsets[0] = this.valueOffset;
    return 1;
  }

  /**
   * Takes the elements of short chains that lie in one window, each in one piece, and nothing is wrong with them; how many.
   * The first chain that is otherwise is left to `#advance`.
   */
  #takeChains(): number {
    while (
      this.#headIndex >= this.#headCount &&
      this.#nextBucket < this.#bucketCount &&
      this.account.stopped === ""
    )
      this.#readHeads();
    let index = this.#headIndex;
    if (index >= this.#headCount) return 0;
    const { at: ats, lo: lows, index: windows } = this.#heads;
    const buckets = this.#headBucket;
    const { keyOffsets, valueOffsets } = this;
    const memory = this.#memory;
    const window = this.#windows[windows[index]!]!;
    const { words, bytes } = window;
    const span = this.#span;
    const elementAt = this.#elementAt;
    const lastInPage = PAGE_BYTES - span;
    const lastAt = words.length === 0 ? -1 : bytes.length - span;
    const hashMask = this.#hashMask;
    const hashAt = hashMask === 0 ? 0 : this.#hashAt;
    const nodeAt = this.#nodeAt;
    const keyAt = this.#keyAt;
    const valueAt = this.#valueAt;
    const chains = this.#headCount;
    const most = Math.min(keyOffsets.length, this.#left);
    const windowIndex = windows[index]!;
    let count = 0;
    for (; index < chains && count < most; index++) {
      let at = ats[index]!;
      const inPage = (lows[index]! + elementAt) & (PAGE_BYTES - 1);
      if (at < 0 || at > lastAt || inPage > lastInPage || windows[index] !== windowIndex) break;
      const bucket = buckets[index]!;
      let taken = count;
      for (;;) {
        if ((at & 3) !== 0 || ((words[(at + hashAt) >>> 2]! ^ bucket) & hashMask) !== 0) break;
        keyOffsets[taken] = at + keyAt;
        valueOffsets[taken++] = at + valueAt;
        const lo = words[(at + nodeAt) >>> 2]!;
        const hi = words[((at + nodeAt) >>> 2) + 1]!;
        if ((lo & 1) === 1 || (lo | hi) === 0) {
          count = taken;
          break;
        }
        if (taken - count >= MOST_FOLLOWED || taken >= most) break;
        at = memory.locate(hi, lo, elementAt, span);
        if (at < 0 || memory.window !== window) break;
      }
      if (count !== taken) break;
    }
    this.#headIndex = index;
    this.#left -= count;
    this.keyBytes = bytes;
    this.valueBytes = bytes;
    return count;
  }

  /** Goes to the next element, whatever is in its way; false at the end. */
  #advance(): boolean {
    const memory = this.#memory;
    for (;;) {
      if ((this.#lo & 1) === 1) {
        if (!this.#nextChain()) return false;
        continue;
      }
      if (this.#seen !== 0 && !this.#isNew()) continue;
      this.#seen++;
      if (this.#left-- <= 0) return this.#stop();
      let at = this.#at;
      if (at < 0) at = memory.locate(this.#hi, this.#lo, this.#elementAt, this.#span);
      else this.#at = -1;
      if (at < 0) {
        this.#skipAbsent();
        continue;
      }
      const { view } = memory;
      const hash = this.#hashMask === 0 ? 0 : view.getInt32(at + this.#hashAt, true) ^ this.#bucket;
      if ((hash & this.#hashMask) !== 0) {
        this.#leaveChain("recycled");
        continue;
      }
      this.#lo = view.getInt32(at + this.#nodeAt, true);
      this.#hi = view.getInt32(at + this.#nodeAt + 4, true);
      if ((this.#lo | this.#hi) === 0) this.#lo = 1;
      if (this.#reader !== undefined) {
        if (this.#readValue(this.#reader, at)) return true;
        continue;
      }
      this.keyBytes = memory.bytes;
      this.valueBytes = memory.bytes;
      this.keyOffset = at + this.#keyAt;
      this.valueOffset = at + this.#valueAt;
      return true;
    }
  }

  /** The key is copied: what it lies in may be reused for the value's way. */
  #readValue(reader: ValueReader, at: number): boolean {
    const { bytes, view } = this.#memory;
    const key = this.#key;
    for (let n = 0; n < key.length; n++) key[n] = bytes[at + this.#keyAt + n]!;
    if (!reader.read(bytes, view, at + this.#valueAt)) {
      this.account.skip("not-present");
      return false;
    }
    this.valueMissing = reader.missing;
    this.keyBytes = key;
    this.keyOffset = 0;
    this.valueOffset = 0;
    this.valueBytes = reader.bytes;
    return true;
  }

  /** Goes to the first node of the next bucket that has one; false where there is none. */
  #nextChain(): boolean {
    while (this.#headIndex >= this.#headCount) {
      if (this.account.stopped !== "") return false;
      if (this.#nextBucket < this.#bucketCount) this.#readHeads();
      else if (!this.#moveToNextTable()) return false;
    }
    const index = this.#headIndex++;
    const heads = this.#heads;
    this.#bucket = this.#headBucket[index]!;
    this.#lo = this.#firstLo = heads.lo[index]!;
    this.#hi = this.#firstHi = heads.hi[index]!;
    // Whether all of it is where its node is: in the same page, and in the image.
    const at = heads.at[index]!;
    const window = this.#windows[heads.index[index]!]!;
    const inPage = (this.#lo + this.#elementAt) & (PAGE_BYTES - 1);
    const isWhole = inPage + this.#span <= PAGE_BYTES && at <= window.bytes.length - this.#span;
    this.#at = isWhole ? at : -1;
    if (this.#at >= 0) this.#memory.window = window;
    this.#seen = 0;
    return true;
  }

  /** For the first chains, and then for as many as are read ahead at once. */
  #makeRoom(): void {
    const room = this.#headBucket.length;
    if (room >= this.#chains) return;
    const chains = room === 0 ? FIRST_CHAINS : this.#chains;
    this.#heads = addressBatch(chains);
    this.#headBucket = new Int32Array(chains);
    this.#words = new Int32Array(Math.min(chains * (this.#table.bytesEach >>> 2) + 2, PAGE_BYTES / 4));
    this.#wordBytes = new Uint8Array(this.#words.buffer);
  }

  /** Reads the heads of as many buckets as lie in one page, and remembers those of chains that are not empty. */
  #readHeads(): void {
    this.#makeRoom();
    const { at: table, bytesEach, first } = this.#table;
    const start = this.#nextBucket * bytesEach + first;
    const inPage = (table.lo + start) & (PAGE_BYTES - 1);
    const fitting = Math.floor((PAGE_BYTES - inPage - 8) / bytesEach) + 1;
    const count = Math.min(
      this.#headBucket.length,
      this.#bucketCount - this.#nextBucket,
      Math.max(1, fitting),
    );
    const length = (count - 1) * bytesEach + 8;
    const at = this.#memory.locate(table.hi, table.lo, start, length);
    this.#headCount = 0;
    this.#headIndex = 0;
    if (at < 0) {
      this.#nextBucket++;
      this.account.skip("bucket not-present");
      return;
    }
    this.account.seen();
    this.#wordBytes.set(this.#memory.bytes.subarray(at, at + length));
    const words = this.#words;
    const wordsEach = bytesEach >>> 2;
    const { hi, lo } = this.#heads;
    const buckets = this.#headBucket;
    const nextBucket = this.#nextBucket;
    const mask = this.#headMask;
    let heads = 0;
    for (let index = 0, word = 0; index < count; index++, word += wordsEach) {
      const low = words[word]! & mask;
      const high = words[word + 1]!;
      buckets[heads] = nextBucket + index;
      lo[heads] = low;
      hi[heads] = high;
      // An empty bucket is written over, and not jumped over: which ones are empty no processor can guess.
      const either = low | high;
      heads += ~low & ((either | -either) >>> 31);
    }
    this.#headCount = heads;
    this.#nextBucket += count;
    this.#readAhead();
  }

  /**
   * Elements lie all over memory, and a walk would wait for one after the other. Read in a row without a use for what is
   * read, the processor has many of them on their way at once: first those that the heads point to, whose places are
   * kept for the walk, then the next ones of all these chains.
   */
  #readAhead(): void {
    const memory = this.#memory;
    const nodeEnd = this.#nodeAt + 8;
    let batch = this.#heads;
    let count = this.#headCount;
    memory.locateEach(batch, count, this.#elementAt, nodeEnd);
    if (this.#bucketCount < MANY_BUCKETS) return;
    if (this.#followers.at.length < batch.at.length) this.#followers = addressBatch(batch.at.length);
    for (let left = AHEAD_BYTES / this.#span; count > 0 && left > 0; left -= count) {
      this.#touch(batch, count);
      count = this.#readNext(batch, count);
      batch = this.#followers;
      memory.locateEach(batch, count, this.#elementAt, nodeEnd);
    }
  }

  /**
   * Reads the first and the last byte of elements, of long ones also the key's: a loop so short that many turns of it are
   * under way at once. What is not there, or not in one piece, is read elsewhere for nothing: that takes no jump.
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
        // Before this is compiled, Math.max is a call.
        const at = ats[n]! & ~(ats[n]! >> 31);
        const end = (at + last) | 0;
        touched ^= bytes[at]! ^ bytes[end < most ? end : most]!;
        if (isLong) touched ^= bytes[at + keyAt < most ? at + keyAt : most]!;
      }
    }
    this.touched = touched;
  }

  /** Reads into `#followers` which elements come after these; how many there are. */
  #readNext({ at: ats, index: windows }: AddressBatch, count: number): number {
    const { hi, lo } = this.#followers;
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

  #moveToNextTable(): boolean {
    const table = this.#tables[this.#nextTable];
    if (table === undefined) return false;
    this.#nextTable++;
    this.#enter(table);
    return true;
  }

  #enter(table: BucketTable): void {
    this.#table = table;
    this.#nextBucket = 0;
    this.#bucketCount = Math.min(table.count, mostObjects(this.#kernel, table.bytesEach));
    this.#hashMask = this.#hashAt < 0 ? 0 : table.count - 1;
    this.#headMask = table.hasLockBit === true ? -2 : -1;
  }

  /** Skips an element that is not completely in the image. The chain continues if the element's next pointer is present. */
  #skipAbsent(): void {
    const at = this.#memory.locate(this.#hi, this.#lo, 0, 8);
    if (at < 0) {
      this.#leaveChain("not-present");
      return;
    }
    this.account.skip("not-present");
    this.#lo = this.#memory.view.getInt32(at, true);
    this.#hi = this.#memory.view.getInt32(at + 4, true);
  }

  /** Whether the node at hand was not seen before in its chain: one that bites its tail is left. */
  #isNew(): boolean {
    if (this.#seen === 1) {
      if (this.#lo !== this.#firstLo || this.#hi !== this.#firstHi) return true;
    } else {
      if (this.#seen === 2)
        this.#nodes = countNodes(this.#memory, this.#firstHi, this.#firstLo, 0, this.#probes);
      if (this.#seen < this.#nodes) return true;
    }
    this.#leaveChain("cycle");
    return false;
  }

  #leaveChain(reason: string): void {
    this.account.skip(reason);
    this.#lo = 1;
  }

  #stop(): false {
    this.account.stopped = "stopped: there are more elements than the map takes";
    this[Symbol.dispose]();
    return false;
  }
}
