/** Looks up symbols of an ELF symbol table by name and by address. */
import { FormatError } from "../../errors.ts";
import { SYM } from "../../uapi/elf.ts";
import { viewOf } from "../../uapi/layout.ts";
import type { ElfFile, Section } from "../image/elf.ts";
import { distance, isBelow, type Pointer, pointer } from "../memory/pointer.ts";
import { HASH_BASE, hashBytes, type NearSymbol } from "./symbols.ts";

const SHN_UNDEF = 0;
const STT_SECTION = 3;
const STT_FILE = 4;
/** No kernel symbol is longer (KSYM_NAME_LEN). */
const MAX_NAME_BYTES = 512;

export class SymbolTable {
  readonly count: number;
  readonly #symbols: DataView;
  readonly #strings: Buffer;
  /** Hash per symbol; 0 if it has no name. */
  readonly #hashes: Uint32Array;

  private constructor(symbols: Uint8Array, strings: Uint8Array) {
    this.#symbols = viewOf(symbols);
    this.#strings = Buffer.from(strings.buffer, strings.byteOffset, strings.byteLength);
    this.count = Math.floor(symbols.length / SYM.size);
    this.#hashes = new Uint32Array(this.count);
    for (let index = 0; index < this.count; index++) this.#hashes[index] = this.#hashOf(index);
  }

  /** Reads a symbol table and its strings. Throws `FormatError`. */
  static read(elf: ElfFile, section: Section): SymbolTable {
    const strings = elf.sections[section.link];
    if (strings === undefined)
      throw new FormatError(
        elf.format,
        section.offset,
        `${section.name} refers to strings in section ${section.link}`,
      );
    return new SymbolTable(elf.contents(section), elf.contents(strings));
  }

  /** Returns the link address; the lowest if several symbols have this name. */
  address(name: string): Pointer | undefined {
    if (name === "") return undefined;
    const bytes = Buffer.from(name, "latin1");
    const hash = hashBytes(bytes, 0, bytes.length);
    let lowest: Pointer | undefined;
    for (let index = this.#hashes.indexOf(hash); index >= 0; index = this.#hashes.indexOf(hash, index + 1)) {
      if (!this.#isNamed(index, bytes)) continue;
      const found = this.#addressAt(index);
      if (lowest === undefined || isBelow(found, lowest)) lowest = found;
    }
    return lowest;
  }

  /** Returns the symbol at or before a link address; the first in the table of several at one address. */
  nearest(at: Pointer): NearSymbol | undefined {
    let best = -1;
    let bestAt: Pointer | undefined;
    for (let index = 0; index < this.count; index++) {
      if (this.#hashes[index] === 0) continue;
      const address = this.#addressAt(index);
      // Absolute symbols are below the kernel's half of the address space.
      if (address.hi >= 0 || isBelow(at, address)) continue;
      if (bestAt !== undefined && !isBelow(bestAt, address)) continue;
      best = index;
      bestAt = address;
    }
    return bestAt === undefined ? undefined : { name: this.#nameAt(best), offset: distance(bestAt, at) };
  }

  #addressAt(index: number): Pointer {
    const at = index * SYM.size + SYM.fields.value.offset;
    return pointer(this.#symbols.getInt32(at + 4, true), this.#symbols.getInt32(at, true));
  }

  #nameAt(index: number): string {
    const at = this.#symbols.getUint32(index * SYM.size, true);
    const end = this.#strings.indexOf(0, at);
    return this.#strings.toString("latin1", at, Math.min(end, at + MAX_NAME_BYTES));
  }

  #hashOf(index: number): number {
    const at = index * SYM.size;
    const kind = this.#symbols.getUint8(at + SYM.fields.info.offset) & 15;
    const section = this.#symbols.getUint16(at + SYM.fields.shndx.offset, true);
    if (section === SHN_UNDEF || kind === STT_SECTION || kind === STT_FILE) return 0;
    const strings = this.#strings;
    let from = this.#symbols.getUint32(at, true);
    const end = Math.min(from + MAX_NAME_BYTES, strings.length);
    let hash = 0;
    for (; from < end && strings[from] !== 0; from++)
      hash = (Math.imul(hash, HASH_BASE) + strings[from]! + 1) | 0;
    return hash >>> 0;
  }

  #isNamed(index: number, name: Buffer): boolean {
    const at = this.#symbols.getUint32(index * SYM.size, true);
    return this.#strings[at + name.length] === 0 && name.equals(this.#strings.subarray(at, at + name.length));
  }
}
