import type { WalkEnd } from "../../state.ts";

/** A walk that goes on for as long as something can be read has this many sentences to remember it by. */
const MAX_DETAILS = 8;

/** What a walk could not read: counted by reason, the first few kept word for word. */
export class WalkLog implements WalkEnd {
  readonly skipped: Map<string, number> = new Map();
  /** The first skips with all that is known ("read map_idr -> slots[3]: 0xffff... is not mapped"). */
  readonly details: string[] = [];
  stopped = "";

  get complete(): boolean {
    return this.stopped === "" && this.skipped.size === 0;
  }

  /** `reason`: the same words for the same kind of thing; they are counted. */
  skip(reason: string, detail: string): void {
    this.skipped.set(reason, (this.skipped.get(reason) ?? 0) + 1);
    if (this.details.length < MAX_DETAILS) this.details.push(detail);
  }

  /** The walk ends here, for a reason; the first one counts. */
  stop(reason: string): void {
    if (this.stopped === "") this.stopped = reason;
  }
}
