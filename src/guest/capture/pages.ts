/** Records which pages of a machine's memory are read. */
import type { PageObserver } from "../image/observed.ts";

/** Page size of a capture on every machine: if the machine's pages are larger, only the parts that were read are captured. */
export const CAPTURE_PAGE_BYTES = 4096;

/** `length` bytes of consecutive memory from a physical address. */
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

  /** Records every page that `length` bytes at a physical address overlap. */
  note(physical: number, length: number): true {
    const first = Math.floor(physical / CAPTURE_PAGE_BYTES);
    const last = Math.floor((physical + Math.max(length, 1) - 1) / CAPTURE_PAGE_BYTES);
    if (first === last && first === this.#last) return true;
    for (let page = first; page <= last; page++) this.#pages.add(page);
    this.#last = last;
    return true;
  }

  /** Returns the pages by ascending address. Adjacent pages are joined into runs of at most `maxBytes`. */
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
