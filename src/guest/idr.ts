/** `struct idr` and the xarray in it (include/linux/idr.h, include/linux/xarray.h, lib/xarray.c). */
import type { Btf } from "../btf/btf.ts";
import { at, bytes, LayoutError, type Offsets, ptr, struct, u8, u32 } from "../btf/struct.ts";
import type { GuestMemory } from "./memory.ts";
import { hex, NULL, type Pointer } from "./pointer.ts";
import type { WalkLog } from "./walklog.ts";

const IDR = struct("idr", { head: at(ptr, "idr_rt.xa_head"), idr_base: u32 });
/** XA_CHUNK_SIZE is 64, and 16 with CONFIG_BASE_SMALL: the slots' room says which. */
const NODE = struct("xa_node", { shift: u8, slots: bytes(16 * 8), marksStart: at(bytes(8), "marks") });

/** One object that an IDR holds under an id. */
export interface IdrEntry {
  readonly id: number;
  readonly address: Pointer;
}

/** Internal entries end in binary 10 (xa_is_internal); above 4096 they point to a node (xa_is_node). */
const INTERNAL_MASK = 3;
const INTERNAL = 2;
const MAX_SPECIAL_ENTRY = 4096;
/**
 * Nodes that a walk visits at most: room for 8 million live objects. `idr_next` bounds nothing: it wraps, so ids
 * above it may live, and a corrupt one would cost time.
 */
const MAX_NODES = 2 ** 17;
/** Ids are u32; a node above this shift has only empty slots beyond its first. */
const MAX_SHIFT = 30;

/**
 * `idr_for_each_entry(idr, entry, id)`: every live object by ascending id.
 *
 * `struct idr *` at `idr`, `name` for messages. What cannot be read is left out and counted in `log`; nothing
 * is thrown but `LayoutError`, where the BTF has no such structs.
 */
export function* idrEntries(
  memory: GuestMemory,
  btf: Btf,
  idr: Pointer,
  name: string,
  log: WalkLog,
): Generator<IdrEntry> {
  const { head, idr_base } = IDR.resolve(btf);
  const atHead = memory.locate(idr.hi, idr.lo, head, 8);
  const entry = atHead < 0 ? NULL : pointerAt(memory.view, atHead);
  const atBase = atHead < 0 ? -1 : memory.locate(idr.hi, idr.lo, idr_base, 4);
  if (atBase < 0) log.stop(memory.faultSentence(name));
  else yield* new XarrayWalk(memory, btf, name, log).entries(entry, memory.view.getUint32(atBase, true));
}

function pointerAt(view: DataView, at: number): Pointer {
  return { hi: view.getInt32(at + 4, true), lo: view.getInt32(at, true) };
}

class XarrayWalk {
  readonly #memory: GuestMemory;
  readonly #node: Offsets<"shift" | "slots" | "marksStart">;
  readonly #slotCount: number;
  readonly #name: string;
  readonly #log: WalkLog;
  readonly #visited: Set<string> = new Set();

  constructor(memory: GuestMemory, btf: Btf, name: string, log: WalkLog) {
    this.#memory = memory;
    this.#node = NODE.resolve(btf);
    this.#slotCount = (this.#node.marksStart - this.#node.slots) / 8;
    if (this.#slotCount !== 64 && this.#slotCount !== 16)
      throw new LayoutError(`resolve struct xa_node: it would have ${this.#slotCount} slots, not 64 or 16`);
    this.#name = name;
    this.#log = log;
  }

  /** From `xa_head` on: 0 is an empty array, a pointer is the lone entry of index 0, an internal entry a node. */
  *entries(head: Pointer, base: number): Generator<IdrEntry> {
    const path = `${this.#name}.xa_head`;
    const node = this.#nodeOf(head);
    if (node !== undefined) yield* this.#walk(node, -1, 0, base, path);
    else if (this.#isObject(head, path)) yield { id: base, address: head };
  }

  /**
   * The node that an entry points to (xa_to_node), or undefined where it does not point to one: sibling, retry and
   * zero entries, at most 4096, stand for no object either.
   */
  #nodeOf({ hi, lo }: Pointer): Pointer | undefined {
    const isNode = (lo & INTERNAL_MASK) === INTERNAL && (hi !== 0 || lo >>> 0 > MAX_SPECIAL_ENTRY);
    return isNode ? { hi, lo: lo - INTERNAL } : undefined;
  }

  #isObject({ hi, lo }: Pointer, path: string): boolean {
    if ((hi | lo) === 0 || (lo & INTERNAL_MASK) === INTERNAL) return false;
    if ((lo & INTERNAL_MASK) === 0) return true;
    this.#log.skip("an entry that is not a pointer", `${path} holds ${hex(hi, lo)}, which is not a pointer`);
    return false;
  }

  /** `parentShift`: -1 for the head's own node, whose shift decides the depth. */
  *#walk(node: Pointer, parentShift: number, index: number, base: number, path: string): Generator<IdrEntry> {
    const shift = this.#enter(node, parentShift, path);
    if (shift < 0) return;
    const at = this.#memory.locate(node.hi, node.lo, this.#node.slots, this.#slotCount * 8);
    if (at < 0) return this.#log.skip("a node that cannot be read", this.#memory.faultSentence(path));
    // A copy: the consumer of an entry reads memory before the next slot is looked at.
    const slots = this.#memory.bytes.slice(at, at + this.#slotCount * 8);
    const view = new DataView(slots.buffer, slots.byteOffset, slots.byteLength);
    for (let slot = 0; slot < this.#slotCount; slot++) {
      const entry = pointerAt(view, slot * 8);
      if ((entry.hi | entry.lo) === 0) continue;
      const id = index + slot * 2 ** shift;
      if (id + base >= 2 ** 32) {
        this.#log.skip("an id past 2^32", `${path} -> slots[${slot}] would be id ${id + base}`);
        continue;
      }
      const where = `${path} -> slots[${slot}]`;
      const child = this.#nodeOf(entry);
      if (child === undefined) {
        if (this.#isObject(entry, where)) yield { id: id + base, address: entry };
      } else if (shift === 0) this.#log.skip("a node below the last level", `${where} points to a node`);
      else yield* this.#walk(child, shift, id, base, where);
      if (this.#log.stopped !== "") return;
    }
  }

  /** Checks a node before it is walked: its shift, or -1 where it is left out. */
  #enter(node: Pointer, parentShift: number, path: string): number {
    const where = hex(node.hi, node.lo);
    if (this.#visited.has(where)) {
      this.#log.skip("a node that was reached before", `${path} leads to the node at ${where} again`);
      return -1;
    }
    if (this.#visited.size >= MAX_NODES) {
      this.#log.stop(`${this.#name} has more than ${MAX_NODES} nodes`);
      return -1;
    }
    this.#visited.add(where);
    const at = this.#memory.locate(node.hi, node.lo, this.#node.shift, 1);
    if (at < 0) {
      this.#log.skip("a node that cannot be read", this.#memory.faultSentence(path));
      return -1;
    }
    const shift = this.#memory.view.getUint8(at);
    const step = Math.log2(this.#slotCount);
    const fits = parentShift < 0 ? shift % step === 0 && shift <= MAX_SHIFT : shift === parentShift - step;
    if (fits) return shift;
    this.#log.skip("a node whose shift does not fit", `${path}: the node at ${where} has shift ${shift}`);
    return -1;
  }
}
