/** Linked lists that may have been cut, or bent into rings. */
import type { GuestMemory } from "../../memory/memory.ts";

/** Steps that a walk may still spend on looking for rings: many buckets that share one long chain cannot make it slow. */
export interface StepBudget {
  left: number;
}

/**
 * How many different nodes a chain has from its head on: Infinity where it ends, or leads out of the image, both of
 * which its walker will see; a ring's exact count, by Brent's algorithm, so that each of its nodes is seen once.
 * `nextAt`: where a node points to the next; an odd word (a nulls marker) or NULL ends the chain. Where the budget is
 * spent, 0.
 */
export function countNodes(
  memory: GuestMemory,
  hi: number,
  lo: number,
  nextAt: number,
  budget: StepBudget,
): number {
  const hare = new Runner(memory, hi, lo, nextAt);
  let markHi = hi;
  let markLo = lo;
  let power = 1;
  let length = 0;
  while (budget.left-- > 0) {
    if (!hare.step()) return Number.POSITIVE_INFINITY;
    length++;
    if (hare.isAt(markHi, markLo)) return tailLength(memory, hi, lo, nextAt, length) + length;
    if (length === power) {
      power *= 2;
      length = 0;
      markHi = hare.hi;
      markLo = hare.lo;
    }
  }
  return 0;
}

/** Nodes in front of a ring of `length` nodes: of a frozen chain that was found to be one, so this ends. */
function tailLength(memory: GuestMemory, hi: number, lo: number, nextAt: number, length: number): number {
  const ahead = new Runner(memory, hi, lo, nextAt);
  const behind = new Runner(memory, hi, lo, nextAt);
  for (let n = 0; n < length; n++) ahead.step();
  let count = 0;
  while (!ahead.isAt(behind.hi, behind.lo)) {
    ahead.step();
    behind.step();
    count++;
  }
  return count;
}

class Runner {
  hi: number;
  lo: number;
  readonly #memory: GuestMemory;
  readonly #nextAt: number;

  constructor(memory: GuestMemory, hi: number, lo: number, nextAt: number) {
    this.#memory = memory;
    this.hi = hi;
    this.lo = lo;
    this.#nextAt = nextAt;
  }

  /** False if the chain ends. */
  step(): boolean {
    const at = this.#memory.locate(this.hi, this.lo, this.#nextAt, 8);
    if (at < 0) return false;
    this.lo = this.#memory.view.getInt32(at, true);
    this.hi = this.#memory.view.getInt32(at + 4, true);
    return (this.lo & 1) === 0 && (this.lo | this.hi) !== 0;
  }

  isAt(hi: number, lo: number): boolean {
    return this.lo === lo && this.hi === hi;
  }
}
