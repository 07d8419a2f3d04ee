/** Detects cycles in linked lists. */
import type { GuestMemory } from "../../memory/memory.ts";

/** Steps left for cycle detection in a walk: limits the time for many buckets that share a long chain. */
export interface StepBudget {
  left: number;
}

/**
 * Counts the different nodes of a chain: Infinity if it ends or leaves the image (which the walker detects), the exact number if
 * it is a cycle (Brent's algorithm), or 0 if the budget is spent. `nextAt` is the offset of the next pointer in a node. An odd
 * word (a nulls marker) or NULL ends the chain.
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

/** Returns the number of nodes before a cycle of `length` nodes. The chain must have such a cycle. */
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

  /** Returns false at the end of the chain. */
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
