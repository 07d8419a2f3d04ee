/** Creates the virtual memory of an image, in the class for mapped or for observed pages. */
import type { PageObserver } from "../image/observed.ts";
import type { PhysicalMemory } from "../image/physical.ts";
import { GuestMemory } from "../memory/memory.ts";
import type { PageTables } from "../memory/mmu.ts";

/** `observer` is called before pages are read, if they are read on demand or recorded. */
export function memoryOf(
  { physical, tables }: { readonly physical: PhysicalMemory; readonly tables: PageTables },
  observer: PageObserver | undefined,
): GuestMemory {
  if (observer === undefined) return new GuestMemory(physical, tables);
  const { ObservedMemory } = require("../memory/observed.ts") as typeof import("../memory/observed.ts");
  return new ObservedMemory(physical, tables, observer);
}
