/** Checks whether a word is a per-CPU pointer: it must point into one of the chunks of per-CPU memory. */
import { i32, place, ptr, struct } from "../../../btf/struct.ts";
import { KtstrError } from "../../../errors.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { requireSymbol } from "../../kernel/symbols.ts";
import { type Pointer, toBigInt } from "../../memory/pointer.ts";

const CHUNK = struct("pcpu_chunk", { list: place, base_addr: ptr, nr_pages: i32 });
const LIST_HEAD_BYTES = 16;
/** The number of lists depends on the logarithm of a chunk's free bytes (mm/percpu.c, `__pcpu_size_to_slot`). */
const MAX_SLOTS = 64;
const MAX_CHUNKS = 65_536;

/** Addresses of the first unit of each chunk, in the address space of converted per-CPU pointers. */
export class PerCpuChunks {
  readonly #starts: bigint[] = [];
  readonly #ends: bigint[] = [];
  /** Added to a per-CPU pointer to get an address in that space. */
  readonly #offset: bigint;

  /** Reads `struct list_head *pcpu_chunk_lists`, with `pcpu_nr_slots` lists. Throws `KtstrError`. */
  constructor(kernel: GuestKernel) {
    const { memory, symbols, cpus } = kernel;
    const [first] = cpus.areas;
    if (first === undefined) throw new KtstrError("read pcpu_chunk_lists: no CPU has a per-CPU area");
    const pointerIn = (name: string): Pointer => {
      const { hi, lo } = requireSymbol(symbols, name);
      return memory.pointer(hi, lo, 0, name);
    };
    const units = pointerIn("pcpu_unit_offsets");
    this.#offset =
      toBigInt(first.offset.hi, first.offset.lo) -
      memory.u64(units.hi, units.lo, 8 * first.cpu, "pcpu_unit_offsets");
    const lists = pointerIn("pcpu_chunk_lists");
    const slots = requireSymbol(symbols, "pcpu_nr_slots");
    const count = Math.min(memory.u32(slots.hi, slots.lo, 0, "pcpu_nr_slots"), MAX_SLOTS);
    for (let slot = 0; slot < count; slot++) this.#addList(kernel, lists, slot * LIST_HEAD_BYTES);
  }

  #addList({ memory, btf }: GuestKernel, lists: Pointer, head: number): void {
    const chunk = CHUNK.resolve(btf);
    const pageBytes = 1n << BigInt(memory.tables.mode.pageShift);
    const end = toBigInt(lists.hi, lists.lo) + BigInt(head);
    let node = memory.pointer(lists.hi, lists.lo, head, "pcpu_chunk_lists");
    while (toBigInt(node.hi, node.lo) !== end && this.#starts.length < MAX_CHUNKS) {
      const base = memory.pointer(node.hi, node.lo, chunk.base_addr - chunk.list, "pcpu_chunk.base_addr");
      const pages = memory.i32(node.hi, node.lo, chunk.nr_pages - chunk.list, "pcpu_chunk.nr_pages");
      const start = toBigInt(base.hi, base.lo);
      this.#starts.push(start);
      this.#ends.push(start + BigInt(pages) * pageBytes);
      node = memory.pointer(node.hi, node.lo, 0, "pcpu_chunk.list");
    }
  }

  /** `pcpu_addr_in_chunk`: returns whether a u64 can be a `void __percpu *` to an object of at least 8 bytes. */
  holds(word: bigint): boolean {
    if ((word & 7n) !== 0n) return false;
    const address = BigInt.asUintN(64, word + this.#offset);
    return this.#starts.some((start, n) => address >= start && address < this.#ends[n]!);
  }
}
