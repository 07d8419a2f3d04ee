/** Which pages of a range are mapped. */
import type { GuestMemory } from "../../memory/memory.ts";
import { add, type Pointer } from "../../memory/pointer.ts";

/**
 * Visits the pages from `first` up to `end` that the page tables map, counted from `start`, until `visit` answers false.
 * Where an entry of a higher level is absent, all that it would cover is stepped over.
 */
export function forEachPresentPage(
  { tables }: GuestMemory,
  start: Pointer,
  first: number,
  end: number,
  visit: (index: number, physical: number) => boolean,
): void {
  const { pageShift, levels } = tables.mode;
  const shifts = new Map(levels.map(({ name, shift }) => [name, shift]));
  for (let index = first; index < end; ) {
    const at = add(start, index * 2 ** pageShift);
    const physical = tables.translate(at.hi, at.lo);
    if (physical >= 0) {
      if (!visit(index, physical)) return;
      index++;
      continue;
    }
    const covered = 2 ** Math.min((shifts.get(tables.level) ?? pageShift) - pageShift, 31);
    const inside = ((at.lo >>> pageShift) | (at.hi << (32 - pageShift))) & (covered - 1);
    index += covered - inside;
  }
}
