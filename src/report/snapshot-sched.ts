/** What a comparison reads of sched_ext in a report. */
import type { Reader } from "./snapshot.ts";

export interface SnapshotSched {
  readonly ops: string;
  /** "root", or "sub1-123". */
  readonly place: string;
  readonly queues: readonly SnapshotQueue[];
  readonly events: ReadonlyMap<string, bigint>;
}

export interface SnapshotQueue {
  /** In hexadecimal. */
  readonly id: string;
  readonly name: string | undefined;
  readonly kind: string;
  readonly cpu: number | undefined;
  readonly length: number;
}

/** None: a report of a running kernel, or of a ktstr that did not write it. */
export function schedOf(root: Reader): SnapshotSched[] {
  if (!root.has("sched")) return [];
  return root.children("sched").map((sched) => ({
    ops: sched.text("ops"),
    place: sched.text("place"),
    queues: sched.children("queues").map((queue) => ({
      id: queue.text("id"),
      name: queue.has("name") ? queue.text("name") : undefined,
      kind: queue.text("kind"),
      cpu: queue.has("cpu") ? queue.integer("cpu") : undefined,
      // Of an ejected scheduler the queues are those of a dump, which tells no length.
      length: queue.has("length") ? queue.integer("length") : 0,
    })),
    events: new Map(eventsOf(sched.child("events"))),
  }));
}

/** Counters are signed in the kernel: of torn memory one may be negative. */
function* eventsOf(events: Reader): Generator<readonly [string, bigint]> {
  for (const name of events.names) {
    const count = events.raw(name);
    if (typeof count === "bigint" || Number.isSafeInteger(count)) yield [name, BigInt(count as number)];
  }
}
