/** Which pages of a machine's memory were read. */
import type { PageObserver } from "../image/observed.ts";

/** A capture's grain on every machine: also of larger pages only what was read goes in. */
export const CAPTURE_PAGE_BYTES = 4096;

/** `length` bytes of memory from a physical address on. */
export interface PageRun {
  readonly physical: number;
  readonly length: number;
}

export class TouchedPages implements PageObserver {
  readonly #pages: Set<number> = new Set();
  #last = -1;

  get count(): number {
    return this.#pages.size;
  }

  /** Notes every page that `length` bytes at a physical address lie in. */
  note(physical: number, length: number): true {
    const first = Math.floor(physical / CAPTURE_PAGE_BYTES);
    const last = Math.floor((physical + Math.max(length, 1) - 1) / CAPTURE_PAGE_BYTES);
    if (first === last && first === this.#last) return true;
    for (let page = first; page <= last; page++) this.#pages.add(page);
    this.#last = last;
    return true;
  }

  /** By ascending address; neighbours are one run of at most `maxBytes`. */
  runs(maxBytes: number): PageRun[] {
    const runs: { physical: number; length: number }[] = [];
    for (const page of Float64Array.from(this.#pages).sort()) {
      const physical = page * CAPTURE_PAGE_BYTES;
      const run = runs.at(-1);
      if (run !== undefined && run.physical + run.length === physical && run.length < maxBytes)
        run.length += CAPTURE_PAGE_BYTES;
      else runs.push({ physical, length: CAPTURE_PAGE_BYTES });
    }
    return runs;
  }
}
