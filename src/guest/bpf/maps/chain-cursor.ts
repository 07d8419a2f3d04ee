/** A walk over the chains of any hash table: bpf_htab, devmap_hash, sockhash and rhash share this layout. */
import type { Window } from "../../image/physical.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import type { GuestMemory } from "../../memory/memory.ts";
import { countNodes, type StepBudget } from "./chain.ts";
import { ChainHeads, PAGE_BYTES } from "./chain-heads.ts";
import type { BucketTable, ElementLayout } from "./chain-layout.ts";
import type { ValueReader } from "./value-reader.ts";
import { BatchedCursor, type GuestMap, mostObjects } from "./walk.ts";

const MAX_KEY_BYTES = 2 ** 20;

/** Elements that one call of `fill` returns at most. */
const BATCH = 256;
/** A chain with more elements than this is left to the slow path, which detects cycles. */
const SHORT_CHAIN = 8;

export class ChainCursor extends BatchedCursor {
  readonly #memory: GuestMemory;
  readonly #windows: readonly Window[];
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
  /** Nodes of this chain that were visited, and how many it has: counted once three were visited. */
  #seen = 0;
  #nodes = 0;
  /** Steps left for cycle detection in chains of three nodes and more. Brent's algorithm takes less than four a node. */
  readonly #probes: StepBudget;
  /** Elements that may still come. */
  #left: number;

  /** At least one table. If there are more, each is being moved to the next one. */
  constructor(kernel: GuestKernel, map: GuestMap, tables: readonly BucketTable[], layout: ElementLayout) {
    const { keySize, valueSize, maxEntries } = map.info;
    // Each CPU may hold one element more than max_entries (`extra_elems`).
    const left = maxEntries + kernel.cpus.areas.length;
    super({ keySize, valueSize, cpuCount: layout.cpuCount }, Math.min(left, BATCH));
    this.#memory = kernel.memory;
    this.#windows = kernel.memory.physical.windows;
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
    const element = { node: layout.node, key: layout.key, span: this.#span };
    this.#heads = new ChainHeads(kernel, first, element, maxEntries, this.account);
    this.#hashMask = this.#maskOf(first);
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#heads.stop();
    this.#nextTable = this.#tables.length;
    this.#lo = 1;
  }

  protected fill(): number {
    const count = this.#reader === undefined && (this.#lo & 1) === 1 ? this.#takeShortChains() : 0;
    if (count > 0) return count;
    if (!this.#advance()) return 0;
    this.keyOffsets[0] = this.keyOffset;
    this.valueOffsets[0] = this.valueOffset;
    return 1;
  }

  /**
   * The fast path: returns the elements of short, well-formed chains whose elements are contiguous and lie in one window.
   * It stops before the first chain that is not like this, and leaves that one to `#advance`.
   */
  #takeShortChains(): number {
    const heads = this.#heads;
    if (!heads.read()) return 0;
    let { index } = heads;
    const { at: ats, hi: highs, lo: lows, index: windows } = heads.batch;
    const buckets = heads.bucket;
    const { keyOffsets, valueOffsets } = this;
    const memory = this.#memory;
    const run = heads.isLocated ? undefined : memory.runAt(highs[index]!, lows[index]!);
    if (!heads.isLocated && run === undefined) return 0;
    const windowIndex = run?.index ?? windows[index]!;
    const window = this.#windows[windowIndex]!;
    const { words, bytes } = window;
    const span = this.#span;
    const elementAt = this.#elementAt;
    const lastInPage = PAGE_BYTES - span;
    const lastAt = words.length === 0 ? -1 : bytes.length - span;
    const runHi = run?.hi ?? 0;
    const runLo = run?.lo ?? 0;
    const runStart = run?.start ?? 0;
    const lastInRun = run === undefined || words.length === 0 ? -1 : run.length - span;
    const hashMask = this.#hashMask;
    const hashAt = hashMask === 0 ? 0 : this.#hashAt;
    const nodeAt = this.#nodeAt;
    const keyAt = this.#keyAt;
    const valueAt = this.#valueAt;
    const chains = heads.count;
    const most = Math.min(keyOffsets.length, this.#left);
    let count = 0;
    for (; index < chains && count < most; index++) {
      let at = ats[index]!;
      if (run !== undefined) {
        const inRun = (lows[index]! - runLo) | 0;
        if (highs[index] !== runHi || inRun < 0 || inRun > lastInRun) break;
        at = (runStart + inRun) | 0;
      } else {
        const inPage = (lows[index]! + elementAt) & (PAGE_BYTES - 1);
        if (at < 0 || at > lastAt || inPage > lastInPage || windows[index] !== windowIndex) break;
      }
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
        if (taken - count >= SHORT_CHAIN || taken >= most) break;
        const inRun = (lo - runLo) | 0;
        if (hi === runHi && inRun >= 0 && inRun <= lastInRun) {
          at = (runStart + inRun) | 0;
          continue;
        }
        at = memory.locate(hi, lo, elementAt, span);
        if (at < 0 || memory.window !== window) break;
      }
      if (count !== taken) break;
    }
    heads.index = index;
    this.#left -= count;
    this.keyBytes = bytes;
    this.valueBytes = bytes;
    return count;
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
    while (!heads.read()) if (this.account.stopped !== "" || !this.#moveToNextTable()) return false;
    const index = heads.index++;
    this.#bucket = heads.bucket[index]!;
    this.#lo = this.#firstLo = heads.batch.lo[index]!;
    this.#hi = this.#firstHi = heads.batch.hi[index]!;
    this.#at = -1;
    if (heads.isLocated) this.#takePlace(heads.batch.at[index]!, this.#windows[heads.batch.index[index]!]!);
    this.#seen = 0;
    return true;
  }

  /** The batch located the node only. The whole element is there if it lies in the same page and in the image. */
  #takePlace(at: number, window: Window): void {
    const inPage = (this.#lo + this.#elementAt) & (PAGE_BYTES - 1);
    if (at < 0 || inPage + this.#span > PAGE_BYTES || at > window.bytes.length - this.#span) return;
    this.#at = at;
    this.#memory.window = window;
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

  /** Skips an element that is not whole in the image. The chain goes on if the image holds the node's pointer. */
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
    this.account.stopped = "stopped: there are more elements than the map takes";
    this[Symbol.dispose]();
    return false;
  }
}
