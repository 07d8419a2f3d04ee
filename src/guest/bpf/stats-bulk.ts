/**
 * Sums a program's three counters over all CPUs. The counters of a CPU are adjacent and read together. The counters of about
 * a hundred programs are in the same page of per-CPU memory, which is translated once for all of them.
 *
 * It is a closure instead of a class for the reason given in page-cache.ts.
 */
import { addEach, addressBatch } from "../memory/address-batch.ts";
import type { GuestMemory } from "../memory/memory.ts";

/** Indexes of the counters in a sum. */
export const COUNT = 0;
export const RUN_TIME = 1;
export const MISSES = 2;
export const COUNTER_BYTES = 8;

/** Results of `load`: all CPUs were summed; CPUs with a negative `starts` were left out; nothing was summed. */
export const ALL = 0;
export const SOME = 1;
export const NONE = 2;

export interface BulkReader {
  /** For each CPU: the start of its copy of the page, in doubles; negative if it must be read in another way. */
  readonly starts: Int32Array;
  /** Sets `bits` to the sums of the counters at per-CPU address `hi:lo`, as the bits of integers. */
  load(hi: number, lo: number, bits: Float64Array): typeof ALL | typeof SOME | typeof NONE;
}

/** Offsets in `struct bpf_prog_stats`. */
interface CounterOffsets {
  readonly count: number;
  readonly runTimeNs: number;
  readonly misses: number;
}

/** Counters that do not fit in a cache line are not read together. */
const BULK_MAX_BYTES = 64;
const NO_DOUBLES: Float64Array = new Float64Array(0);
/** 2^53 as the bits of a double: from there on, bits are no longer proportional to the value. */
const LINEAR_END = 2 ** -1021;

/** `offsetHi:offsetLo`: `__per_cpu_offset` of each CPU. */
export function bulkReader(
  memory: GuestMemory,
  offsetHi: Int32Array,
  offsetLo: Int32Array,
  { count, runTimeNs, misses }: CounterOffsets,
): BulkReader {
  const pageBytes = 2 ** memory.tables.mode.pageShift;
  const least = Math.min(count, runTimeNs, misses);
  const end = Math.max(count, runTimeNs, misses) + COUNTER_BYTES;
  /** Limit on an object's offset in a page so that all of its counters are in the page. */
  const lastStart = pageBytes - end;
  const isDense = end - least <= BULK_MAX_BYTES && ((count | runTimeNs | misses) & 7) === 0;
  /** Whether all CPUs' offsets are multiples of the page size. */
  const isAligned = offsetLo.every((lo) => (lo & (pageBytes - 1)) === 0);
  const isPossible = isDense && isAligned;
  const countWord = count >> 3;
  const runTimeWord = runTimeNs >> 3;
  const missesWord = misses >> 3;
  const cpuCount = offsetLo.length;
  const starts = new Int32Array(cpuCount).fill(-1);
  /** For each CPU: the image as doubles. */
  const doubles: Float64Array[] = Array.from(starts, () => NO_DOUBLES);
  const images = new Map(
    memory.physical.windows.map(({ bytes: { buffer } }) => [
      buffer as ArrayBufferLike,
      new Float64Array(buffer, 0, Math.floor(buffer.byteLength / 8)),
    ]),
  );
  /** For each window: its buffer as doubles, and its start there, as the index of a double and a remainder in bytes. */
  const windows = memory.physical.windows.map(({ bytes: { buffer, byteOffset } }) => ({
    doubles: images.get(buffer)!,
    start: Math.floor(byteOffset / 8),
    offset: byteOffset % 8,
  }));
  /** The CPUs' copies of the current page. */
  const copies = addressBatch(cpuCount);
  // The current page: its low word has bit 0 set; 0 if there is none yet.
  let pageHi = 0;
  let pageLo = 0;
  /** The image, if all CPUs' copies of the page are in the same one and none is missing. */
  let shared: Float64Array | undefined;

  /**
   * As a double, the bits of an integer below 2^53 are that integer times 2^-1074, and IEEE 754 adds such numbers exactly: one
   * load and one addition per counter. Negative, infinite or larger values are detected in the sum of magnitudes; the words are
   * then added instead. (2^63 itself is read as 0, but a counter would take 292 years to reach it.)
   */
  function load(hi: number, lo: number, bits: Float64Array): typeof ALL | typeof SOME | typeof NONE {
    const start = lo & (pageBytes - 1);
    // Counters that cross a page, or that a corrupt pointer does not align, are read in another way.
    if (!isPossible || (start & 7) !== 0 || start > lastStart) return cleared(bits);
    if (((lo - start) | 1) !== pageLo || hi !== pageHi) setPage(hi, (lo - start) | 0);
    const page = shared;
    if (page === undefined) return loadApart(start >> 3, bits);
    const word = start >> 3;
    let counts = 0;
    let runTimes = 0;
    let missed = 0;
    let magnitudes = 0;
    // Two CPUs at a time, because each addition depends on the previous one of its sum.
    let index = cpuCount & 1;
    if (index === 1) {
      const at = (starts[0]! + word) | 0;
      counts = page[(at + countWord) | 0]!;
      runTimes = page[(at + runTimeWord) | 0]!;
      missed = page[(at + missesWord) | 0]!;
      magnitudes = Math.abs(counts) + Math.abs(runTimes) + Math.abs(missed);
    }
    for (; index < cpuCount; index += 2) {
      const at = (starts[index]! + word) | 0;
      const a = page[(at + countWord) | 0]!;
      const b = page[(at + runTimeWord) | 0]!;
      const c = page[(at + missesWord) | 0]!;
      const next = (starts[index + 1]! + word) | 0;
      const d = page[(next + countWord) | 0]!;
      const e = page[(next + runTimeWord) | 0]!;
      const f = page[(next + missesWord) | 0]!;
      counts += a + d;
      runTimes += b + e;
      missed += c + f;
      magnitudes += Math.abs(a) + Math.abs(d) + (Math.abs(b) + Math.abs(e)) + (Math.abs(c) + Math.abs(f));
    }
    bits[COUNT] = counts;
    bits[RUN_TIME] = runTimes;
    bits[MISSES] = missed;
    return magnitudes < LINEAR_END && magnitudes === counts + runTimes + missed ? ALL : cleared(bits);
  }

  /** Like `load`, if CPUs' copies of the page are missing or in different windows. */
  function loadApart(word: number, bits: Float64Array): typeof ALL | typeof SOME | typeof NONE {
    let magnitudes = 0;
    let answer: typeof ALL | typeof SOME = ALL;
    bits.fill(0);
    for (let index = 0; index < cpuCount; index++) {
      const first = starts[index]!;
      if (first < 0) {
        answer = SOME;
        continue;
      }
      const page = doubles[index]!;
      const a = page[first + word + countWord]!;
      const b = page[first + word + runTimeWord]!;
      const c = page[first + word + missesWord]!;
      bits[COUNT]! += a;
      bits[RUN_TIME]! += b;
      bits[MISSES]! += c;
      magnitudes += Math.abs(a) + Math.abs(b) + Math.abs(c);
    }
    const isExact = magnitudes < LINEAR_END && magnitudes === bits[COUNT]! + bits[RUN_TIME]! + bits[MISSES]!;
    return isExact ? answer : cleared(bits);
  }

  function cleared(bits: Float64Array): typeof NONE {
    bits.fill(0);
    return NONE;
  }

  /** Sets `starts`, `doubles` and `shared` to those of the page at per-CPU address `hi:lo`. */
  function setPage(hi: number, lo: number): void {
    pageHi = hi;
    pageLo = lo | 1;
    addEach(copies, hi, lo, offsetHi, offsetLo);
    memory.locateEach(copies, cpuCount, 0, pageBytes);
    let common: Float64Array | undefined;
    let isCommon = true;
    for (let index = 0; index < cpuCount; index++) {
      const window = windows[copies.index[index]!]!;
      const at = copies.at[index]!;
      if (at < 0 || ((window.offset + at) & 7) !== 0) locateOne(hi, lo, index);
      else {
        starts[index] = (window.start + ((window.offset + at) >>> 3)) | 0;
        doubles[index] = window.doubles;
      }
      common ??= doubles[index];
      isCommon &&= starts[index]! >= 0 && doubles[index] === common;
    }
    shared = isCommon ? common : undefined;
  }

  /** The same for one CPU whose copy `locateEach` did not find. */
  function locateOne(hi: number, lo: number, index: number): void {
    const at = memory.locateSum(hi, lo, offsetHi[index]!, offsetLo[index]!, 0, pageBytes);
    // Data that `locate` joined from pieces is in a temporary buffer, not in the image.
    const image = at < 0 ? undefined : images.get(memory.bytes.buffer);
    const byte = memory.bytes.byteOffset + at;
    const isUsable = image !== undefined && byte % 8 === 0;
    doubles[index] = isUsable ? image : NO_DOUBLES;
    starts[index] = isUsable ? byte / 8 : -1;
  }

  return { starts, load };
}
