/**
 * Finds the kernel's page tables by checking candidates, for memory in which neither VMCOREINFO nor the kernel's variables
 * give their address or the KASLR offset. The physical addresses of the image are known, because its symbol table was
 * found. A candidate is accepted if it maps all of them with the same offset, which is then that of the image.
 */
import type { PhysicalMemory } from "../image/physical.ts";
import { entryAddress, PageTables, type PagingMode } from "../memory/mmu.ts";
import { fromBigInt } from "../memory/pointer.ts";

export interface FoundTables {
  readonly mode: PagingMode;
  /** Physical address of the top table. */
  readonly root: number;
  /** Difference between the virtual and the physical addresses of the kernel's image. */
  readonly imageOffset: bigint;
}

export interface ImagePlaces {
  /** Physical addresses inside the image: code, constants and data. The first one is searched for in the tables. */
  readonly physical: readonly number[];
  /** The image's virtual addresses begin here or above, depending on the mode. */
  readonly lowest: (mode: PagingMode) => bigint;
  /** Difference between virtual and physical addresses, if it is known. */
  readonly imageOffset: bigint | undefined;
  /** Start of the direct map, if it is known. Small tables that map only the image are used during boot. */
  readonly directBase: (mode: PagingMode) => bigint | undefined;
}

/** Visits physical addresses of pages until the visitor returns true. */
export type EachPage = (visit: (page: number) => boolean) => void;

/** Limit on entries that are read: 2^26 take about a second. A kernel of 1 GiB needs a million. */
const MAX_ENTRIES = 2 ** 26;
/** A kernel image is mapped once, besides the direct map. */
const MAX_ALIASES = 8;

/** Searches for the top table. `roots` are tried first in each mode, then every page. Undefined if none matches. */
export function searchPageTables(
  memory: PhysicalMemory,
  modes: readonly PagingMode[],
  places: ImagePlaces,
  roots: readonly number[],
  eachPage: EachPage,
): FoundTables | undefined {
  const check = new CandidateCheck(memory, places);
  let imageOnly: FoundTables | undefined;
  let whole: FoundTables | undefined;
  const visit = (mode: PagingMode, root: number): boolean => {
    const imageOffset = check.imageOffset(mode, root);
    if (imageOffset === undefined) return check.isOver;
    const found = { mode, root, imageOffset };
    if (check.mapsDirectly(mode, root)) whole = found;
    else imageOnly ??= found;
    return whole !== undefined;
  };
  for (const root of roots) for (const mode of modes) if (visit(mode, root)) return whole ?? imageOnly;
  for (const mode of modes) {
    eachPage((page) => visit(mode, page));
    if (whole !== undefined) return whole;
  }
  return imageOnly;
}

/**
 * Returns the difference between the direct map's virtual and physical addresses on arm64, where it is the lower half of
 * the kernel's addresses: `physical`, which is in the image, is searched for. Undefined if the half does not map it.
 */
export function searchDirectMap(
  memory: PhysicalMemory,
  { mode, root }: Pick<FoundTables, "mode" | "root">,
  physical: number,
): bigint | undefined {
  const half = (count: number): bigint => (1n << 64n) - (1n << BigInt(count));
  const places = {
    physical: [physical],
    lowest: () => half(mode.addressBits),
    imageOffset: undefined,
    directBase: () => undefined,
  };
  const offset = new CandidateCheck(memory, places).imageOffset(mode, root);
  return offset !== undefined && offset + BigInt(physical) < half(mode.addressBits - 1) ? offset : undefined;
}

class CandidateCheck {
  readonly #memory: PhysicalMemory;
  readonly #places: ImagePlaces;
  #entries = 0;

  constructor(memory: PhysicalMemory, places: ImagePlaces) {
    this.#memory = memory;
    this.#places = places;
  }

  /** Whether the limit on reads is reached. */
  get isOver(): boolean {
    return this.#entries > MAX_ENTRIES;
  }

  /** Returns the offset at which a top table maps the image; undefined if it does not map it. */
  imageOffset(mode: PagingMode, root: number): bigint | undefined {
    const { imageOffset, physical } = this.#places;
    if (imageOffset !== undefined) {
      this.#entries += mode.levels.length;
      return this.#mapsImage(mode, root, imageOffset) ? imageOffset : undefined;
    }
    return this.#aliases(mode, root, physical[0]!).find((offset) => this.#mapsImage(mode, root, offset));
  }

  #mapsImage(mode: PagingMode, root: number, offset: bigint): boolean {
    const tables = new PageTables(this.#memory, mode, root);
    return this.#places.physical.every(
      (at) => maps(tables, offset, at) && tables.leafShift <= largestShift(mode),
    );
  }

  /** Returns whether the table maps the image in the direct map too; true if the place of the direct map is not known. */
  mapsDirectly(mode: PagingMode, root: number): boolean {
    const base = this.#places.directBase(mode);
    return (
      base === undefined || maps(new PageTables(this.#memory, mode, root), base, this.#places.physical[0]!)
    );
  }

  /** Returns the offset (virtual minus physical) of each mapping of a physical address at or above `lowest`. */
  #aliases(mode: PagingMode, root: number, physical: number): bigint[] {
    const offsets: bigint[] = [];
    const lowest = this.#places.lowest(mode);
    const seen = new Set<number>();
    const last = mode.levels.length - 1;
    const visit = (table: number, start: bigint, depth: number): void => {
      // Tables can be shared, such as those of KASAN's shadow, and hostile ones can form a cycle.
      const key = table * 8 + depth;
      if (seen.has(key)) return;
      seen.add(key);
      const { shift, bits } = mode.levels[depth]!;
      const size = 2 ** shift;
      const before = lowest <= start ? 0 : Number((lowest - start) >> BigInt(shift));
      for (let index = before; index < 2 ** bits && offsets.length < MAX_ALIASES; index++) {
        if (++this.#entries > MAX_ENTRIES) return;
        const at = this.#memory.locate(table + 8 * index, 8);
        if (at < 0) return;
        const { view } = this.#memory.window;
        const lo = view.getInt32(at, true);
        if ((lo & 1) === 0) continue;
        const isPage = depth === last;
        if (isPage && (lo & mode.pageMask) !== mode.pageValue) continue;
        const address = entryAddress(mode, view.getInt32(at + 4, true), lo);
        const virtual = start + BigInt(index) * BigInt(size);
        if (!isPage && (lo & mode.leafMask) !== mode.leafValue) visit(address, virtual, depth + 1);
        else if (shift <= largestShift(mode)) {
          const first = Math.floor(address / size) * size;
          if (first <= physical && physical < first + size) offsets.push(virtual - BigInt(first));
        }
      }
    };
    visit(root, (1n << 64n) - (1n << BigInt(mode.addressBits)), 0);
    return offsets;
  }
}

/** The image is mapped by pages of the last two levels. A larger one in a candidate is some other data. */
function largestShift({ levels }: PagingMode): number {
  return levels[levels.length - 2]!.shift;
}

function maps(tables: PageTables, offset: bigint, physical: number): boolean {
  const { hi, lo } = fromBigInt(BigInt.asUintN(64, offset + BigInt(physical)));
  return tables.translate(hi, lo) === physical;
}
