/** Virtual memory over an image, in the class that its pages need. */
import type { PageObserver } from "../image/observed.ts";
import type { PhysicalMemory } from "../image/physical.ts";
import { GuestMemory } from "../memory/memory.ts";
import type { PageTables } from "../memory/mmu.ts";

/** `observer` is told before pages are read: where they come on demand, and where they are recorded. */
export function memoryOf(
  { physical, tables }: { readonly physical: PhysicalMemory; readonly tables: PageTables },
  observer: PageObserver | undefined,
): GuestMemory {
  if (observer === undefined) return new GuestMemory(physical, tables);
  const { ObservedMemory } = require("../memory/observed.ts") as typeof import("../memory/observed.ts");
  return new ObservedMemory(physical, tables, observer);
}
