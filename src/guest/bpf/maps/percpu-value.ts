/** Reads per-CPU values: a `void __percpu *` plus each CPU's offset is the address of that CPU's copy. */
import type { CpuValue } from "../../../state.ts";
import type { Window } from "../../image/physical.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { type AddressBatch, addEach, addressBatch } from "../../memory/address-batch.ts";
import type { GuestMemory } from "../../memory/memory.ts";
import { clearFields, readSpecialFields, type SpecialField } from "./special-fields.ts";
import { CorruptMap, type GuestMap, roundUp8, type Shape } from "./walk.ts";

/** PCPU_MIN_UNIT_SIZE, which limits a per-CPU value: 32 KiB rounded up to a page. */
const MAX_PERCPU_BYTES = 64 * 1024;

/** Longer values are copied with `set`. For short ones a word loop is faster, because `subarray` allocates an object. */
const FEW_BYTES = 64;

/** Reads all CPUs' copies into one buffer, `stride` apart, without allocating. */
export class PerCpuValue {
  readonly bytes: Uint8Array;
  readonly stride: number;
  readonly #words: Int32Array;
  readonly #windows: readonly Window[];
  /** The place of each CPU's copy of the current page. */
  readonly #batch: AddressBatch;
  /** The current page, as a per-CPU address; not a page address if there is none yet. */
  #pageHi = 0;
  #pageLo = 1;
  /** Mask of an address's offset in a page; 0 if CPUs' offsets are not page-aligned. */
  readonly #inPage: number;
  readonly #memory: GuestMemory;
  readonly #kernel: GuestKernel;
  readonly #fields: readonly SpecialField[];
  readonly #offsetHi: Int32Array;
  readonly #offsetLo: Int32Array;

  /** Throws `GuestFault`. */
  constructor(kernel: GuestKernel, map: GuestMap) {
    this.#kernel = kernel;
    this.#memory = kernel.memory;
    this.#fields = readSpecialFields(kernel, map);
    this.stride = roundUp8(map.info.valueSize);
    if (this.stride > MAX_PERCPU_BYTES)
      throw new CorruptMap(`map ${map.info.id}: its per-CPU values would have ${map.info.valueSize} bytes`);
    this.bytes = new Uint8Array(this.stride * kernel.cpus.areas.length);
    this.#words = new Int32Array(this.bytes.buffer);
    this.#windows = kernel.memory.physical.windows;
    this.#batch = addressBatch(kernel.cpus.areas.length);
    this.#offsetHi = Int32Array.from(kernel.cpus.areas, ({ offset }) => offset.hi);
    this.#offsetLo = Int32Array.from(kernel.cpus.areas, ({ offset }) => offset.lo);
    const inPage = (1 << kernel.memory.tables.mode.pageShift) - 1;
    this.#inPage = this.#offsetLo.every((lo) => (lo & inPage) === 0) ? inPage : 0;
  }

  /** Returns false if a CPU's copy is not in the image; `memory.fault` then has the address. */
  read(hi: number, lo: number): boolean {
    const inPage = lo & this.#inPage;
    const page = (lo - inPage) | 0;
    if (page !== this.#pageLo || hi !== this.#pageHi) this.#setPage(hi, page);
    const { stride } = this;
    const isFew = stride <= FEW_BYTES && (inPage & 3) === 0;
    return isFew && inPage + stride <= this.#inPage + 1 ? this.#copyFew(inPage) : this.#copyLong(inPage);
  }

  /** Locates each CPU's copy of a page. Consecutive values are often in the same page. */
  #setPage(hi: number, lo: number): void {
    addEach(this.#batch, hi, lo, this.#offsetHi, this.#offsetLo);
    this.#memory.locateEach(this.#batch, this.#offsetLo.length, 0, this.#inPage + 1);
    this.#pageHi = hi;
    this.#pageLo = lo;
  }

  #copyFew(inPage: number): boolean {
    const { at: ats, index: indexes } = this.#batch;
    const into = this.#words;
    const wordCount = this.stride >>> 2;
    const cpus = ats.length;
    for (let cpu = 0; cpu < cpus; ) {
      const index = indexes[cpu]!;
      const source = this.#windows[index]!.words;
      for (; cpu < cpus && indexes[cpu] === index; cpu++) {
        const at = ats[cpu]!;
        if (at < 0 || source.length === 0) {
          if (!this.#copyOne(cpu, inPage)) return false;
          continue;
        }
        const from = (at + inPage) >>> 2;
        const to = cpu * wordCount;
        for (let word = 0; word < wordCount; word += 2) {
          into[to + word] = source[from + word]!;
          into[to + word + 1] = source[from + word + 1]!;
        }
      }
    }
    this.#clear(cpus);
    return true;
  }

  #copyLong(inPage: number): boolean {
    const cpus = this.#batch.at.length;
    for (let cpu = 0; cpu < cpus; cpu++) if (!this.#copyOne(cpu, inPage)) return false;
    this.#clear(cpus);
    return true;
  }

  /** Reads a copy that is long, crosses a page, or is in a page that was not looked up before. */
  #copyOne(cpu: number, inPage: number): boolean {
    const at = this.#memory.locate(this.#batch.hi[cpu]!, this.#batch.lo[cpu]!, inPage, this.stride);
    if (at < 0) return false;
    this.bytes.set(this.#memory.bytes.subarray(at, at + this.stride), cpu * this.stride);
    return true;
  }

  #clear(cpus: number): void {
    if (this.#fields.length === 0) return;
    for (let cpu = 0; cpu < cpus; cpu++) clearFields(this.#fields, this.bytes, cpu * this.stride);
  }

  /** The value that was read last, one copy per CPU. */
  values(valueSize: number): readonly CpuValue[] {
    return this.#kernel.cpus.areas.map(({ cpu }, slot) => ({
      cpu,
      value: this.bytes.slice(slot * this.stride, slot * this.stride + valueSize),
    }));
  }
}

export const perCpuShape = (kernel: GuestKernel, { info }: GuestMap): Shape => ({
  keySize: info.keySize,
  valueSize: info.valueSize,
  cpuCount: kernel.cpus.areas.length,
});
