/** Finds the mapped pages of an address range. */
import type { GuestMemory } from "../../memory/memory.ts";
import { add, type Pointer } from "../../memory/pointer.ts";

/**
 * Visits the mapped pages from `first` to `end`, as indexes relative to `start`, until `visit` returns false. If an entry of a
 * higher level is absent, the range that it covers is skipped.
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
