/** Changes of sched_ext between two snapshots: event counters and lengths of dispatch queues. */
import type { SchedulerChange } from "./diff.ts";
import type { SnapshotQueue, SnapshotSched } from "./snapshot-sched.ts";

export interface SchedChanges {
  /** Counters that differ, and counters that only one side has (the other side's value is undefined). */
  readonly events: readonly ChangedEvent[];
  /** Queues whose length differs, sorted by descending growth. */
  readonly queues: readonly ChangedQueue[];
}

export interface ChangedEvent {
  /** "root", or the name of a sub-scheduler: "sub1-123". */
  readonly place: string;
  readonly name: string;
  readonly a: bigint | undefined;
  readonly b: bigint | undefined;
}

export interface ChangedQueue {
  readonly place: string;
  /** The queue in B, or in A if B does not have it. */
  readonly queue: SnapshotQueue;
  /** Length; undefined if the queue does not exist. Reports omit empty queues of CPUs. */
  readonly a: number | undefined;
  readonly b: number | undefined;
}

const none: SchedChanges = { events: [], queues: [] };

/** Returns no changes if the scheduler differs or was reloaded: counters then restart, and ids are those of other queues. */
export function schedChanges(
  { kind }: SchedulerChange,
  a: readonly SnapshotSched[],
  b: readonly SnapshotSched[],
): SchedChanges {
  if (kind !== "same") return none;
  const pairs = a.flatMap((before) => {
    const after = b.find(({ place }) => place === before.place);
    return after === undefined || after.ops !== before.ops ? [] : [[before, after] as const];
  });
  return {
    events: pairs.flatMap(([before, after]) => changedEvents(before, after)),
    queues: pairs
      .flatMap(([before, after]) => changedQueues(before, after))
      .sort((one, other) => grown(other) - grown(one)),
  };
}

const grown = ({ a, b }: ChangedQueue): number => (b ?? 0) - (a ?? 0);

function changedEvents(a: SnapshotSched, b: SnapshotSched): ChangedEvent[] {
  const names = new Set([...a.events.keys(), ...b.events.keys()]);
  return [...names]
    .map((name) => ({ place: b.place, name, a: a.events.get(name), b: b.events.get(name) }))
    .filter((event) => event.a !== event.b);
}

const keyOf = ({ id, kind, cpu }: SnapshotQueue): string => `${kind} ${id} ${cpu ?? ""}`;

function changedQueues(a: SnapshotSched, b: SnapshotSched): ChangedQueue[] {
  const before = new Map(a.queues.map((queue) => [keyOf(queue), queue]));
  const after = new Map(b.queues.map((queue) => [keyOf(queue), queue]));
  const keys = new Set([...before.keys(), ...after.keys()]);
  return [...keys]
    .map((key) => ({
      place: b.place,
      queue: (after.get(key) ?? before.get(key))!,
      a: before.get(key)?.length,
      b: after.get(key)?.length,
    }))
    .filter((queue) => (queue.a ?? 0) !== (queue.b ?? 0));
}
