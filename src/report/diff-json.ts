/** `diff --json`: ktstr's own schema, versioned. */
import type { Change } from "./changes.ts";
import type { Diff, ObjectChanges } from "./diff.ts";
import type { Between, Cost, CostShare } from "./diff-costs.ts";
import type { SchedChanges } from "./diff-sched.ts";
import type { Json } from "./json.ts";
import type { Snapshot, SnapshotLink, SnapshotMap, SnapshotProg, SnapshotScheduler } from "./snapshot.ts";

/** Incremented if a member is removed or changes its meaning, not if members are added. */
const SCHEMA_VERSION = 1;

/** `names`: sources of A and B, as given by the user. */
export function diffJson(diff: Diff, names: readonly [string, string]): Json {
  const { scheduler, progs, maps, links, warnings, notes } = diff;
  return {
    schema: "ktstr-diff",
    schema_version: SCHEMA_VERSION,
    a: sideJson(diff.a, names[0]),
    b: sideJson(diff.b, names[1]),
    same_boot: diff.sameBoot,
    elapsed_ns: diff.elapsedNs ?? null,
    scheduler: {
      change: scheduler.kind,
      a: schedulerJson(scheduler.a),
      b: schedulerJson(scheduler.b),
    },
    sched: schedJson(diff.sched),
    costs: diff.costs.map(costJson),
    programs: addedAndRemovedJson(progs, progJson),
    links: {
      ...addedAndRemovedJson(links, linkJson),
      changed: diff.changedLinks.map(([a, b]) => ({
        id: b.id,
        type: b.type,
        prog_id: { a: a.progId, b: b.progId },
      })),
    },
    maps: {
      ...addedAndRemovedJson(maps, mapJson),
      changed: diff.changedMaps.map(([a, b]) => changedMapJson(a, b)),
    },
    globals: diff.globals.map(({ a, b, variables }) => ({
      ...mapIdentity(b),
      id_in_a: a.id === b.id ? undefined : a.id,
      variables: variables.map(({ name, type, changes }) => ({
        name,
        type,
        changes: changes.map(changeJson),
      })),
    })),
    warnings: { only_a: warnings.onlyA, only_b: warnings.onlyB },
    notes,
  };
}

function sideJson({ kernel }: Snapshot, source: string): Json {
  return {
    source,
    release: kernel.release,
    machine: kernel.machine,
    uptime_ns: kernel.uptimeNs,
    bpf_stats_enabled: kernel.statsEnabled,
  };
}

function schedulerJson(scheduler: SnapshotScheduler | undefined): Json {
  if (scheduler === undefined) return null;
  const { ops, object, state, progIds } = scheduler;
  return { ops, object, state, prog_ids: progIds ?? [] };
}

function schedJson({ events, queues }: SchedChanges): Json {
  return {
    events: events.map(({ place, name, a, b }) => ({ place, name, a, b })),
    queues: queues.map(({ place, queue: { id, name, kind, cpu }, a, b }) => ({
      place,
      id,
      name,
      kind,
      cpu,
      length: { a, b },
    })),
  };
}

function costJson({ prog, a, b, between }: Cost): Json {
  return {
    ...progJson(prog),
    a: costShareJson(a),
    b: costShareJson(b),
    between: between && { ...costShareJson(between), ...ratesJson(between) },
  };
}

function costShareJson(spent: CostShare | undefined): { [key: string]: Json } | undefined {
  return (
    spent && {
      run_cnt: spent.calls,
      run_time_ns: spent.runTimeNs,
      recursion_misses: spent.misses,
      ns_per_call: spent.nsPerCall,
      share: spent.share,
    }
  );
}

function ratesJson({ windowNs, callsPerSecond, nsPerSecond, reset }: Between): { [key: string]: Json } {
  return {
    window_ns: windowNs,
    calls_per_second: callsPerSecond,
    run_time_ns_per_second: nsPerSecond,
    counters_reset: reset,
  };
}

function addedAndRemovedJson<T extends { readonly id: number }>(
  { gone, appeared, replaced }: ObjectChanges<T>,
  json: (object: T) => { [key: string]: Json },
): { [key: string]: Json } {
  return {
    gone: gone.map(json),
    new: appeared.map((object) => ({ ...json(object), replaces: replaced.get(object.id) })),
  };
}

const progJson = ({ id, type, name, tag }: SnapshotProg): { [key: string]: Json } => ({
  id,
  type,
  name,
  tag,
});
const linkJson = ({ id, type, progId, mapId }: SnapshotLink): { [key: string]: Json } => ({
  id,
  type,
  prog_id: progId,
  map_id: mapId,
});
const mapIdentity = ({ id, type, name }: SnapshotMap): { [key: string]: Json } => ({ id, type, name });

function mapJson(map: SnapshotMap): { [key: string]: Json } {
  return { ...mapIdentity(map), ...mapState(map) };
}

function mapState(map: SnapshotMap): { [key: string]: Json } {
  return {
    max_entries: map.maxEntries,
    count: map.count,
    count_is_whole: map.countIsWhole,
    bytes_memlock: map.memlockBytes,
    frozen: map.frozen === undefined ? undefined : Number(map.frozen),
  };
}

function changedMapJson(a: SnapshotMap, b: SnapshotMap): Json {
  return {
    ...mapIdentity(b),
    id_in_a: a.id === b.id ? undefined : a.id,
    a: mapState(a),
    b: mapState(b),
  };
}

/** A side without this part has no member for it, because null is a valid value. */
const changeJson = ({ path, a, b }: Change): Json => ({ path, a, b });
