/** Kernel addresses that lead to physical ones by one subtraction: the direct map, the kernel's image. */
import { type PhysicalMemory, type Window, windowOf } from "./physical.ts";
import { fromBigInt, type Pointer, toBigInt } from "./pointer.ts";

/** A range of them that lies in one window, and whose addresses all have one high word. */
export interface LinearRun {
  readonly hi: number;
  readonly lo: number;
  /** Its bytes, and at which physical address they begin. */
  readonly window: Window;
  /** Which of the physical windows it lies in, and where in that it begins. */
  readonly index: number;
  readonly start: number;
}

const SPACE_END = 1n << 64n;
const TWO_32 = 2 ** 32;
/** Flipped, int32 words compare as the unsigned ones that they stand for. */
const SIGN = 0x8000_0000 | 0;

/** Runs by address. They do not overlap. */
export class LinearRuns {
  readonly #runs: LinearRun[] = [];

  /** `length` bytes of addresses from `base` on map to physical memory from `physical` on, as far as windows hold it. */
  add(memory: PhysicalMemory, base: Pointer, physical: number, length: number): void {
    const start = toBigInt(base.hi, base.lo);
    for (const [index, window] of memory.windows.entries()) {
      let from = Math.max(window.physical, physical);
      const end = Math.min(window.physical + window.bytes.length, physical + length);
      while (from < end) {
        const address = start + BigInt(from - physical);
        const { hi, lo } = fromBigInt(address);
        const size = Math.min(end - from, TWO_32 - (lo >>> 0));
        if (address + BigInt(size) > SPACE_END) break;
        const at = from - window.physical;
        const bytes = window.bytes.subarray(at, at + size);
        this.#runs.push({ hi, lo, window: windowOf(from, bytes), index, start: at });
        from += size;
      }
    }
    this.#runs.sort((a, b) => (a.hi >>> 0) - (b.hi >>> 0) || (a.lo >>> 0) - (b.lo >>> 0));
  }

  /** The run that holds an address; by bisection, for a filtered dump has one for each of its thousands of segments. */
  at(hi: number, lo: number): LinearRun | undefined {
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const run = this.#runs[middle]!;
      const isBelow = hi === run.hi ? (lo ^ SIGN) < (run.lo ^ SIGN) : (hi ^ SIGN) < (run.hi ^ SIGN);
      if (isBelow) high = middle;
      else low = middle + 1;
    }
    const run = this.#runs[low - 1];
    return run !== undefined && run.hi === hi && (lo - run.lo) >>> 0 < run.window.bytes.length
      ? run
      : undefined;
  }
}
