/**
 * Memory that tells somebody which pages are about to be read. A capture records them; a dump that is not mapped fills
 * them first. These are subclasses (memory/observed.ts has the one for virtual addresses), so that mapped memory keeps
 * its hot paths: a process makes either kind, and the engine compiles `locate` for the one that it sees.
 */
import { PhysicalMemory } from "./physical.ts";

export interface PageObserver {
  /**
   * Called before `length` bytes at a physical address are read; windows hold all of them. False: they cannot be
   * read, and the reader gets a fault.
   */
  note(physical: number, length: number): boolean;
}

/**
 * Tells of what is read by physical addresses: page tables, and pages that were found through them.
 *
 * @public Loaded by whoever needs it.
 */
export class ObservedPhysical extends PhysicalMemory {
  readonly #observer: PageObserver;

  constructor(of: PhysicalMemory, observer: PageObserver) {
    super(of.windows, of.sizeBytes);
    this.#observer = observer;
  }

  override locate(physical: number, length: number): number {
    const at = super.locate(physical, length);
    return at >= 0 && this.#observer.note(physical, length) ? at : -1;
  }

  override copyOut(physical: number, into: Uint8Array): number {
    let known = 0;
    while (known < into.length) {
      const window = this.windows[this.indexOf(physical + known)];
      if (window === undefined) break;
      const part = Math.min(window.end - physical - known, into.length - known);
      if (!this.#observer.note(physical + known, part)) break;
      known += part;
    }
    return super.copyOut(physical, into.subarray(0, known));
  }
}
