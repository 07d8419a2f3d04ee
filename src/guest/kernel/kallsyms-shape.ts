/**
 * Finds the tables of kallsyms by their form. Kernels before 6.0 do not have their addresses in VMCOREINFO, and memory may
 * have no VMCOREINFO. Their order (scripts/kallsyms.c, write_src), each aligned to 8 bytes (since 7.x to 4):
 *
 * - 5.10 to 6.1: offsets, relative_base, num_syms, names, markers, token_table, token_index
 * - 6.2, 6.3 and updates of 6.1: the same with seqs_of_names before token_table
 * - since 6.4: num_syms, names, markers, token_table, token_index, offsets, relative_base, seqs_of_names
 * - 7.x: the same without relative_base
 */
import type { MemoryImage } from "../image/image.ts";
import type { PhysicalMemory } from "../image/physical.ts";

/** Physical addresses. */
export interface KallsymsTables {
  readonly count: number;
  readonly countAt: number;
  readonly names: number;
  readonly tokens: number;
  readonly tokenIndex: number;
  readonly offsets: number;
  /** Address of `kallsyms_relative_base`; undefined if offsets are relative to their own address. */
  readonly base: number | undefined;
}

/** The tokens "0" to "9". Each character of a name is also a token, whose index is its code. */
const DIGITS = Buffer.from(`${[..."0123456789"].join("\0")}\0`, "latin1");
const FIRST_DIGIT = 0x30;
const TOKENS = 256;
const INDEX_BYTES = 2 * TOKENS;
/** A token has at least one character, and is at most as long as a name (KSYM_NAME_LEN). */
const MAX_TOKEN_BYTES = 512;
const MARK_EVERY = 256;
/** The shortest name takes two bytes, the longest that KSYM_NAME_LEN allows 514. */
const MIN_GROUP_BYTES = 2 * MARK_EVERY;
const MAX_GROUP_BYTES = 514 * MARK_EVERY;
/** Limit as in kallsyms.ts: a kernel has about 200,000 symbols. */
const MAX_SYMBOLS = 2 ** 22;
/** Limit on candidates. Some other data contains the digits too (character tables, other programs' tokens). */
const MAX_HITS = 4096;
const SLICE_BYTES = 2 ** 20;
/** Limit on reads: a kernel's tables need about 600,000. Hostile memory can have thousands of similar tables. */
const MAX_READS = 40_000_000;

/** Visits the places in an image's data that have the ten digits as tokens. Stops if `visit` returns true. */
export function searchDigits(
  image: MemoryImage,
  visit: (physical: number) => boolean,
  onProgress?: (done: number, total: number) => void,
): void {
  let hits = 0;
  const offer = (at: number): boolean => ++hits > MAX_HITS || visit(at);
  let tail = Buffer.alloc(0);
  let tailEnd = -1;
  image.search((view, at) => {
    const bytes = Buffer.from(view.buffer, view.byteOffset, view.byteLength);
    // The part of a match in the previous view and the part in this one.
    if (tailEnd === at) {
      const joint = Buffer.concat([tail, bytes.subarray(0, DIGITS.length - 1)]).indexOf(DIGITS);
      if (joint >= 0 && offer(at - tail.length + joint)) return true;
    }
    for (const found of digitsIn(bytes)) if (offer(at + found)) return true;
    tail = Buffer.from(bytes.subarray(-(DIGITS.length - 1)));
    tailEnd = at + bytes.length;
    return false;
  }, onProgress);
}

function* digitsIn(bytes: Buffer): Generator<number> {
  for (let at = bytes.indexOf(DIGITS); at >= 0; at = bytes.indexOf(DIGITS, at + 1)) yield at;
}

/** Yields the tables between two physical addresses. */
export function* tablesBetween(memory: PhysicalMemory, from: number, to: number): Generator<KallsymsTables> {
  const shape = new KallsymsShape(memory);
  let hits = 0;
  for (const window of memory.windows) {
    const start = Math.max(from, window.physical);
    const end = Math.min(to, window.end);
    for (let at = start; at < end; at += SLICE_BYTES) {
      const length = Math.min(SLICE_BYTES + DIGITS.length, end - at);
      // Locating the whole range makes pages that are read on demand available.
      const offset = memory.locate(at, length);
      if (offset < 0) continue;
      const bytes = memory.window.bytes.subarray(offset, offset + length);
      for (const found of digitsIn(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))) {
        if (++hits > MAX_HITS) return;
        const tables = shape.tables(at + found);
        if (tables !== undefined) yield tables;
      }
    }
  }
}

/** Recognizes tables by their form, with a limit on the total number of reads. */
export class KallsymsShape {
  readonly #memory: PhysicalMemory;
  #reads = 0;

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
  }

  /** Returns the tables whose tokens include the digits at a physical address; undefined if they are not kallsyms. */
  tables(digits: number): KallsymsTables | undefined {
    const found = this.#tokens(digits);
    if (found === undefined) return undefined;
    const { tokens, tokenIndex } = found;
    const { countAt, count, names } = this.#names(tokens) ?? { countAt: 0, count: 0, names: 0 };
    if (count === 0) return undefined;
    const common = { count, countAt, names, tokens, tokenIndex };
    const before = this.#offsetsBefore(countAt, count);
    if (before !== undefined) return { ...common, ...before };
    const after = this.#offsetsFrom(tokenIndex + INDEX_BYTES, count);
    return after === undefined ? undefined : { ...common, ...after };
  }

  /** Returns the offset in the window of `length` bytes, or -1 if they are not in the image. The reads below return -1 too. */
  #locate(at: number, length: number): number {
    return ++this.#reads > MAX_READS ? -1 : this.#memory.locate(at, length);
  }

  #u8(at: number): number {
    const offset = this.#locate(at, 1);
    return offset < 0 ? -1 : this.#memory.window.bytes[offset]!;
  }

  #u16(at: number): number {
    const offset = this.#locate(at, 2);
    return offset < 0 ? -1 : this.#memory.window.view.getUint16(offset, true);
  }

  #u32(at: number): number {
    const offset = this.#locate(at, 4);
    return offset < 0 ? -1 : this.#memory.window.view.getUint32(offset, true);
  }

  /** Finds the end of token_table, which has 198 tokens after "9". token_index has the offset of each token. */
  #tokens(digits: number): { readonly tokens: number; readonly tokenIndex: number } | undefined {
    let end = digits;
    for (let token = FIRST_DIGIT; token < TOKENS; token++) {
      end = this.#stringEnd(end);
      if (end < 0) return undefined;
    }
    for (const alignment of [8, 4]) {
      const tokenIndex = roundUp(end, alignment);
      const tokens = digits - this.#u16(tokenIndex + 2 * FIRST_DIGIT);
      if (this.#isIndex(tokens, tokenIndex)) return { tokens, tokenIndex };
    }
    return undefined;
  }

  /** Returns the address after the NUL; -1 if there is none within the limit. */
  #stringEnd(at: number): number {
    for (let length = 0; length < MAX_TOKEN_BYTES; length++) {
      const byte = this.#u8(at + length);
      if (byte < 0) return -1;
      if (byte === 0) return at + length + 1;
    }
    return -1;
  }

  #isIndex(tokens: number, tokenIndex: number): boolean {
    if (tokens % 4 !== 0 || this.#u16(tokenIndex) !== 0) return false;
    for (let token = 1; token < TOKENS; token++) {
      const start = this.#u16(tokenIndex + 2 * token);
      if (start <= this.#u16(tokenIndex + 2 * token - 2) || this.#u8(tokens + start - 1) !== 0) return false;
    }
    return true;
  }

  /**
   * Searches backwards from the tokens: `seqs_of_names` if the kernel has it, the markers, which start with 0 and ascend, the
   * names, whose size the markers give, and the number of symbols.
   */
  #names(tokens: number): Pick<KallsymsTables, "count" | "countAt" | "names"> | undefined {
    const last = tokens - 3 * MAX_SYMBOLS - 8;
    for (let markers = tokens - 4; markers >= last; markers -= 4) {
      const mark = this.#u32(markers);
      if (mark < 0) return undefined;
      if (mark !== 0 || !this.#isStep(0, this.#u32(markers + 4))) continue;
      const found = this.#namesBefore(markers, this.#marksFrom(markers, tokens), tokens);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #isStep(from: number, to: number): boolean {
    return to - from >= MIN_GROUP_BYTES && to - from <= MAX_GROUP_BYTES;
  }

  /** Returns how many markers ascend from the address `markers`. */
  #marksFrom(markers: number, end: number): number {
    let groups = 1;
    while (
      markers + 4 * groups + 4 <= end &&
      groups * MARK_EVERY < MAX_SYMBOLS &&
      this.#isStep(this.#u32(markers + 4 * groups - 4), this.#u32(markers + 4 * groups))
    )
      groups++;
    return groups;
  }

  /**
   * Finds the count, which is up to one group of names before the place that the last marker gives. The bytes after the
   * markers may look like another marker.
   */
  #namesBefore(
    markers: number,
    most: number,
    tokens: number,
  ): Pick<KallsymsTables, "count" | "countAt" | "names"> | undefined {
    for (let groups = most; groups > Math.max(1, most - 3) && this.#reads < MAX_READS; groups--) {
      const lastMark = this.#u32(markers + 4 * groups - 4);
      const first = markers - lastMark - MAX_GROUP_BYTES;
      for (let names = roundDown(markers - lastMark, 4); names >= first; names -= 4) {
        for (const countAt of [names - 4, names - 8]) {
          const count = this.#u32(countAt);
          if (count <= 0 || count > MAX_SYMBOLS || Math.ceil(count / MARK_EVERY) !== groups) continue;
          if (!this.#isPlausibleGap(markers + 4 * groups, count, tokens)) continue;
          if (this.#areNames(names, count, markers, groups)) return { count, countAt, names };
        }
      }
    }
    return undefined;
  }

  /** Between markers and tokens there is either nothing, or three bytes per symbol. */
  #isPlausibleGap(end: number, count: number, tokens: number): boolean {
    const gap = tokens - end;
    return (gap >= 0 && gap < 8) || (gap >= 3 * count && gap < 3 * count + 16);
  }

  /** Checks that the first group of names ends at the second marker, and the last one before the markers. */
  #areNames(names: number, count: number, markers: number, groups: number): boolean {
    if (this.#skipNames(names, MARK_EVERY) !== names + this.#u32(markers + 4)) return false;
    const lastGroup = names + this.#u32(markers + 4 * groups - 4);
    const end = this.#skipNames(lastGroup, count - MARK_EVERY * (groups - 1));
    return end <= markers && markers - end < 8;
  }

  /** Since 6.1 a length of 128 or more has two bytes, the lower seven bits first. Before, lengths were shorter. */
  #skipNames(at: number, count: number): number {
    for (let index = 0; index < count; index++) {
      const length = this.#u8(at);
      if (length <= 0) return -1;
      at += length < 0x80 ? 1 + length : 2 + ((length & 0x7f) | (this.#u8(at + 1) << 7));
    }
    return at;
  }

  /** Until 6.3 `kallsyms_offsets` and `kallsyms_relative_base` precede the count. */
  #offsetsBefore(countAt: number, count: number): Pick<KallsymsTables, "offsets" | "base"> | undefined {
    const base = countAt - 8;
    if (!this.#isKernelAddress(base)) return undefined;
    const offsets = roundDown(base - 4 * count, 8);
    return this.#areOffsets(offsets, count) ? { offsets, base } : undefined;
  }

  #offsetsFrom(offsets: number, count: number): Pick<KallsymsTables, "offsets" | "base"> | undefined {
    if (!this.#areOffsets(offsets, count)) return undefined;
    const base = roundUp(offsets + 4 * count, 8);
    return { offsets, base: this.#isKernelAddress(base) ? base : undefined };
  }

  #isKernelAddress(at: number): boolean {
    return at % 8 === 0 && this.#u32(at + 4) >= 0xffff_0000;
  }

  /** Checks that the addresses ascend by one of the rules of kallsyms.ts: symbols are sorted by address. */
  #areOffsets(offsets: number, count: number): boolean {
    if (this.#u32(offsets + 4 * count - 4) < 0) return false;
    const isRising = (addressOf: (offset: number, index: number) => number): boolean => {
      let before = -1;
      for (let index = 0; index < count; index++) {
        const address = addressOf(this.#u32(offsets + 4 * index), index);
        if (address < before) return false;
        before = address;
      }
      return true;
    };
    return (
      isRising((offset) => offset) ||
      // Absolute per-CPU symbols come first, then the others, whose offsets are negative.
      isRising((offset) => (offset < 2 ** 31 ? offset : 2 ** 33 - offset)) ||
      isRising((offset, index) => 2 ** 32 + (offset | 0) + 4 * index)
    );
  }
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

function roundDown(value: number, unit: number): number {
  return Math.floor(value / unit) * unit;
}
