/** Log of the parts of memory that a walk could not read. */
import type { WalkEnd } from "../../state.ts";

/** Limit on remembered sentences. */
const MAX_DETAILS = 8;

/** Counts, by reason, the parts that a walk could not read, and keeps the first messages. */
export class WalkLog implements WalkEnd {
  readonly skipped: Map<string, number> = new Map();
  /** The first messages in full ("read map_idr -> slots[3]: 0xffff... is not mapped"). */
  readonly details: string[] = [];
  stopped = "";

  get complete(): boolean {
    return this.stopped === "" && this.skipped.size === 0;
  }

  /** `reason` is the key for counting; it is the same for faults of the same kind. */
  skip(reason: string, detail: string): void {
    this.skipped.set(reason, (this.skipped.get(reason) ?? 0) + 1);
    if (this.details.length < MAX_DETAILS) this.details.push(detail);
  }

  /** Records why the walk ends. Only the first reason is kept. */
  stop(reason: string): void {
    if (this.stopped === "") this.stopped = reason;
  }
}
