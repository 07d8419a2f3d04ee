/**
 * Run-time statistics: `struct bpf_prog_stats __percpu *stats` of a program, summed over the possible CPUs as
 * `bpf_prog_get_stats` does (kernel/bpf/syscall.c).
 *
 * A CPU's three counters lie side by side, so they come in one read; where they do not (or where that read has no
 * answer, as one of its pages is absent) they come one by one. A sum is two words, added up each for itself: nothing
 * is allocated per CPU, and no bigint is made before somebody asks for one.
 */
import { at, type Offsets, struct, u64 } from "../btf/struct.ts";
import { found, type ProgStats, type Read, unreadable } from "../state.ts";
import type { GuestKernel } from "./kernel.ts";
import type { GuestMemory } from "./memory.ts";

/** `struct bpf_prog_stats`; each counter is a `u64_stats_t`, on 64-bit machines one u64. */
const STATS = struct("bpf_prog_stats", { count: at(u64, "cnt"), runTimeNs: at(u64, "nsecs"), misses: u64 });

/** Counters farther apart than a cache line are not worth one read. */
const BULK_MAX_BYTES = 64;
const COUNTER_BYTES = 8;
const SIGN = 0x8000_0000 | 0;
const TWO_32 = 2 ** 32;
const U64_MAX = 2n ** 64n - 1n;

/** Sums of low and of high words; exact for up to 2^21 CPUs. */
export class StatsSum {
  countLo = 0;
  countHi = 0;
  runTimeLo = 0;
  runTimeHi = 0;
  missesLo = 0;
  missesHi = 0;
  /** The first counter that could not be read, in words; "" where all were. */
  missing = "";

  clear(): void {
    this.countLo = this.countHi = this.runTimeLo = this.runTimeHi = this.missesLo = this.missesHi = 0;
    this.missing = "";
  }

  /** The sums as they are shown, held at 2^64-1. */
  value(): ProgStats {
    return {
      count: saturated(this.countHi, this.countLo),
      runTimeNs: saturated(this.runTimeHi, this.runTimeLo),
      misses: saturated(this.missesHi, this.missesLo),
    };
  }
}

function saturated(hi: number, lo: number): bigint {
  const sum = hi * TWO_32 + lo;
  if (sum <= Number.MAX_SAFE_INTEGER) return BigInt(sum);
  const exact = (BigInt(hi) << 32n) + BigInt(lo);
  return exact > U64_MAX ? U64_MAX : exact;
}

/** Reads the counters of one program after the other. */
export class StatsReader {
  readonly #memory: GuestMemory;
  readonly #cpus: Int32Array;
  readonly #offsetHi: Int32Array;
  readonly #offsetLo: Int32Array;
  readonly #layout: Offsets<"count" | "runTimeNs" | "misses">;
  /** Where the one read begins and what it spans; 0: the counters lie too far apart for one. */
  readonly #bulkAt: number;
  readonly #bulkBytes: number;
  readonly #sum: StatsSum = new StatsSum();

  /** Throws `LayoutError` where the kernel has other counters. */
  constructor(kernel: GuestKernel) {
    this.#memory = kernel.memory;
    this.#cpus = Int32Array.from(kernel.cpus.areas, ({ cpu }) => cpu);
    this.#offsetHi = Int32Array.from(kernel.cpus.areas, ({ offset }) => offset.hi);
    this.#offsetLo = Int32Array.from(kernel.cpus.areas, ({ offset }) => offset.lo);
    this.#layout = STATS.resolve(kernel.btf);
    const { count, runTimeNs, misses } = this.#layout;
    this.#bulkAt = Math.min(count, runTimeNs, misses);
    const span = Math.max(count, runTimeNs, misses) + COUNTER_BYTES - this.#bulkAt;
    this.#bulkBytes = span <= BULK_MAX_BYTES ? span : 0;
  }

  /**
   * `hi:lo` is `bpf_prog.stats`, a per-CPU address. NULL has no stats, which is not zero. A counter that is absent
   * leaves no sum to give; the answer's words then say what the others add up to.
   */
  read(hi: number, lo: number): Read<ProgStats> {
    if ((hi | lo) === 0)
      return unreadable("not-present", "the program has no counters (bpf_prog.stats is NULL)");
    const sum = this.#sum;
    sum.clear();
    this.add(hi, lo, sum);
    const value = sum.value();
    if (sum.missing === "") return found(value);
    return unreadable(
      "not-present",
      `${sum.missing}; the others add up to cnt=${value.count} nsecs=${value.runTimeNs} misses=${value.misses}`,
    );
  }

  /** Adds a program's counters to `sum`: one read a CPU where the layout allows it. */
  add(hi: number, lo: number, sum: StatsSum): void {
    if (this.#bulkBytes === 0) this.addOneByOne(hi, lo, sum);
    else this.#addBulk(hi, lo, sum);
  }

  #addBulk(hi: number, lo: number, sum: StatsSum): void {
    const memory = this.#memory;
    const offsetHi = this.#offsetHi;
    const offsetLo = this.#offsetLo;
    const first = this.#bulkAt;
    const length = this.#bulkBytes;
    const count = this.#layout.count - first;
    const runTime = this.#layout.runTimeNs - first;
    const misses = this.#layout.misses - first;
    let countLo = 0;
    let countHi = 0;
    let runTimeLo = 0;
    let runTimeHi = 0;
    let missesLo = 0;
    let missesHi = 0;
    for (let index = 0; index < offsetLo.length; index++) {
      const low = (lo + offsetLo[index]!) | 0;
      const high = (hi + offsetHi[index]! + carried(low, lo)) | 0;
      const at = memory.locate(high, low, first, length);
      if (at < 0) {
        this.#addCpu(high, low, index, sum);
        continue;
      }
      const view = memory.view;
      countLo += view.getUint32(at + count, true);
      countHi += view.getUint32(at + count + 4, true);
      runTimeLo += view.getUint32(at + runTime, true);
      runTimeHi += view.getUint32(at + runTime + 4, true);
      missesLo += view.getUint32(at + misses, true);
      missesHi += view.getUint32(at + misses + 4, true);
    }
    sum.countLo += countLo;
    sum.countHi += countHi;
    sum.runTimeLo += runTimeLo;
    sum.runTimeHi += runTimeHi;
    sum.missesLo += missesLo;
    sum.missesHi += missesHi;
  }

  /** The same with a read a counter. */
  addOneByOne(hi: number, lo: number, sum: StatsSum): void {
    const offsetHi = this.#offsetHi;
    const offsetLo = this.#offsetLo;
    for (let index = 0; index < offsetLo.length; index++) {
      const low = (lo + offsetLo[index]!) | 0;
      this.#addCpu((hi + offsetHi[index]! + carried(low, lo)) | 0, low, index, sum);
    }
  }

  #addCpu(hi: number, lo: number, index: number, sum: StatsSum): void {
    const memory = this.#memory;
    const { count, runTimeNs, misses } = this.#layout;
    let at = memory.locate(hi, lo, count, COUNTER_BYTES);
    if (at < 0) this.#miss("cnt", index, sum);
    else {
      sum.countLo += memory.view.getUint32(at, true);
      sum.countHi += memory.view.getUint32(at + 4, true);
    }
    at = memory.locate(hi, lo, runTimeNs, COUNTER_BYTES);
    if (at < 0) this.#miss("nsecs", index, sum);
    else {
      sum.runTimeLo += memory.view.getUint32(at, true);
      sum.runTimeHi += memory.view.getUint32(at + 4, true);
    }
    at = memory.locate(hi, lo, misses, COUNTER_BYTES);
    if (at < 0) this.#miss("misses", index, sum);
    else {
      sum.missesLo += memory.view.getUint32(at, true);
      sum.missesHi += memory.view.getUint32(at + 4, true);
    }
  }

  #miss(counter: string, index: number, sum: StatsSum): void {
    if (sum.missing !== "") return;
    sum.missing = this.#memory.faultSentence(`bpf_prog.stats->${counter} of CPU ${this.#cpus[index]}`);
  }
}

/** 1 where adding something to `addend` gave `sum` with a carry out of 32 bits. */
function carried(sum: number, addend: number): number {
  return (sum ^ SIGN) < (addend ^ SIGN) ? 1 : 0;
}
