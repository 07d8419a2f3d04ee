/** A walk over the chains of any hash table: bpf_htab, devmap_hash, sockhash and rhash share this layout. */
import type { GuestKernel } from "../../kernel/kernel.ts";
import type { GuestMemory } from "../../memory/memory.ts";
import { countNodes, type StepBudget } from "./chain.ts";
import { ChainHeads, MAX_ELEMENTS, MAX_SPLIT } from "./chain-heads.ts";
import type { BucketTable, ElementLayout } from "./chain-layout.ts";
import type { ValueReader } from "./value-reader.ts";
import { BatchedCursor, type GuestMap, mostObjects } from "./walk.ts";

const MAX_KEY_BYTES = 2 ** 20;

/** A chain with more elements than this is left to the slow path, which detects cycles. */
const SHORT_CHAIN = 8;

const NO_OFFSETS = new Int32Array(0);

export class ChainCursor extends BatchedCursor {
  readonly #memory: GuestMemory;
  readonly #tables: readonly BucketTable[];
  #nextTable = 1;
  /** Bits of an element's hash that select its bucket; 0 if elements do not store their hash. */
  #hashMask = 0;
  /** Offset from a node to its element. */
  readonly #elementAt: number;
  readonly #nodeAt: number;
  readonly #hashAt: number;
  readonly #keyAt: number;
  readonly #valueAt: number;
  /** Bytes of an element that are read. */
  readonly #span: number;
  readonly #reader: ValueReader | undefined;
  readonly #key: Uint8Array;
  readonly #heads: ChainHeads;

  /** The bucket of the current chain. */
  #bucket = 0;
  // Address of the next node in the chain. Odd: a nulls marker, the chain has ended.
  #hi = 0;
  #lo = 1;
  /** Offset of the next element in `memory.window`, or -1 if it is not located yet. */
  #at = -1;
  #firstHi = 0;
  #firstLo = 0;
  /** Nodes of this chain that were visited, and the result of `countNodes`, which is called before the third is visited. */
  #seen = 0;
  #nodes = 0;
  /** Steps left for cycle detection in chains of three nodes and more. Brent's algorithm takes fewer than four per node. */
  readonly #probes: StepBudget;
  /** Limit on the elements that are still to be visited. */
  #left: number;

  /** The number of collected elements, and how many of them were returned. */
  #collected = 0;
  #given = 0;
  /** The same for the split ones among them. */
  #splits = 0;
  #splitsGiven = 0;
  #collectedBytes: Uint8Array = this.keyBytes;

  /** `tables` has at least one table. If it has more, the kernel is moving the elements of each to the next one. */
  constructor(kernel: GuestKernel, map: GuestMap, tables: readonly BucketTable[], layout: ElementLayout) {
    const { keySize, valueSize, maxEntries } = map.info;
    // Each CPU may hold one element more than max_entries (`extra_elems`).
    const left = maxEntries + kernel.cpus.areas.length;
    super({ keySize, valueSize, cpuCount: layout.cpuCount }, NO_OFFSETS, NO_OFFSETS);
    this.#memory = kernel.memory;
    this.#tables = tables;
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
    const first = tables[0]!;
    const { node, key, elements } = layout;
    const element = { node, key, span: this.#span, elements };
    this.#heads = new ChainHeads(kernel, first, element, maxEntries, this.account);
    this.keyOffsets = this.#heads.buffers.keyOffsets;
    this.valueOffsets = this.#heads.buffers.valueOffsets;
    this.#hashMask = this.#maskOf(first);
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#heads.stop();
    this.#nextTable = this.#tables.length;
    this.#lo = 1;
    // Another walk may use the buffers.
    this.keyOffsets = NO_OFFSETS;
    this.valueOffsets = NO_OFFSETS;
  }

  protected fill(): boolean {
    if (this.#handOut()) return true;
    const isFast = this.#reader === undefined && (this.#lo & 1) === 1;
    if (isFast && this.#collect() && this.#handOut()) return true;
    if (!this.#advance()) return false;
    this.keyOffsets[0] = this.keyOffset;
    this.valueOffsets[0] = this.valueOffset;
    this.index = 0;
    this.batchEnd = 1;
    return true;
  }

  /** Makes the next collected elements the current batch: those up to a split one, or a split one. */
  #handOut(): boolean {
    const memory = this.#memory;
    const { splitIndex, splitHi, splitLo } = this.#heads.buffers;
    while (this.#given < this.#collected) {
      this.index = this.#given;
      const isLast = this.#splitsGiven >= this.#splits;
      const end = isLast ? this.#collected : splitIndex[this.#splitsGiven]!;
      if (end > this.index) {
        this.batchEnd = this.#given = end;
        this.keyBytes = this.#collectedBytes;
        this.valueBytes = this.#collectedBytes;
        return true;
      }
      const split = this.#splitsGiven++;
      this.batchEnd = this.#given = end + 1;
      const at = memory.locate(splitHi[split]!, splitLo[split]!, this.#elementAt, this.#span);
      if (at >= 0) {
        this.keyBytes = memory.bytes;
        this.valueBytes = memory.bytes;
        this.keyOffsets[end] = at + this.#keyAt;
        this.valueOffsets[end] = at + this.#valueAt;
        return true;
      }
      this.account.skip("not-present");
    }
    return false;
  }

  /**
   * The fast path: collects the elements of short, well-formed chains whose elements are in one range of addresses. It stops
   * before the first chain that is not like this, and leaves that one to `#advance`. The loop calls nothing, so that the JIT
   * keeps its variables in registers.
   */
  #collect(): boolean {
    const heads = this.#heads;
    if (!heads.read()) return false;
    const { range, count: chains, words: headWords, wordsEach, headMask, firstBucket, buckets } = heads;
    const span = this.#span;
    if (range === undefined || range.window.words.length === 0 || span > range.length) return false;
    const { keyOffsets, valueOffsets, splitIndex, splitHi, splitLo } = heads.buffers;
    const { hi: rangeHi, length, pageShift, pages } = range;
    const { words, bytes } = range.window;
    const nodeAt = this.#nodeAt;
    const keyAt = this.#keyAt;
    const valueAt = this.#valueAt;
    const hashMask = this.#hashMask;
    const hashAt = hashMask === 0 ? 0 : this.#hashAt;
    // A node's address minus this is the offset of its element in the range.
    const rangeLo = (range.lo + nodeAt) | 0;
    const lastOffset = (length - span) | 0;
    const inPageMask = ~(-1 << pageShift);
    const isPaged = pages.length > 1;
    const firstPage = isPaged ? 0 : pages[0]!;
    const lastInPage = (2 ** pageShift - span) | 0;
    const most = Math.min(MAX_ELEMENTS, this.#left);
    let { index } = heads;
    let count = 0;
    let splits = 0;
    let headWord = (heads.firstWord + index * wordsEach) | 0;
    for (; index < chains; index++, headWord = (headWord + wordsEach) | 0) {
      let lo = headWords[headWord]! & headMask;
      let hi = headWords[headWord + 1]!;
      if ((lo & 1) === 1 || (lo | hi) === 0) continue;
      const bucket = buckets === undefined ? firstBucket + index : buckets[index]!;
      const begin = count;
      const end = Math.min(begin + SHORT_CHAIN, most);
      let taken = begin;
      let split = splits;
      while (taken < end) {
        const offset = (lo - rangeLo) | 0;
        if (hi !== rangeHi || offset < 0 || offset > lastOffset) break;
        // A linear run has one entry in `pages`, and the element is contiguous there.
        let at = (firstPage + offset) | 0;
        let hashWord = (at + hashAt) >>> 2;
        let nextWord = (at + nodeAt) >>> 2;
        if (isPaged) {
          const inPage = offset & inPageMask;
          at = (pages[offset >>> pageShift]! + inPage) | 0;
          if (at < inPage) break;
          hashWord = (at + hashAt) >>> 2;
          nextWord = (at + nodeAt) >>> 2;
          if (inPage > lastInPage) {
            const hashOffset = (offset + hashAt) | 0;
            const nextOffset = (offset + nodeAt) | 0;
            const hashPage = pages[hashOffset >>> pageShift]!;
            const nextPage = pages[nextOffset >>> pageShift]!;
            if (split === MAX_SPLIT || (hashPage | nextPage) < 0) break;
            hashWord = (hashPage + (hashOffset & inPageMask)) >>> 2;
            nextWord = (nextPage + (nextOffset & inPageMask)) >>> 2;
            splitIndex[split] = taken;
            splitHi[split] = hi;
            splitLo[split++] = lo;
          }
        }
        if (((at & 7) | ((words[hashWord]! ^ bucket) & hashMask)) !== 0) break;
        keyOffsets[taken] = (at + keyAt) | 0;
        valueOffsets[taken++] = (at + valueAt) | 0;
        lo = words[nextWord]!;
        hi = words[nextWord + 1]!;
        if ((lo & 1) === 1 || (lo | hi) === 0) {
          count = taken;
          splits = split;
          break;
        }
      }
      if (count === begin) break;
    }
    heads.index = index;
    this.#left -= count;
    this.#given = 0;
    this.#collected = count;
    this.#splitsGiven = 0;
    this.#splits = splits;
    this.#collectedBytes = bytes;
    return count > 0;
  }

  /** The slow path: moves to the next element and handles everything that can be wrong with a chain. False at the end. */
  #advance(): boolean {
    const memory = this.#memory;
    for (;;) {
      if ((this.#lo & 1) === 1) {
        if (!this.#nextChain()) return false;
        continue;
      }
      if (this.#seen !== 0 && !this.#checkForCycle()) continue;
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

  /** Copies the key: the reader may overwrite the buffer that holds the element. */
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

  /** Goes to the first node of the next chain that is not empty. False at the end. */
  #nextChain(): boolean {
    const heads = this.#heads;
    do {
      while (!heads.read()) if (this.account.stopped !== "" || !this.#moveToNextTable()) return false;
    } while (!heads.take());
    this.#bucket = heads.bucket;
    this.#lo = this.#firstLo = heads.lo;
    this.#hi = this.#firstHi = heads.hi;
    this.#at = heads.at;
    this.#seen = 0;
    return true;
  }

  #moveToNextTable(): boolean {
    const table = this.#tables[this.#nextTable];
    if (table === undefined) return false;
    this.#nextTable++;
    this.#heads.enter(table);
    this.#hashMask = this.#maskOf(table);
    return true;
  }

  #maskOf({ count }: BucketTable): number {
    return this.#hashAt < 0 ? 0 : count - 1;
  }

  /** Skips an element that is not completely in the image. The walk continues in its chain if its next pointer is. */
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

  /** Leaves the chain and returns false if the next node was visited before: the chain is a cycle. */
  #checkForCycle(): boolean {
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
    this.account.stopped = "stopped: there are more elements than max_entries";
    this[Symbol.dispose]();
    return false;
  }
}
