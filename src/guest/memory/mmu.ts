/**
 * Walks page tables. A paging mode is a table that describes how an address is split and how an entry is decoded. x86-64:
 * Intel SDM vol. 3A, 4.5; arm64: Arm ARM D8.3, and arch/arm64/include/asm/pgtable-hwdef.h.
 */
import type { PhysicalMemory } from "../image/physical.ts";

/** One level of tables: the `bits` bits of the address from `shift` are the index. */
export interface Level {
  /** The kernel's name: "PGD", "P4D", "PUD", "PMD", "PTE". */
  readonly name: string;
  readonly shift: number;
  readonly bits: number;
}

export interface PagingMode {
  /** Name for messages: "x86-64, 5 levels". */
  readonly name: string;
  readonly pageShift: number;
  /** Number of translated address bits. All higher bits are one in the kernel's half. */
  readonly addressBits: number;
  /** The lowest bit that is always one in a kernel address. */
  readonly canonicalBit: number;
  /** Whether the top byte of an address is ignored (arm64's TBI). */
  readonly topByteIgnored: boolean;
  /** The top table is first. */
  readonly levels: readonly Level[];
  /** An entry above the last level is a leaf if `(low word & leafMask) === leafValue`. */
  readonly leafMask: number;
  readonly leafValue: number;
  /** The same for an entry of the last level, which is then a present page. */
  readonly pageMask: number;
  readonly pageValue: number;
  /** Bits of an entry's words that hold the physical address. */
  readonly addressMaskHi: number;
  readonly addressMaskLo: number;
  /** Higher address bits stored in the low word: `(lo >> extraShift & extraMask) * extraUnit`. */
  readonly extraShift: number;
  readonly extraMask: number;
  readonly extraUnit: number;
}

/** The last level is first. */
const NAMES = ["PTE", "PMD", "PUD", "P4D"] as const;

function levelsOf(addressBits: number, pageShift: number): Level[] {
  const stride = pageShift - 3;
  const count = Math.ceil((addressBits - pageShift) / stride);
  return Array.from({ length: count }, (_, index) => {
    const fromBottom = count - 1 - index;
    const shift = pageShift + fromBottom * stride;
    return {
      name: index === 0 ? "PGD" : NAMES[fromBottom]!,
      shift,
      bits: Math.min(stride, addressBits - shift),
    };
  });
}

/**
 * x86-64 with 4 or 5 levels: bit 0 is present, bit 7 is PS (a leaf above the last level), bits 51:12 are the address. With
 * AMD's memory encryption, one of the address bits marks an encrypted page (`sme_me_mask`,
 * arch/x86/include/asm/mem_encrypt.h): `encryptionMask` is excluded from the address.
 */
export function x86Paging(levels: 4 | 5, encryptionMask = 0n): PagingMode {
  const addressBits = levels === 5 ? 57 : 48;
  return {
    name: `x86-64, ${levels} levels${encryptionMask === 0n ? "" : ", AMD memory encryption"}`,
    pageShift: 12,
    addressBits,
    canonicalBit: addressBits - 1,
    topByteIgnored: false,
    levels: levelsOf(addressBits, 12),
    leafMask: 0x80,
    leafValue: 0x80,
    pageMask: 1,
    pageValue: 1,
    addressMaskHi: 0x000f_ffff & ~Number(BigInt.asUintN(32, encryptionMask >> 32n)),
    addressMaskLo: 0xffff_f000 | 0,
    extraShift: 0,
    extraMask: 0,
    extraUnit: 0,
  };
}

/**
 * arm64's kernel half (TTBR1): `addressBits` is 64 - TCR_EL1.T1SZ. A descriptor ends in 0b11 (table, or a page on the last
 * level) or 0b01 (block). With 64K pages bits 15:12 hold address bits 51:48; with 4K and 16K pages and 52-bit addresses (LPA2,
 * TCR_EL1.DS) bits 9:8 hold bits 51:50. The contiguous bit does not affect translation.
 */
export function arm64Paging(pageShift: 12 | 14 | 16, addressBits: number): PagingMode {
  const lpa2 = pageShift !== 16 && addressBits > 48;
  const levels = levelsOf(addressBits, pageShift);
  return {
    name: `arm64, ${2 ** (pageShift - 10)}K pages, ${addressBits}-bit addresses, ${levels.length} levels`,
    pageShift,
    addressBits,
    canonicalBit: addressBits,
    topByteIgnored: true,
    levels,
    leafMask: 0b11,
    leafValue: 0b01,
    pageMask: 0b11,
    pageValue: 0b11,
    addressMaskHi: lpa2 ? 0x0003_ffff : 0x0000_ffff,
    addressMaskLo: -(2 ** pageShift),
    extraShift: pageShift === 16 ? 12 : 8,
    extraMask: pageShift === 16 ? 0b1111 : lpa2 ? 0b11 : 0,
    extraUnit: pageShift === 16 ? 2 ** 48 : 2 ** 50,
  };
}

/** Results of `translate` if there is no physical address. */
const NOT_MAPPED = -1;
/** A table is not in the image: it is not known whether the address is mapped. */
export const TABLE_OUTSIDE = -2;
export const NOT_CANONICAL = -3;

/** The page tables of one root. */
export class PageTables {
  readonly mode: PagingMode;
  /** Physical address of the top table. */
  readonly root: number;
  readonly #memory: PhysicalMemory;
  readonly #canonicalMask: number;
  /** Set by `translate`: the level whose entry was the leaf, or ended the walk. */
  level = "";
  /** Set by `translate` at a leaf: the bits of the address inside it. */
  leafShift = 0;
  /** Set by `translate`: physical address of the last-level table with the page's entry, or -1 for a larger page. */
  table = -1;

  constructor(memory: PhysicalMemory, mode: PagingMode, root: number) {
    this.#memory = memory;
    this.mode = mode;
    this.root = root;
    this.#canonicalMask = mode.topByteIgnored
      ? maskFrom(mode.canonicalBit - 32) & 0x00ff_ffff
      : maskFrom(mode.canonicalBit - 32);
  }

  /** Returns the physical address of a kernel virtual address, or one of the negative results above. */
  translate(hi: number, lo: number): number {
    const { levels, leafMask, leafValue, pageMask, pageValue } = this.mode;
    this.level = "";
    this.table = -1;
    if ((hi & this.#canonicalMask) !== this.#canonicalMask) return NOT_CANONICAL;
    let table = this.root;
    const last = levels.length - 1;
    for (let depth = 0; depth <= last; depth++) {
      const { name, shift, bits } = levels[depth]!;
      this.level = name;
      const index =
        (shift >= 32 ? hi >>> (shift - 32) : (lo >>> shift) | (hi << (32 - shift))) & ((1 << bits) - 1);
      const at = this.#memory.locate(table + index * 8, 8);
      if (at < 0) return TABLE_OUTSIDE;
      const { view } = this.#memory.window;
      const entryLo = view.getInt32(at, true);
      const address = entryAddress(this.mode, view.getInt32(at + 4, true), entryLo);
      if ((entryLo & 1) === 0) return NOT_MAPPED;
      if (depth === last) {
        if ((entryLo & pageMask) !== pageValue) return NOT_MAPPED;
        this.table = table;
      } else if ((entryLo & leafMask) !== leafValue) {
        table = address;
        continue;
      }
      this.leafShift = shift;
      const size = 2 ** shift;
      return Math.floor(address / size) * size + lowBits(hi, lo, shift);
    }
    return NOT_MAPPED;
  }
}

/** Returns the physical address in an entry. `hi` and `lo` are the entry's words. */
export function entryAddress(mode: PagingMode, hi: number, lo: number): number {
  const { addressMaskHi, addressMaskLo, extraShift, extraMask, extraUnit } = mode;
  return (
    (hi & addressMaskHi) * 2 ** 32 +
    ((lo & addressMaskLo) >>> 0) +
    ((lo >>> extraShift) & extraMask) * extraUnit
  );
}

/** Returns a mask of the bits from `bit` to 31. */
function maskFrom(bit: number): number {
  return bit >= 32 ? 0 : -1 << bit;
}

/** Returns the low `count` bits of an address. */
function lowBits(hi: number, lo: number, count: number): number {
  if (count <= 32) return (lo & (count === 32 ? -1 : (1 << count) - 1)) >>> 0;
  return (hi & ((1 << (count - 32)) - 1)) * 2 ** 32 + (lo >>> 0);
}
