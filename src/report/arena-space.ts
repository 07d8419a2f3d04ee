/** An arena's pages, addressed as programs and user space do. */
import type { ArenaPages, BpfState, MapInfo, Read } from "../state.ts";
import { MapType } from "../uapi/names.ts";

export class ArenaSpace {
  readonly map: MapInfo;
  /** Address of the first byte in user space. */
  readonly base: bigint;
  readonly size: number;
  readonly pageSize: number;
  readonly #pages: ReadonlyMap<number, Uint8Array>;

  private constructor(map: MapInfo, base: bigint, { pageSize, spanBytes, pages }: ArenaPages) {
    this.map = map;
    this.base = base;
    this.size = spanBytes;
    this.pageSize = pageSize;
    this.#pages = new Map(pages.map((page) => [page.index, page.bytes]));
  }

  /** Returns undefined if the address in user space is not known: the arena has neither `map_extra` nor pages. */
  static of(map: MapInfo, arena: ArenaPages): ArenaSpace | undefined {
    const [first] = arena.pages;
    const base =
      map.mapExtra !== 0n || first === undefined
        ? map.mapExtra
        : first.userAddress - BigInt(first.index * arena.pageSize);
    return base === 0n ? undefined : new ArenaSpace(map, base, arena);
  }

  /**
   * Returns the offset in the arena for an address, or undefined if the address is outside. `short`: also accept the low 32
   * bits alone, the form in which programs hold a pointer that they cast to the kernel's address space (kernel/bpf/arena.c).
   */
  offsetOf(address: bigint, short: boolean): number | undefined {
    let offset = address - this.base;
    if (short && address < 0x1_0000_0000n) offset = (address - (this.base & 0xffff_ffffn)) & 0xffff_ffffn;
    return offset >= 0n && offset < BigInt(this.size) ? Number(offset) : undefined;
  }

  /** Reads bytes, across pages if necessary. Returns undefined if a page is missing. */
  read(offset: number, length: number): Uint8Array | undefined {
    if (offset + length > this.size) return undefined;
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const page = this.#pages.get(Math.floor(at / this.pageSize));
      if (page === undefined) return undefined;
      const within = at % this.pageSize;
      const piece = page.subarray(within, Math.min(page.length, within + length - done));
      if (piece.length === 0) return undefined;
      bytes.set(piece, done);
      done += piece.length;
    }
    return bytes;
  }
}

/**
 * Returns the arenas of programs that use a map or have its BTF, and the map itself if it is an arena.
 *
 * @public Loaded by style.ts.
 */
export function arenasFor(state: BpfState, map: MapInfo): ArenaSpace[] {
  const arenas = state.maps().filter(({ type }) => type === MapType.arena);
  if (arenas.length === 0) return [];
  const used = new Set<number>();
  for (const { mapIds, btfId } of state.progs()) {
    if (!mapIds.includes(map.id) && (map.btfId === 0 || btfId !== map.btfId)) continue;
    for (const id of mapIds) used.add(id);
  }
  const spaces: ArenaSpace[] = [];
  for (const arena of arenas) {
    if (!used.has(arena.id) && arena.id !== map.id) continue;
    const pages: Read<ArenaPages> = state.arenaPages(arena);
    const space = pages.ok ? ArenaSpace.of(arena, pages.value) : undefined;
    if (space !== undefined) spaces.push(space);
  }
  return spaces;
}
