/** A round of `top -j` as one line of JSON (schema/top.schema.json). */
import type { Json } from "./json.ts";
import type { MapRate, ProgRate, Rates, SchedRate } from "./rates.ts";

/** `names`: names of the global variables. */
export function topJson(rates: Rates, names: readonly string[]): Json {
  return {
    schema: "ktstr-top",
    schema_version: 1,
    unix_ms: rates.unixMs,
    seconds: rates.seconds,
    pause_ms: rates.pauseMs,
    programs: rates.progs.map(progJson),
    maps: rates.maps.map(mapJson),
    links: rates.links.map(({ id, type, progId, place }) => ({ id, type, prog_id: progId, place })),
    sched: rates.sched && schedJson(rates.sched),
    globals: names.length === 0 ? undefined : globalsJson(rates, names),
  };
}

function globalsJson({ globals }: Rates, names: readonly string[]): Json {
  return names.map((name, index) => ({ name, value: globals[index] ?? null }));
}

const progJson = ({ facts, counters, ...rate }: ProgRate): Json => ({
  id: facts.id,
  type: facts.type,
  name: facts.name,
  tag: facts.tag,
  map_ids: facts.mapIds,
  cpu_percent: rate.cpuShare * 100,
  calls_per_second: rate.callsPerSecond,
  ns_per_call: rate.nsPerCall,
  misses_per_second: rate.missesPerSecond,
  run_cnt: counters?.count,
  run_time_ns: counters?.runTimeNs,
  recursion_misses: counters?.misses,
});

const mapJson = ({ facts, entries, bytes, growthPerSecond }: MapRate): Json => ({
  id: facts.id,
  type: facts.type,
  name: facts.name,
  max_entries: facts.maxEntries,
  entries,
  entries_per_second: growthPerSecond,
  bytes_memlock: bytes,
});

const schedJson = ({ state, ops, events, queues, waits }: SchedRate): Json => ({
  state,
  ops,
  events: events.map(({ name, count, perSecond }) => ({ name, count, per_second: perSecond })),
  queues: queues?.map(({ name, length }) => ({ name, length })),
  waits: waits?.map(({ pid, comm, cpu, waitMs }) => ({ pid, comm, cpu, wait_ms: waitMs })),
});
