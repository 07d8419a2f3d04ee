/**
 * A kernel's memory and symbols that note what is asked of them. They are classes of their own, so that a kernel
 * which nobody captures pays nothing for them.
 */

import { PhysicalMemory } from "../image/physical.ts";
import type { NearSymbol, Symbols } from "../kernel/symbols.ts";
import type { AddressBatch } from "../memory/address-batch.ts";
import { GuestMemory, LOCATE_MAX_BYTES } from "../memory/memory.ts";
import type { PageTables } from "../memory/mmu.ts";
import { add, hex, type Pointer } from "../memory/pointer.ts";
import { TouchedPages } from "./pages.ts";

export class Recorder {
  readonly pages: TouchedPages = new TouchedPages();
  readonly addresses: Map<string, Pointer | undefined> = new Map();
  readonly nearest: Map<string, NearSymbol | undefined> = new Map();

  physical(of: PhysicalMemory): PhysicalMemory {
    return new RecordingPhysical(of, this.pages);
  }

  memory(physical: PhysicalMemory, tables: PageTables): GuestMemory {
    return new RecordingMemory(physical, tables, this.pages);
  }

  symbols(of: Symbols): Symbols {
    return {
      source: of.source,
      count: of.count,
      address: (name) => remember(this.addresses, name, () => of.address(name)),
      nearest: (at) => remember(this.nearest, hex(at.hi, at.lo), () => of.nearest(at)),
    };
  }
}

function remember<T>(known: Map<string, T>, key: string, find: () => T): T {
  const found = known.get(key) ?? find();
  known.set(key, found);
  return found;
}

/** Notes what is read by physical addresses: page tables, and pages that were found through them. */
class RecordingPhysical extends PhysicalMemory {
  readonly #pages: TouchedPages;

  constructor(of: PhysicalMemory, pages: TouchedPages) {
    super(of.windows, of.sizeBytes);
    this.#pages = pages;
  }

  override locate(physical: number, length: number): number {
    const at = super.locate(physical, length);
    if (at >= 0) this.#pages.note(physical, length);
    return at;
  }

  override copyOut(physical: number, into: Uint8Array): number {
    const got = super.copyOut(physical, into);
    if (got > 0) this.#pages.note(physical, got);
    return got;
  }
}

/**
 * Notes what is read by virtual addresses, up to the first page that has no answer: a reader of the capture is to fail
 * in the same place and for the same reason.
 */
class RecordingMemory extends GuestMemory {
  readonly #pages: TouchedPages;
  readonly #pageBytes: number;

  constructor(physical: PhysicalMemory, tables: PageTables, pages: TouchedPages) {
    super(physical, tables);
    this.#pages = pages;
    this.#pageBytes = 1 << tables.mode.pageShift;
  }

  override locate(hi: number, lo: number, offset: number, length: number): number {
    if (length >= 0 && length <= LOCATE_MAX_BYTES) this.#note(add({ hi, lo }, offset), length);
    return super.locate(hi, lo, offset, length);
  }

  override locateEach(batch: AddressBatch, count: number, offset: number, length: number): void {
    for (let n = 0; n < count; n++) this.#note(add({ hi: batch.hi[n]!, lo: batch.lo[n]! }, offset), length);
    super.locateEach(batch, count, offset, length);
  }

  override copyOut(hi: number, lo: number, offset: number, into: Uint8Array): number {
    this.#note(add({ hi, lo }, offset), into.length);
    return super.copyOut(hi, lo, offset, into);
  }

  #note(start: Pointer, length: number): void {
    let at = start;
    let left = Math.max(length, 1);
    while (left > 0) {
      const physical = this.translate(at.hi, at.lo);
      if (physical < 0 || this.physical.indexOf(physical) < 0) return;
      const size = Math.min(left, this.#pageBytes - (at.lo & (this.#pageBytes - 1)));
      this.#pages.note(physical, size);
      at = add(at, size);
      left -= size;
    }
  }
}
