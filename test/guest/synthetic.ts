/**
 * Machines in states that no kernel produces on demand: physical memory with real page tables, built by hand. Addresses are
 * bigints here; the code under test sees only the bytes.
 */

import { PhysicalMemory, windowOf } from "../../src/guest/image/physical.ts";
import { GuestMemory } from "../../src/guest/memory/memory.ts";
import { PageTables, type PagingMode, x86Paging } from "../../src/guest/memory/mmu.ts";
import { fromBigInt } from "../../src/guest/memory/pointer.ts";

export interface SyntheticOptions {
  readonly mode?: PagingMode;
  readonly sizeBytes?: number;
  /** Guest physical address of the first byte. */
  readonly physicalBase?: number;
  /** Start of the direct map, which is one linear run without page tables. */
  readonly directBase?: bigint;
  /** Bits that are set in every entry of the page tables, such as AMD's encryption bit. */
  readonly entryBits?: bigint | undefined;
  /** Zeroed bytes in which the memory is built, such as a mapped file. Their number is the size of the memory. */
  readonly bytes?: Uint8Array<ArrayBuffer> | undefined;
}

const X86_TABLE = 0x63n;
const X86_LEAF = 0x80n;
const ARM64_TABLE = 0b11n;
const ARM64_PAGE = 0x403n;
const ARM64_BLOCK = 0x401n;

export class Synthetic {
  readonly mode: PagingMode;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  readonly physicalBase: number;
  readonly directBase: bigint;
  readonly root: number;
  readonly #entryBits: bigint;
  #next: number;

  constructor(options: SyntheticOptions = {}) {
    this.mode = options.mode ?? x86Paging(4);
    this.physicalBase = options.physicalBase ?? 0;
    this.#entryBits = options.entryBits ?? 0n;
    this.directBase = options.directBase ?? 0xffff_8880_0000_0000n;
    this.bytes = options.bytes ?? new Uint8Array(options.sizeBytes ?? 4 << 20);
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
    this.#next = this.physicalBase + this.pageBytes;
    this.root = this.allocate(this.pageBytes, this.pageBytes);
  }

  get pageBytes(): number {
    return 2 ** this.mode.pageShift;
  }

  /** Allocates zeroed physical memory. */
  allocate(size: number, align = 8): number {
    const at = Math.ceil(this.#next / align) * align;
    this.#next = at + size;
    if (this.#next > this.physicalBase + this.bytes.length) throw new Error("the synthetic machine is full");
    return at;
  }

  /** Returns the direct-map address of a physical address. */
  direct(physical: number): bigint {
    return this.directBase + BigInt(physical - this.physicalBase);
  }

  writeU32(physical: number, value: number): void {
    this.view.setUint32(physical - this.physicalBase, value, true);
  }

  writeU64(physical: number, value: bigint): void {
    this.view.setBigUint64(physical - this.physicalBase, BigInt.asUintN(64, value), true);
  }

  readU64(physical: number): bigint {
    return this.view.getBigUint64(physical - this.physicalBase, true);
  }

  write(physical: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, physical - this.physicalBase);
  }

  /** Returns the physical address of the entry of `level` that translates an address; allocates the tables above it. */
  entry(address: bigint, level: string): number {
    let table = this.root;
    for (const { name, shift, bits } of this.mode.levels) {
      const index = Number((address >> BigInt(shift)) & ((1n << BigInt(bits)) - 1n));
      const at = table + index * 8;
      if (name === level) return at;
      if (this.readU64(at) === 0n) {
        const below = BigInt(this.allocate(this.pageBytes, this.pageBytes));
        this.writeU64(at, this.#encode(below) | (this.#x86 ? X86_TABLE : ARM64_TABLE));
      }
      table = Number(this.#decode(this.readU64(at)));
    }
    throw new Error(`${this.mode.name} has no ${level}`);
  }

  /** Maps the range of one entry of `level`. */
  map(address: bigint, physical: number, level = "PTE"): void {
    const isLast = level === "PTE";
    const kind = this.#x86 ? X86_TABLE | (isLast ? 0n : X86_LEAF) : isLast ? ARM64_PAGE : ARM64_BLOCK;
    this.writeU64(this.entry(address, level), this.#encode(BigInt(physical)) | kind);
  }

  /** Clears the entry of `level` that translates an address. */
  unmap(address: bigint, level: string): void {
    this.writeU64(this.entry(address, level), 0n);
  }

  physicalMemory(): PhysicalMemory {
    return new PhysicalMemory([windowOf(this.physicalBase, this.bytes)]);
  }

  /** With `direct`, the direct map is known, as after discovery. Otherwise every address is translated by page tables. */
  memory(options: { direct?: boolean } = {}): GuestMemory {
    const physical = this.physicalMemory();
    const memory = new GuestMemory(physical, new PageTables(physical, this.mode, this.root));
    if (options.direct !== false)
      memory.addLinear(fromBigInt(this.directBase), this.physicalBase, this.bytes.length);
    return memory;
  }

  get #x86(): boolean {
    return this.mode.name.startsWith("x86");
  }

  /** Returns an address in the format of an arm64 entry: in some modes the bits above 47 (or 49) are in the low word. */
  #encode(physical: bigint): bigint {
    const { extraMask, extraShift, extraUnit } = this.mode;
    if (extraMask === 0) return physical | this.#entryBits;
    const high = (physical / BigInt(extraUnit)) & BigInt(extraMask);
    return (physical - high * BigInt(extraUnit)) | (high << BigInt(extraShift));
  }

  #decode(entry: bigint): bigint {
    const { extraMask, extraShift, extraUnit, addressMaskHi, addressMaskLo } = this.mode;
    const mask = ((BigInt(addressMaskHi) << 32n) | BigInt(addressMaskLo >>> 0)) & ~this.#entryBits;
    return (entry & mask) + ((entry >> BigInt(extraShift)) & BigInt(extraMask)) * BigInt(extraUnit);
  }
}
