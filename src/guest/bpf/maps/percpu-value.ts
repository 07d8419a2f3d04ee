/** Per-CPU values: a `void __percpu *` and each CPU's offset lead to one copy a CPU. */
import type { CpuValue } from "../../../state.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import type { GuestMemory } from "../../memory/memory.ts";
import { clearFields, readSpecialFields, type SpecialField } from "./special-fields.ts";
import { CorruptMap, type GuestMap, roundUp8, type Shape } from "./walk.ts";

/** PCPU_MIN_UNIT_SIZE, which bounds a per-CPU value: 32 KiB rounded up to a page. */
const MAX_PERCPU_BYTES = 64 * 1024;

/** More are copied at once. */
const FEW_BYTES = 64;

/** Reads all CPUs' copies into one buffer, `stride` apart, without allocating. */
export class PerCpuValue {
  readonly bytes: Uint8Array;
  readonly stride: number;
  readonly #view: DataView;
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
    this.#view = new DataView(this.bytes.buffer);
    this.#offsetHi = Int32Array.from(kernel.cpus.areas, ({ offset }) => offset.hi);
    this.#offsetLo = Int32Array.from(kernel.cpus.areas, ({ offset }) => offset.lo);
  }

  /** False where a CPU's copy is not in the image; `memory.fault` then tells which address. */
  read(hi: number, lo: number): boolean {
    const { stride } = this;
    for (let slot = 0; slot < this.#offsetLo.length; slot++) {
      const at = this.#memory.locateSum(hi, lo, this.#offsetHi[slot]!, this.#offsetLo[slot]!, 0, stride);
      if (at < 0) return false;
      this.#copy(at, slot * stride);
      clearFields(this.#fields, this.bytes, slot * stride);
    }
    return true;
  }

  /** Few bytes by words, as `bpf_long_memcpy` does: a `subarray` would cost an object each. */
  #copy(from: number, to: number): void {
    const { bytes, view } = this.#memory;
    if (this.stride > FEW_BYTES) {
      this.bytes.set(bytes.subarray(from, from + this.stride), to);
      return;
    }
    for (let done = 0; done < this.stride; done += 4)
      this.#view.setInt32(to + done, view.getInt32(from + done, true), true);
  }

  /** What was read last, a copy for each CPU. */
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
