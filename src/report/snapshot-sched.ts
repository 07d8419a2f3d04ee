/** sched_ext's part of a snapshot. */
import type { Reader } from "./snapshot.ts";

export interface SnapshotSched {
  readonly ops: string;
  /** "root", or the name of a sub-scheduler: "sub1-123". */
  readonly place: string;
  readonly queues: readonly SnapshotQueue[];
  readonly events: ReadonlyMap<string, bigint>;
}

export interface SnapshotQueue {
  /** Id in hexadecimal. */
  readonly id: string;
  readonly name: string | undefined;
  readonly kind: string;
  readonly cpu: number | undefined;
  readonly length: number;
}

/** Returns an empty list for a report of a running kernel or of an older ktstr, which do not have this part. */
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
      // Queues of an ejected scheduler come from a dump, which has no lengths.
      length: queue.has("length") ? queue.integer("length") : 0,
    })),
    events: new Map(eventsOf(sched.child("events"))),
  }));
}

/** Yields counters. They are signed in the kernel, and may be negative in damaged memory. */
function* eventsOf(events: Reader): Generator<readonly [string, bigint]> {
  for (const name of events.names) {
    const count = events.raw(name);
    if (typeof count === "bigint" || Number.isSafeInteger(count)) yield [name, BigInt(count as number)];
  }
}
