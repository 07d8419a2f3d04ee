/**
 * Memory that calls an observer before pages are read. A capture records the pages; memory that is read on demand reads
 * them from its source. It is a subclass (memory/observed.ts has the one for virtual addresses), so that the hot paths of mapped
 * memory do not change: a process uses only one of the two classes, and the JIT compiles `locate` for that one.
 */
import { PhysicalMemory } from "./physical.ts";

export interface PageObserver {
  /**
   * Called before `length` bytes at a physical address are read. The windows hold all of them. Returns false if they
   * cannot be read; the reader then gets a fault.
   */
  note(physical: number, length: number): boolean;
}

/**
 * Observes reads by physical address: page tables, and the pages that they map.
 *
 * @public Loaded by image.ts and memory/observed.ts.
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
