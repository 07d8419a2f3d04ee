/**
 * `struct bpf_htab`: buckets of `hlist_nulls` chains of `struct htab_elem`, for hash, LRU hash, both per CPU, and
 * hash of maps. A chain does not end in NULL but in a marker, an odd word with the bucket's number.
 */
import { at, place, ptr, struct, u32 } from "../../btf/struct.ts";
import type { EntryCursor, WalkEnd } from "../../state.ts";
import { isPerCpuMap } from "../../uapi/names.ts";
import type { GuestKernel } from "../kernel.ts";
import type { GuestMemory } from "../memory.ts";
import { countNodes } from "./chain.ts";
import { type ValueReader, valueReader } from "./hash-value.ts";
import { Account, CorruptMap, type GuestMap, mostObjects, roundUp8 } from "./walk.ts";

const HTAB = struct("bpf_htab", { buckets: ptr, n_buckets: u32 });
const BUCKET = struct("bucket", { first: at(ptr, "head.first") });
const HTAB_ELEM = struct("htab_elem", { next: at(ptr, "hash_node.next"), hash: u32, key: place });

/** Every pair, in the order of buckets and then of their chains. Throws `GuestFault` and `CorruptMap`. */
export function hashEntries(kernel: GuestKernel, map: GuestMap): EntryCursor {
  return new HashCursor(kernel, map);
}

const EMPTY = new Uint8Array(0);

class HashCursor implements EntryCursor {
  readonly keySize: number;
  readonly valueSize: number;
  readonly cpuCount: number;
  readonly valueStride: number;
  keyBytes: Uint8Array = EMPTY;
  keyOffset = 0;
  valueBytes: Uint8Array = EMPTY;
  valueOffset = 0;
  readonly valueMissing = "";

  readonly #memory: GuestMemory;
  readonly #account: Account = new Account();
  readonly #bucketsHi: number;
  readonly #bucketsLo: number;
  readonly #bucketBytes: number;
  readonly #bucketFirst: number;
  readonly #bucketCount: number;
  readonly #hashMask: number;
  readonly #nextAt: number;
  readonly #hashAt: number;
  readonly #keyAt: number;
  readonly #valueAt: number;
  /** What is located of an element at once: through its key and inline value, or the pointer to its value. */
  readonly #span: number;
  /** Values that are not simply the bytes in the element; undefined: they are. */
  readonly #reader: ValueReader | undefined;
  readonly #key: Uint8Array;

  #bucket = -1;
  // The chain's next node. Odd: a marker, the chain has ended.
  #hi = 0;
  #lo = 1;
  #headHi = 0;
  #headLo = 0;
  /** Nodes of this chain that were seen; and that it has, once three were. */
  #seen = 0;
  #nodes = 0;
  /** Elements that may still come. */
  #left: number;

  constructor(kernel: GuestKernel, map: GuestMap) {
    const { memory, btf } = kernel;
    const { keySize, valueSize, maxEntries, type } = map.info;
    const htab = HTAB.resolve(btf);
    const bucket = BUCKET.resolve(btf);
    const element = HTAB_ELEM.resolve(btf);
    const path = `map ${map.info.id}.n_buckets`;
    const bucketCount = memory.u32(map.at.hi, map.at.lo, htab.n_buckets, path);
    if (bucketCount === 0 || (bucketCount & (bucketCount - 1)) !== 0)
      throw new CorruptMap(`map ${map.info.id}: it has ${bucketCount} buckets, which is no power of two`);
    const buckets = memory.pointer(map.at.hi, map.at.lo, htab.buckets, `map ${map.info.id}.buckets`);
    this.#memory = memory;
    this.keySize = keySize;
    this.valueSize = valueSize;
    this.cpuCount = isPerCpuMap(type) ? kernel.cpus.areas.length : 0;
    this.valueStride = this.cpuCount === 0 ? 0 : roundUp8(valueSize);
    this.#bucketsHi = buckets.hi;
    this.#bucketsLo = buckets.lo;
    this.#bucketBytes = bucket.sizeof;
    this.#bucketFirst = bucket.first;
    this.#bucketCount = Math.min(bucketCount, mostObjects(kernel, bucket.sizeof));
    this.#hashMask = bucketCount - 1;
    this.#nextAt = element.next;
    this.#hashAt = element.hash;
    this.#keyAt = element.key;
    this.#valueAt = element.key + roundUp8(keySize);
    this.#reader = valueReader(kernel, map);
    this.#key = new Uint8Array(this.#reader === undefined ? 0 : keySize);
    this.#span = this.#valueAt + (this.#reader?.inlineBytes ?? valueSize);
    // Beside max_entries elements, each CPU may have one more in its hands (`extra_elems`).
    this.#left = maxEntries + kernel.cpus.areas.length;
  }

  get end(): WalkEnd {
    return this.#account.end;
  }

  [Symbol.dispose](): void {
    this.#bucket = this.#bucketCount;
    this.#lo = 1;
  }

  next(): boolean {
    const memory = this.#memory;
    for (;;) {
      if ((this.#lo & 1) === 1) {
        if (!this.#nextChain()) return false;
        continue;
      }
      if (this.#seen !== 0 && !this.#isNew()) continue;
      this.#seen++;
      if (this.#left-- <= 0) return this.#stop();
      const at = memory.locate(this.#hi, this.#lo, 0, this.#span);
      if (at < 0) {
        this.#stepOver();
        continue;
      }
      const { view } = memory;
      if (((view.getInt32(at + this.#hashAt, true) ^ this.#bucket) & this.#hashMask) !== 0) {
        this.#leaveChain("recycled");
        continue;
      }
      this.#lo = view.getInt32(at + this.#nextAt, true);
      this.#hi = view.getInt32(at + this.#nextAt + 4, true);
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
    const missing = reader.read(bytes, view, at + this.#valueAt);
    if (missing !== "") {
      this.#account.skip(missing);
      return false;
    }
    this.keyBytes = key;
    this.valueBytes = reader.bytes;
    return true;
  }

  /** Goes to the first node of the next bucket that has one; false where there is none. */
  #nextChain(): boolean {
    while (this.#account.stopped === "" && ++this.#bucket < this.#bucketCount) {
      const offset = this.#bucket * this.#bucketBytes + this.#bucketFirst;
      const at = this.#memory.locate(this.#bucketsHi, this.#bucketsLo, offset, 8);
      if (at < 0) {
        this.#account.skip("bucket not-present");
        continue;
      }
      const lo = this.#memory.view.getInt32(at, true);
      if ((lo & 1) === 1) continue;
      this.#lo = this.#headLo = lo;
      this.#hi = this.#headHi = this.#memory.view.getInt32(at + 4, true);
      this.#seen = 0;
      return true;
    }
    return false;
  }

  /** Skips an element that is not in the image whole; its chain goes on where at least its pointer is there. */
  #stepOver(): void {
    const at = this.#memory.locate(this.#hi, this.#lo, this.#nextAt, 8);
    if (at < 0) {
      this.#leaveChain("not-present");
      return;
    }
    this.#account.skip("not-present");
    this.#lo = this.#memory.view.getInt32(at, true);
    this.#hi = this.#memory.view.getInt32(at + 4, true);
  }

  /** Whether the node at hand was not seen before in its chain: one that bites its tail is left. */
  #isNew(): boolean {
    if (this.#seen === 1) {
      if (this.#lo !== this.#headLo || this.#hi !== this.#headHi) return true;
    } else {
      if (this.#seen === 2)
        this.#nodes = countNodes(this.#memory, this.#headHi, this.#headLo, this.#nextAt, this.#left + 2);
      if (this.#seen < this.#nodes) return true;
    }
    this.#leaveChain("cycle");
    return false;
  }

  #leaveChain(reason: string): void {
    this.#account.skip(reason);
    this.#lo = 1;
  }

  #stop(): false {
    this.#account.stopped = "stopped: there are more elements than the map takes";
    this[Symbol.dispose]();
    return false;
  }
}
