/**
 * Run-time statistics: `struct bpf_prog_stats __percpu *stats` of a program, summed over the possible CPUs as
 * `bpf_prog_get_stats` does (kernel/bpf/syscall.c).
 *
 * A CPU's three counters lie side by side, so they come in one read; where they do not (or where that read has no
 * answer, as one of its pages is absent) they come one by one, as two words each. Nothing is allocated per CPU, and
 * no bigint is made before somebody asks for a sum.
 */
import { at, type Offsets, struct, u64 } from "../btf/struct.ts";
import { saturatingAdd } from "../derive.ts";
import { found, type ProgStats, type Read, unreadable } from "../state.ts";
import type { GuestKernel } from "./kernel.ts";
import type { GuestMemory } from "./memory.ts";

/** `struct bpf_prog_stats`; each counter is a `u64_stats_t`, on 64-bit machines one u64. */
const STATS = struct("bpf_prog_stats", { count: at(u64, "cnt"), runTimeNs: at(u64, "nsecs"), misses: u64 });

/** Counters farther apart than a cache line are not worth one read. */
const BULK_MAX_BYTES = 64;
const COUNTER_BYTES = 8;
const [COUNT, RUN_TIME, MISSES] = [0, 1, 2];
const NO_DOUBLES: Float64Array = new Float64Array(0);
/** 2^53 as bits of a double: from here on bits are no longer proportional to what they stand for. */
const LINEAR_END = 2 ** -1021;

/**
 * The sums of the three counters: `bits` as `#addBulk` makes them, and those that were read as words, low and high
 * words added up each for themselves (exact for up to 2^21 CPUs).
 */
export class StatsSum {
  readonly bits: Float64Array = new Float64Array(3);
  readonly lo: Float64Array = new Float64Array(3);
  readonly hi: Float64Array = new Float64Array(3);
  /** Whether `lo` and `hi` may hold something. */
  hasWords = false;
  /** The first counter that could not be read, in words; "" where all were. */
  missing = "";

  clear(): void {
    this.bits.fill(0);
    this.lo.fill(0);
    this.hi.fill(0);
    this.hasWords = false;
    this.missing = "";
  }

  /** The sums as they are shown, held at 2^64-1. */
  value(): ProgStats {
    const bits = new BigUint64Array(this.bits.buffer);
    const total = (counter: number): bigint => {
      const words = (BigInt(this.hi[counter]!) << 32n) + BigInt(this.lo[counter]!);
      return saturatingAdd(bits[counter]!, words);
    };
    return { count: total(COUNT), runTimeNs: total(RUN_TIME), misses: total(MISSES) };
  }
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
  /** Where in that read each counter lies, in words of 8 bytes. */
  readonly #countWord: number;
  readonly #runTimeWord: number;
  readonly #missesWord: number;
  readonly #pages: CpuPages;
  readonly #sum: StatsSum = new StatsSum();

  /** Throws `LayoutError` where the kernel has other counters. */
  constructor(kernel: GuestKernel) {
    const { areas } = kernel.cpus;
    this.#memory = kernel.memory;
    this.#cpus = Int32Array.from(areas, ({ cpu }) => cpu);
    this.#offsetHi = Int32Array.from(areas, ({ offset }) => offset.hi);
    this.#offsetLo = Int32Array.from(areas, ({ offset }) => offset.lo);
    this.#pages = new CpuPages(kernel.memory, this.#offsetHi, this.#offsetLo);
    this.#layout = STATS.resolve(kernel.btf);
    const { count, runTimeNs, misses } = this.#layout;
    this.#bulkAt = Math.min(count, runTimeNs, misses);
    this.#countWord = (count - this.#bulkAt) >> 3;
    this.#runTimeWord = (runTimeNs - this.#bulkAt) >> 3;
    this.#missesWord = (misses - this.#bulkAt) >> 3;
    const span = Math.max(count, runTimeNs, misses) + COUNTER_BYTES - this.#bulkAt;
    this.#bulkBytes = span <= BULK_MAX_BYTES && ((count | runTimeNs | misses) & 7) === 0 ? span : 0;
  }

  /**
   * `hi:lo` is `bpf_prog.stats`, a per-CPU address. NULL has no stats, which is not zero. A counter that is absent
   * leaves no sum to give; the answer's words then say what the others add up to.
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

  /** Makes `sum` a program's counters: one read a CPU, wherever the layout and the pages allow it. */
  load(hi: number, lo: number, sum: StatsSum): void {
    if (sum.hasWords) sum.clear();
    const pages = this.#pages;
    const first = (lo + this.#bulkAt) | 0;
    const inPage = first & (pages.pageBytes - 1);
    // Counters that run into the next page, or lie at an odd address, are nobody's but a hostile pointer's.
    const whole =
      this.#bulkBytes > 0 &&
      (first & 7) === 0 &&
      inPage >= this.#bulkAt &&
      inPage + this.#bulkBytes <= pages.pageBytes;
    if (whole && pages.turnTo(hi, (lo & -pages.pageBytes) | 0)) this.#loadBulk(hi, lo, inPage >> 3, sum);
    else this.loadOneByOne(hi, lo, sum);
  }

  /**
   * The bits of an integer below 2^53, taken for a double, are that integer times 2^-1074, and IEEE 754 adds such
   * numbers exactly: one load and one addition a counter, as on a 64-bit machine. A negative, an infinite or a larger
   * one shows in the sum of magnitudes, and then the words are added up instead. (2^63 itself is taken for 0: no
   * counter gets there in 292 years.)
   */
  #loadBulk(hi: number, lo: number, word: number, sum: StatsSum): void {
    const { doubles, shared, starts } = this.#pages;
    const countAt = word + this.#countWord;
    const runTimeAt = word + this.#runTimeWord;
    const missesAt = word + this.#missesWord;
    let counts = 0;
    let runTimes = 0;
    let misses = 0;
    let magnitudes = 0;
    let other = 0;
    for (let index = 0; index < starts.length; index++) {
      const start = starts[index]!;
      if (start < 0) {
        other++;
        continue;
      }
      const page = shared ?? doubles[index]!;
      const count = page[start + countAt]!;
      const runTime = page[start + runTimeAt]!;
      const missed = page[start + missesAt]!;
      counts += count;
      runTimes += runTime;
      misses += missed;
      magnitudes += Math.abs(count) + Math.abs(runTime) + Math.abs(missed);
    }
    const isExact = magnitudes < LINEAR_END && magnitudes === counts + runTimes + misses;
    sum.bits[COUNT] = isExact ? counts : 0;
    sum.bits[RUN_TIME] = isExact ? runTimes : 0;
    sum.bits[MISSES] = isExact ? misses : 0;
    if (!isExact || other > 0) this.#addOthers(hi, lo, sum, isExact);
  }

  /** The CPUs that were left out by the way that reads all three counters at once. */
  #addOthers(hi: number, lo: number, sum: StatsSum, isExact: boolean): void {
    const { starts } = this.#pages;
    sum.hasWords = true;
    for (let index = 0; index < starts.length; index++)
      if (!isExact || starts[index]! < 0) this.#addCpu(hi, lo, index, sum);
  }

  /** The same with a read a counter. */
  loadOneByOne(hi: number, lo: number, sum: StatsSum): void {
    sum.clear();
    sum.hasWords = true;
    for (let index = 0; index < this.#cpus.length; index++) this.#addCpu(hi, lo, index, sum);
  }

  #addCpu(hi: number, lo: number, index: number, sum: StatsSum): void {
    this.#addCounter(hi, lo, index, COUNT, this.#layout.count, sum);
    this.#addCounter(hi, lo, index, RUN_TIME, this.#layout.runTimeNs, sum);
    this.#addCounter(hi, lo, index, MISSES, this.#layout.misses, sum);
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

/**
 * One page of per-CPU memory, every CPU's copy of it: the counters of some hundred programs lie in the same page, so
 * its translation is made once for all of them.
 */
class CpuPages {
  readonly pageBytes: number;
  /** For each CPU the image as doubles, and the one at which its copy of the page begins; -1: to be read otherwise. */
  readonly doubles: Float64Array[];
  readonly starts: Int32Array;
  /** The image, where it is the same for all CPUs. */
  shared: Float64Array | undefined;
  readonly #memory: GuestMemory;
  readonly #offsetHi: Int32Array;
  readonly #offsetLo: Int32Array;
  /** Whether a page of the one address is a page of all CPUs' addresses. */
  readonly #aligned: boolean;
  readonly #images: Map<ArrayBufferLike, Float64Array>;
  #hi = 0;
  /** The page's low word with bit 0 set; 0: none yet. */
  #lo = 0;

  constructor(memory: GuestMemory, offsetHi: Int32Array, offsetLo: Int32Array) {
    this.#memory = memory;
    this.#offsetHi = offsetHi;
    this.#offsetLo = offsetLo;
    this.pageBytes = 2 ** memory.tables.mode.pageShift;
    this.#aligned = offsetLo.every((lo) => (lo & (this.pageBytes - 1)) === 0);
    const buffers = memory.physical.windows.map(({ bytes }) => bytes.buffer);
    this.#images = new Map(
      buffers.map((buffer) => [buffer, new Float64Array(buffer, 0, Math.floor(buffer.byteLength / 8))]),
    );
    this.doubles = Array.from(offsetLo, () => NO_DOUBLES);
    this.starts = new Int32Array(offsetLo.length).fill(-1);
  }

  /** Makes `starts` and `doubles` those of the page at per-CPU address `hi:lo`; false where there are no such. */
  turnTo(hi: number, lo: number): boolean {
    if ((lo | 1) === this.#lo && hi === this.#hi) return true;
    if (!this.#aligned) return false;
    this.#hi = hi;
    this.#lo = lo | 1;
    const memory = this.#memory;
    for (let index = 0; index < this.starts.length; index++) {
      const at = memory.locateSum(hi, lo, this.#offsetHi[index]!, this.#offsetLo[index]!, 0, this.pageBytes);
      // What `locate` had to put together from pieces is no image, and good for one read alone.
      const doubles = at < 0 ? undefined : this.#images.get(memory.bytes.buffer);
      const byte = memory.bytes.byteOffset + at;
      const isUsable = doubles !== undefined && byte % 8 === 0;
      this.doubles[index] = isUsable ? doubles : NO_DOUBLES;
      this.starts[index] = isUsable ? byte / 8 : -1;
    }
    const [first] = this.doubles;
    this.shared = this.doubles.every((doubles) => doubles === first) ? first : undefined;
    return true;
  }
}
