/** Walks `struct idr` and its xarray (include/linux/idr.h, include/linux/xarray.h, lib/xarray.c). */
import type { Btf } from "../../btf/btf.ts";
import { at, bytes, LayoutError, type Offsets, ptr, struct, u8, u32 } from "../../btf/struct.ts";
import type { GuestMemory } from "../memory/memory.ts";
import { hex, NULL, type Pointer } from "../memory/pointer.ts";
import type { WalkLog } from "./walklog.ts";

const IDR = struct("idr", { head: at(ptr, "idr_rt.xa_head"), idr_base: u32 });
/** XA_CHUNK_SIZE is 64, or 16 with CONFIG_BASE_SMALL. The size of the slots array gives it. */
const NODE = struct("xa_node", { shift: u8, slots: bytes(16 * 8), marksStart: at(bytes(8), "marks") });

/** An object in an IDR, and its id. */
export interface IdrEntry {
  readonly id: number;
  readonly address: Pointer;
}

/** Internal entries end in binary 10 (xa_is_internal); above 4096 they point to a node (xa_is_node). */
const INTERNAL_MASK = 3;
const INTERNAL = 2;
const MAX_SPECIAL_ENTRY = 4096;
/**
 * Limit on the nodes of a walk: enough for 8 million live objects. `idr_next` is not used as a limit: it wraps, so that live
 * ids can be above it, and a corrupt value would cost time.
 */
const MAX_NODES = 2 ** 17;
/** Ids are u32: in a node above this shift, only the first slot is used. */
const MAX_SHIFT = 30;

/**
 * `idr_for_each_entry(idr, entry, id)`: every live object by ascending id.
 *
 * `idr` is a `struct idr *`, and `name` its name in messages. Parts that cannot be read are skipped and counted in `log`.
 * Throws only `LayoutError`, if the BTF has no such structs.
 */
export function* idrEntries(
  memory: GuestMemory,
  btf: Btf,
  idr: Pointer,
  name: string,
  log: WalkLog,
): Generator<IdrEntry> {
  const walk = new IdrWalk(memory, btf, idr, name, log);
  for (let count = walk.next(); count > 0; count = walk.next())
    for (let n = 0; n < count; n++) yield { id: walk.ids[n]!, address: { hi: walk.hi[n]!, lo: walk.lo[n]! } };
}

function pointerAt(view: DataView, at: number): Pointer {
  return { hi: view.getInt32(at + 4, true), lo: view.getInt32(at, true) };
}

/** A node on the path to the current slot. */
interface Node {
  readonly hi: number;
  readonly lo: number;
  readonly shift: number;
  /** Index of its first slot. */
  readonly index: number;
  slot: number;
}

const MAX_SLOTS = 64;

/** A walk over an IDR, in batches of one node. */
export class IdrWalk {
  /** The objects of the last `next`: their ids and addresses. */
  readonly ids: Uint32Array = new Uint32Array(MAX_SLOTS);
  readonly hi: Int32Array = new Int32Array(MAX_SLOTS);
  readonly lo: Int32Array = new Int32Array(MAX_SLOTS);

  readonly #memory: GuestMemory;
  readonly #node: Offsets<"shift" | "slots" | "marksStart">;
  readonly #slotCount: number;
  readonly #name: string;
  readonly #log: WalkLog;
  /** The visited nodes: the low words of their addresses, by the high word. */
  readonly #visited: Map<number, Set<number>> = new Map();
  #nodeCount = 0;
  /** The nodes from the head's node to the current one. */
  readonly #path: Node[] = [];
  #base = 0;
  /** The single entry at index 0, which is stored in the head; NULL if there is none. */
  #lone: Pointer = NULL;

  /** `idr` is a `struct idr *`. Parts that cannot be read are counted in `log`. Throws `LayoutError`. */
  constructor(memory: GuestMemory, btf: Btf, idr: Pointer, name: string, log: WalkLog) {
    this.#memory = memory;
    this.#node = NODE.resolve(btf);
    this.#slotCount = (this.#node.marksStart - this.#node.slots) / 8;
    if (this.#slotCount !== MAX_SLOTS && this.#slotCount !== 16)
      throw new LayoutError(`resolve struct xa_node: it would have ${this.#slotCount} slots, not 64 or 16`);
    this.#name = name;
    this.#log = log;
    this.#start(idr, IDR.resolve(btf));
  }

  /** `xa_head`: 0 is an empty array, a pointer is the single entry at index 0, an internal entry is a node. */
  #start({ hi, lo }: Pointer, { head, idr_base }: Offsets<"head" | "idr_base">): void {
    const memory = this.#memory;
    const atHead = memory.locate(hi, lo, head, 8);
    const entry = atHead < 0 ? NULL : pointerAt(memory.view, atHead);
    const atBase = atHead < 0 ? -1 : memory.locate(hi, lo, idr_base, 4);
    if (atBase < 0) {
      this.#log.stop(memory.faultSentence(this.#name));
      return;
    }
    this.#base = memory.view.getUint32(atBase, true);
    if (isNode(entry.hi, entry.lo)) this.#enter(entry, -1, 0);
    else if (this.#isObject(entry.hi, entry.lo)) this.#lone = entry;
  }

  /** Reads the next objects, by ascending id, and returns their number; 0 at the end. */
  next(): number {
    if ((this.#lone.hi | this.#lone.lo) !== 0) {
      this.ids[0] = this.#base;
      this.hi[0] = this.#lone.hi;
      this.lo[0] = this.#lone.lo;
      this.#lone = NULL;
      return 1;
    }
    for (let node = this.#path.at(-1); node !== undefined; node = this.#path.at(-1)) {
      if (this.#log.stopped !== "") return 0;
      const count = this.#takeFrom(node);
      if (count > 0) return count;
    }
    return 0;
  }

  /** Reads the objects of a node up to its next child node, which is entered. After its last slot the node is left. */
  #takeFrom(node: Node): number {
    const memory = this.#memory;
    const { ids, hi: highs, lo: lows } = this;
    const slotCount = this.#slotCount;
    const first = node.index + this.#base;
    const step = 2 ** node.shift;
    // Locates the node again: other memory may have been read since the last call.
    const at = memory.locate(node.hi, node.lo, this.#node.slots, slotCount * 8);
    if (at < 0) {
      this.#unreadable();
      this.#path.pop();
      return 0;
    }
    const { view } = memory;
    let count = 0;
    for (let slot = node.slot + 1; slot < slotCount; slot++) {
      const lo = view.getInt32(at + slot * 8, true);
      const hi = view.getInt32(at + slot * 8 + 4, true);
      if ((hi | lo) === 0) continue;
      const id = first + slot * step;
      node.slot = slot;
      if (id >= 2 ** 32) this.#log.skip("an id past 2^32", `${this.#where()} would be id ${id}`);
      else if ((lo & INTERNAL_MASK) === 0 || !isNode(hi, lo)) {
        if ((lo & INTERNAL_MASK) !== 0 && !this.#isObject(hi, lo)) continue;
        ids[count] = id;
        highs[count] = hi;
        lows[count++] = lo;
      } else {
        this.#descend({ hi, lo }, node.shift, id - this.#base);
        return count;
      }
    }
    this.#path.pop();
    return count;
  }

  #descend(entry: Pointer, parentShift: number, index: number): void {
    if (parentShift === 0) this.#log.skip("a node below the last level", `${this.#where()} points to a node`);
    else this.#enter(entry, parentShift, index);
  }

  /** Returns the path to the current slot, for messages. */
  #where(): string {
    return [`${this.#name}.xa_head`, ...this.#path.map(({ slot }) => `slots[${slot}]`)].join(" -> ");
  }

  #isObject(hi: number, lo: number): boolean {
    if ((hi | lo) === 0 || (lo & INTERNAL_MASK) === INTERNAL) return false;
    if ((lo & INTERNAL_MASK) === 0) return true;
    this.#log.skip(
      "an entry that is not a pointer",
      `${this.#where()} holds ${hex(hi, lo)}, which is not a pointer`,
    );
    return false;
  }

  /** Records a node. Returns false if it was visited before. */
  #isNew(hi: number, lo: number): boolean {
    let seen = this.#visited.get(hi);
    if (seen === undefined) {
      seen = new Set();
      this.#visited.set(hi, seen);
    }
    const isNew = !seen.has(lo);
    seen.add(lo);
    return isNew;
  }

  /**
   * Checks the node that an entry points to (xa_to_node) and enters it, or skips it. `parentShift` is -1 for the head's node,
   * whose shift gives the depth.
   */
  #enter({ hi, lo: tagged }: Pointer, parentShift: number, index: number): void {
    const lo = (tagged - INTERNAL) | 0;
    if (this.#nodeCount >= MAX_NODES) {
      this.#log.stop(`${this.#name} has more than ${MAX_NODES} nodes`);
      return;
    }
    if (!this.#isNew(hi, lo)) {
      const detail = `${this.#where()} leads to the node at ${hex(hi, lo)} again`;
      this.#log.skip("a node that was reached before", detail);
      return;
    }
    this.#nodeCount++;
    const atShift = this.#memory.locate(hi, lo, this.#node.shift, 1);
    if (atShift < 0) {
      this.#unreadable();
      return;
    }
    const shift = this.#memory.view.getUint8(atShift);
    const step = this.#slotCount === MAX_SLOTS ? 6 : 4;
    const fits = parentShift < 0 ? shift % step === 0 && shift <= MAX_SHIFT : shift === parentShift - step;
    if (!fits) {
      const detail = `${this.#where()}: the node at ${hex(hi, lo)} has shift ${shift}`;
      this.#log.skip("a node whose shift does not fit", detail);
      return;
    }
    const at = this.#memory.locate(hi, lo, this.#node.slots, this.#slotCount * 8);
    if (at < 0) this.#unreadable();
    else this.#path.push({ hi, lo, shift, index, slot: -1 });
  }

  #unreadable(): void {
    this.#log.skip("a node that cannot be read", this.#memory.faultSentence(this.#where()));
  }
}

/**
 * Returns whether an entry points to a node (xa_is_node). Sibling, retry and zero entries are at most 4096, and are not
 * objects either.
 */
function isNode(hi: number, lo: number): boolean {
  return (lo & INTERNAL_MASK) === INTERNAL && (hi !== 0 || lo >>> 0 > MAX_SPECIAL_ENTRY);
}
