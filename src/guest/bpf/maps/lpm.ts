/**
 * Walks `struct lpm_trie`: a binary tree of prefixes, each longer than its parent's. Intermediate nodes
 * (`LPM_TREE_NODE_FLAG_IM`) are not entries.
 */
import { place, ptr, struct, u32, u64 } from "../../../btf/struct.ts";
import { type EntryCursor, found, type Read, unreadable } from "../../../state.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import type { GuestMemory } from "../../memory/memory.ts";
import { BaseCursor, CorruptMap, type GuestMap, mostObjects, shapeOf } from "./walk.ts";

const TRIE = struct("lpm_trie", { root: ptr, data_size: u64, max_prefixlen: u64 });
const NODE = struct("lpm_trie_node", { child: place, prefixlen: u32, flags: u32, data: place });

/** kernel/bpf/lpm_trie.c: an intermediate node. */
const LPM_TREE_NODE_FLAG_IM = 1;
/** LPM_DATA_SIZE_MAX. */
const MAX_DATA_BYTES = 256;
/** `struct bpf_lpm_trie_key`: a u32 of prefix length, then the data. */
const PREFIX_BYTES = 4;

/** Walks the prefixes in the kernel's order: more specific ones first. Throws `GuestFault` and `CorruptMap`. */
export function lpmEntries(kernel: GuestKernel, map: GuestMap): EntryCursor {
  return new LpmCursor(kernel, map);
}

/** A node on the current path, and which of its children were visited. */
interface Step {
  readonly hi: number;
  readonly lo: number;
  readonly prefix: number;
  readonly isEntry: boolean;
  entered: number;
}

class LpmCursor extends BaseCursor {
  readonly #memory: GuestMemory;
  readonly #node: ReturnType<typeof NODE.resolve>;
  readonly #dataBytes: number;
  readonly #maxPrefix: number;
  readonly #keyView: DataView;
  readonly #stack: Step[] = [];
  /** Limit on nodes left to visit: n entries have at most n - 1 intermediate nodes. */
  #left: number;

  constructor(kernel: GuestKernel, map: GuestMap) {
    super(shapeOf(map));
    const { memory, btf } = kernel;
    const { id, keySize, maxEntries } = map.info;
    const trie = TRIE.resolve(btf);
    this.#memory = memory;
    this.#node = NODE.resolve(btf);
    this.#dataBytes = keySize - PREFIX_BYTES;
    if (!(this.#dataBytes >= 1 && this.#dataBytes <= MAX_DATA_BYTES))
      throw new CorruptMap(`map ${id}: a trie cannot have keys of ${keySize} bytes`);
    this.#maxPrefix = this.#dataBytes * 8;
    this.keyBytes = new Uint8Array(keySize);
    this.#keyView = new DataView(this.keyBytes.buffer);
    this.#left = 2 * Math.min(maxEntries, mostObjects(kernel, this.#node.data));
    const root = memory.pointer(map.at.hi, map.at.lo, trie.root, `map ${id}.root`);
    this.#enter(root.hi, root.lo, -1);
  }

  protected advance(): boolean {
    for (;;) {
      const top = this.#stack.at(-1);
      if (top === undefined || this.account.stopped !== "") return false;
      if (top.entered < 2) {
        const at = this.#memory.locate(top.hi, top.lo, this.#node.child + 8 * top.entered++, 8);
        if (at < 0) {
          this.account.skip("not-present");
          continue;
        }
        const { view } = this.#memory;
        this.#enter(view.getInt32(at + 4, true), view.getInt32(at, true), top.prefix);
        continue;
      }
      this.#stack.pop();
      if (top.isEntry && this.#load(top)) return true;
    }
  }

  /** Enters a node. Its prefix must be longer than its parent's, so that cycles are detected. */
  #enter(hi: number, lo: number, parentPrefix: number): void {
    if ((hi | lo) === 0) return;
    if (this.#left-- <= 0) {
      this.account.stopped = "stopped: there are more nodes than max_entries";
      return;
    }
    const at = this.#memory.locate(hi, lo, 0, this.#node.data);
    if (at < 0) {
      this.account.skip("not-present");
      return;
    }
    const prefix = this.#memory.view.getUint32(at + this.#node.prefixlen, true);
    const flags = this.#memory.view.getUint32(at + this.#node.flags, true);
    if (prefix <= parentPrefix || prefix > this.#maxPrefix) this.account.skip("recycled");
    else this.#stack.push({ hi, lo, prefix, isEntry: (flags & LPM_TREE_NODE_FLAG_IM) === 0, entered: 0 });
  }

  #load({ hi, lo, prefix }: Step): boolean {
    const at = this.#memory.locate(hi, lo, this.#node.data, this.#dataBytes + this.valueSize);
    if (at < 0) {
      this.account.skip("not-present");
      return false;
    }
    const { bytes } = this.#memory;
    this.#keyView.setUint32(0, prefix, true);
    this.keyBytes.set(bytes.subarray(at, at + this.#dataBytes), PREFIX_BYTES);
    this.valueBytes = bytes;
    this.valueOffset = at + this.#dataBytes;
    this.account.seen();
    return true;
  }
}

/** Looks up a key: the value of the longest matching prefix. */
export function lookupPrefix(entries: EntryCursor, key: Uint8Array): Read<Uint8Array> {
  const wanted = prefixOf(key);
  let best = -1;
  let value: Uint8Array | undefined;
  while (entries.next()) {
    const candidate = entries.keyBytes.subarray(entries.keyOffset, entries.keyOffset + entries.keySize);
    const length = prefixOf(candidate);
    if (length <= best || length > wanted || !startsWith(key, candidate, length)) continue;
    best = length;
    value = entries.valueBytes.slice(entries.valueOffset, entries.valueOffset + entries.valueSize);
  }
  return value === undefined
    ? unreadable("not-present", "no prefix in the map matches this key")
    : found(value);
}

const prefixOf = (key: Uint8Array): number =>
  new DataView(key.buffer, key.byteOffset, PREFIX_BYTES).getUint32(0, true);

/** Returns whether the first `bits` bits of two keys' data are equal. The highest bit of a byte is first. */
function startsWith(key: Uint8Array, prefix: Uint8Array, bits: number): boolean {
  const whole = PREFIX_BYTES + (bits >>> 3);
  for (let at = PREFIX_BYTES; at < whole; at++) if (key[at] !== prefix[at]) return false;
  const mask = (0xff00 >>> (bits & 7)) & 0xff;
  return mask === 0 || ((key[whole]! ^ prefix[whole]!) & mask) === 0;
}
