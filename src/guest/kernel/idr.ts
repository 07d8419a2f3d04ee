/** `struct idr` and the xarray in it (include/linux/idr.h, include/linux/xarray.h, lib/xarray.c). */
import type { Btf } from "../../btf/btf.ts";
import { at, bytes, LayoutError, type Offsets, ptr, struct, u8, u32 } from "../../btf/struct.ts";
import type { GuestMemory } from "../memory/memory.ts";
import { hex, NULL, type Pointer } from "../memory/pointer.ts";
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

/** A node on the way to the slot at hand. */
interface Node {
  readonly shift: number;
  /** Of its first slot. */
  readonly index: number;
  readonly slots: DataView;
  slot: number;
}

class XarrayWalk {
  readonly #memory: GuestMemory;
  readonly #node: Offsets<"shift" | "slots" | "marksStart">;
  readonly #slotCount: number;
  readonly #name: string;
  readonly #log: WalkLog;
  readonly #visited: Set<string> = new Set();
  /** From the head's node on. */
  readonly #path: Node[] = [];

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
    if (isNode(head.hi, head.lo)) {
      const root = this.#enter(head, -1, 0);
      if (root !== undefined) this.#path.push(root);
    } else if (this.#isObject(head.hi, head.lo)) yield { id: base, address: head };
    // One loop for all levels: a generator inside a generator would pass every object on from level to level.
    for (;;) {
      const node = this.#path.at(-1);
      if (node === undefined || this.#log.stopped !== "") return;
      node.slot++;
      if (node.slot >= this.#slotCount) {
        this.#path.pop();
        continue;
      }
      const lo = node.slots.getInt32(node.slot * 8, true);
      const hi = node.slots.getInt32(node.slot * 8 + 4, true);
      if ((hi | lo) === 0) continue;
      const index = node.index + node.slot * 2 ** node.shift;
      if (index + base >= 2 ** 32)
        this.#log.skip("an id past 2^32", `${this.#where()} would be id ${index + base}`);
      else if (isNode(hi, lo)) this.#descend({ hi, lo }, node.shift, index);
      else if (this.#isObject(hi, lo)) yield { id: index + base, address: { hi, lo } };
    }
  }

  #descend(entry: Pointer, parentShift: number, index: number): void {
    if (parentShift === 0) {
      this.#log.skip("a node below the last level", `${this.#where()} points to a node`);
      return;
    }
    const node = this.#enter(entry, parentShift, index);
    if (node !== undefined) this.#path.push(node);
  }

  /** How the slot at hand was come to. */
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

  /**
   * Checks the node that an entry points to (xa_to_node) before it is walked; undefined where it is left out.
   * `parentShift`: -1 for the head's own node, whose shift decides the depth.
   */
  #enter({ hi, lo: tagged }: Pointer, parentShift: number, index: number): Node | undefined {
    const lo = tagged - INTERNAL;
    const key = hex(hi, lo);
    if (this.#visited.has(key)) {
      this.#log.skip("a node that was reached before", `${this.#where()} leads to the node at ${key} again`);
      return undefined;
    }
    if (this.#visited.size >= MAX_NODES) {
      this.#log.stop(`${this.#name} has more than ${MAX_NODES} nodes`);
      return undefined;
    }
    this.#visited.add(key);
    const atShift = this.#memory.locate(hi, lo, this.#node.shift, 1);
    if (atShift < 0) return this.#unreadable();
    const shift = this.#memory.view.getUint8(atShift);
    const step = Math.log2(this.#slotCount);
    const fits = parentShift < 0 ? shift % step === 0 && shift <= MAX_SHIFT : shift === parentShift - step;
    if (!fits) {
      const detail = `${this.#where()}: the node at ${key} has shift ${shift}`;
      this.#log.skip("a node whose shift does not fit", detail);
      return undefined;
    }
    const at = this.#memory.locate(hi, lo, this.#node.slots, this.#slotCount * 8);
    if (at < 0) return this.#unreadable();
    // A copy: the consumer of an entry reads memory before the next slot is looked at.
    const slots = this.#memory.bytes.slice(at, at + this.#slotCount * 8);
    return { shift, index, slots: new DataView(slots.buffer), slot: -1 };
  }

  #unreadable(): undefined {
    this.#log.skip("a node that cannot be read", this.#memory.faultSentence(this.#where()));
  }
}

/**
 * Whether an entry points to a node (xa_is_node): sibling, retry and zero entries, at most 4096, stand for no object
 * either.
 */
function isNode(hi: number, lo: number): boolean {
  return (lo & INTERNAL_MASK) === INTERNAL && (hi !== 0 || lo >>> 0 > MAX_SPECIAL_ENTRY);
}
