/**
 * Reads run-time statistics: `struct bpf_prog_stats __percpu *stats` of a program, summed over the possible CPUs like
 * `bpf_prog_get_stats` (kernel/bpf/syscall.c).
 *
 * A CPU's three counters are adjacent and read together. If they are not adjacent, or if a page is absent, they are read one
 * by one, as two words each. Nothing is allocated per CPU, and bigints are only created for results.
 */
import { at, type Offsets, optional, struct, u64 } from "../../btf/struct.ts";
import { saturatingAdd } from "../../derive.ts";
import { found, type ProgStats, type Read, unreadable } from "../../state.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import type { GuestMemory } from "../memory/memory.ts";
import {
  ALL,
  type BulkReader,
  bulkReader,
  COUNT,
  COUNTER_BYTES,
  MISSES,
  RUN_TIME,
  SOME,
} from "./stats-bulk.ts";

/** `struct bpf_prog_stats`; each counter is a `u64_stats_t`, which is one u64 on 64-bit machines. */
const STATS = struct("bpf_prog_stats", {
  count: at(u64, "cnt"),
  runTimeNs: at(u64, "nsecs"),
  misses: optional(u64, "since 5.12"),
});

/**
 * The sums of the three counters: `bits` from `BulkReader.load`, and the counters that were read as words, whose low and high
 * words are added separately (exact for up to 2^21 CPUs).
 */
export class StatsSum {
  readonly bits: Float64Array = new Float64Array(3);
  readonly lo: Float64Array = new Float64Array(3);
  readonly hi: Float64Array = new Float64Array(3);
  /** Whether `lo` and `hi` are used. */
  hasWords = false;
  /** A sentence about the first counter that could not be read; "" if all were read. */
  missing = "";

  clear(): void {
    this.bits.fill(0);
    this.lo.fill(0);
    this.hi.fill(0);
    this.hasWords = false;
    this.missing = "";
  }

  /** Returns the sums, limited to 2^64-1. */
  value(): ProgStats {
    const bits = new BigUint64Array(this.bits.buffer);
    const total = (counter: number): bigint => {
      const words = (BigInt(this.hi[counter]!) << 32n) + BigInt(this.lo[counter]!);
      return saturatingAdd(bits[counter]!, words);
    };
    return { count: total(COUNT), runTimeNs: total(RUN_TIME), misses: total(MISSES) };
  }
}

/** Reads the counters of programs one by one. */
export class StatsReader {
  readonly #memory: GuestMemory;
  readonly #cpus: Int32Array;
  readonly #offsetHi: Int32Array;
  readonly #offsetLo: Int32Array;
  readonly #layout: Offsets<"count" | "runTimeNs", "misses">;
  readonly #bulk: BulkReader;
  readonly #sum: StatsSum = new StatsSum();

  /** Throws `LayoutError` if the kernel's counters are not supported. */
  constructor(kernel: GuestKernel) {
    const { areas } = kernel.cpus;
    this.#memory = kernel.memory;
    this.#cpus = Int32Array.from(areas, ({ cpu }) => cpu);
    this.#offsetHi = Int32Array.from(areas, ({ offset }) => offset.hi);
    this.#offsetLo = Int32Array.from(areas, ({ offset }) => offset.lo);
    this.#layout = STATS.resolve(kernel.btf);
    const { count, runTimeNs, misses = count } = this.#layout;
    this.#bulk = bulkReader(kernel.memory, this.#offsetHi, this.#offsetLo, { count, runTimeNs, misses });
  }

  /**
   * `hi:lo` is `bpf_prog.stats`, a per-CPU address. NULL gives an error, not zeros. If a counter is absent, there is
   * no sum; the message then has the sum of the others.
   */
  read(hi: number, lo: number): Read<ProgStats> {
    if ((hi | lo) === 0)
      return unreadable("not-present", "the program has no counters (bpf_prog.stats is NULL)");
    const sum = this.#sum;
    this.load(hi, lo, sum);
    const value = sum.value();
    if (sum.missing === "") return found(value);
    return unreadable(
      "not-present",
      `${sum.missing}; the others add up to cnt=${value.count} nsecs=${value.runTimeNs} misses=${value.misses}`,
    );
  }

  /** Sets `sum` to a program's counters, with one read per CPU if possible. */
  load(hi: number, lo: number, sum: StatsSum): void {
    if (sum.hasWords) sum.clear();
    const answer = this.#bulk.load(hi, lo, sum.bits);
    if (this.#layout.misses === undefined) sum.bits[MISSES] = 0;
    if (answer !== ALL) this.#addOthers(hi, lo, sum, answer === SOME);
  }

  /** Reads the CPUs that the combined read left out. */
  #addOthers(hi: number, lo: number, sum: StatsSum, isExact: boolean): void {
    const { starts } = this.#bulk;
    sum.hasWords = true;
    for (let index = 0; index < starts.length; index++)
      if (!isExact || starts[index]! < 0) this.#addCpu(hi, lo, index, sum);
  }

  /** The same with one read per counter. */
  loadOneByOne(hi: number, lo: number, sum: StatsSum): void {
    sum.clear();
    sum.hasWords = true;
    for (let index = 0; index < this.#cpus.length; index++) this.#addCpu(hi, lo, index, sum);
  }

  #addCpu(hi: number, lo: number, index: number, sum: StatsSum): void {
    this.#addCounter(hi, lo, index, COUNT, this.#layout.count, sum);
    this.#addCounter(hi, lo, index, RUN_TIME, this.#layout.runTimeNs, sum);
    const { misses } = this.#layout;
    if (misses !== undefined) this.#addCounter(hi, lo, index, MISSES, misses, sum);
  }

  #addCounter(hi: number, lo: number, index: number, counter: number, offset: number, sum: StatsSum): void {
    const memory = this.#memory;
    const at = memory.locateSum(
      hi,
      lo,
      this.#offsetHi[index]!,
      this.#offsetLo[index]!,
      offset,
      COUNTER_BYTES,
    );
    if (at >= 0) {
      sum.lo[counter]! += memory.view.getUint32(at, true);
      sum.hi[counter]! += memory.view.getUint32(at + 4, true);
    } else if (sum.missing === "") {
      const member = ["cnt", "nsecs", "misses"][counter];
      sum.missing = memory.faultSentence(`bpf_prog.stats->${member} of CPU ${this.#cpus[index]}`);
    }
  }
}
