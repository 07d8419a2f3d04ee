/** Writes rounds as the lines of a record file (docs/record.md). */

import type {
  LinkFacts,
  MapFacts,
  ProgFacts,
  Round,
  RoundMap,
  RoundProg,
  RoundSched,
  SeriesFacts,
} from "../round.ts";
import type { Json } from "./json.ts";
import { stringify } from "./json.ts";
import {
  type MapChange,
  type ProgChange,
  RECORD_SCHEMA,
  RECORD_VERSION,
  type RoundLine,
} from "./record-format.ts";

/** Returns the first line, without its newline. `intervalMs`: requested time between rounds. */
export function headerLine(facts: SeriesFacts, intervalMs: number, version: string): string {
  const { kernel } = facts;
  return stringify({
    schema: RECORD_SCHEMA,
    schema_version: RECORD_VERSION,
    ktstr_version: version,
    source: facts.source,
    interval_ms: intervalMs,
    kernel: {
      release: kernel.release,
      machine: kernel.machine,
      possible_cpus: kernel.possibleCpus,
      online_cpus: kernel.onlineCpus,
      boot_time_unix_ns: kernel.bootTimeUnixNs,
    },
    globals: facts.globals,
  });
}

/** Keeps data of the previous round, from which the differences of the next line are computed. */
export class RoundLines {
  #progs: ReadonlyMap<number, RoundProg> = new Map();
  #maps: ReadonlyMap<number, RoundMap> = new Map();
  #links: ReadonlyMap<number, LinkFacts> = new Map();
  #sched: RoundSched | undefined;
  #globals: readonly string[] = [];

  /** Returns the next round's line, without its newline. */
  next(round: Round): string {
    return stringify({
      at_us: Math.round(round.atMs * 1000),
      unix_ms: Math.round(round.unixMs),
      pause_us: round.pauseMs === undefined ? undefined : Math.round(round.pauseMs * 1000),
      ...this.#progChanges(round.progs),
      ...this.#mapChanges(round.maps),
      ...this.#linkChanges(round.links),
      sched: this.#schedChanges(round.sched),
      globals: this.#globalChanges(round),
    } satisfies RoundLine);
  }

  #progChanges(
    progs: readonly RoundProg[],
  ): Pick<RoundLine, "programs_removed" | "programs_added" | "programs"> {
    const before = this.#progs;
    const added: Json[] = [];
    const changes: ProgChange[] = [];
    for (const prog of progs) {
      const { id } = prog.facts;
      const old = before.get(id);
      if (old === prog) continue;
      const change = old?.facts === prog.facts ? changeOf(old, prog) : undefined;
      if (change === undefined) added.push(progJson(prog));
      else if (change.length > 0) changes.push(change as ProgChange);
    }
    this.#progs = new Map(progs.map((prog) => [prog.facts.id, prog]));
    return {
      programs_removed: gone(before, this.#progs),
      programs_added: some(added),
      programs: some(changes),
    };
  }

  #mapChanges(maps: readonly RoundMap[]): Pick<RoundLine, "maps_removed" | "maps_added" | "maps"> {
    const before = this.#maps;
    const added: Json[] = [];
    const changes: MapChange[] = [];
    for (const map of maps) {
      const old = before.get(map.facts.id);
      if (old === map) continue;
      if (old?.facts !== map.facts) added.push(mapJson(map));
      else if (old.entries !== map.entries || old.bytes !== map.bytes)
        changes.push([map.facts.id, map.entries ?? null, map.bytes ?? null]);
    }
    this.#maps = new Map(maps.map((map) => [map.facts.id, map]));
    return { maps_removed: gone(before, this.#maps), maps_added: some(added), maps: some(changes) };
  }

  #linkChanges(links: readonly LinkFacts[]): Pick<RoundLine, "links_removed" | "links_added"> {
    const before = this.#links;
    this.#links = new Map(links.map((link) => [link.id, link]));
    const added = links.filter((link) => before.get(link.id) !== link).map(linkJson);
    return { links_removed: gone(before, this.#links), links_added: some(added) };
  }

  /** Returns the changes, with events as differences; null if there is no data of sched_ext any more. */
  #schedChanges(sched: RoundSched | undefined): Json {
    const old = this.#sched;
    this.#sched = sched;
    if (sched === undefined) return old === undefined ? undefined : null;
    const isSame = old?.state === sched.state && old.ops === sched.ops && old.enableSeq === sched.enableSeq;
    const start = isSame ? new Map(old.events.map(({ name, count }) => [name, count])) : undefined;
    const events: { [name: string]: Json } = {};
    for (const { name, count } of sched.events) {
      const added = start === undefined ? count : count - (start.get(name) ?? 0n);
      if (start === undefined || added !== 0n || !start.has(name)) events[name] = added;
    }
    return {
      ...(isSame ? {} : { state: sched.state, ops: sched.ops, enable_seq: sched.enableSeq }),
      events: Object.keys(events).length === 0 ? undefined : events,
      queues: sched.queues?.map(({ name, length }) => [name, length]),
      waits: sched.waits?.map(({ pid, comm, cpu, waitMs }) => [pid, comm, cpu, waitMs]),
    };
  }

  #globalChanges({ globals }: Round): RoundLine["globals"] {
    const texts = globals.map((value) => (value === undefined ? "" : stringify(value)));
    const changed: { [index: string]: Json } = {};
    for (const [index, text] of texts.entries())
      if (text !== this.#globals[index] && !(text === "" && this.#globals[index] === undefined))
        changed[index] = globals[index] ?? null;
    this.#globals = texts;
    return Object.keys(changed).length === 0 ? undefined : changed;
  }
}

/** Returns an empty array if nothing changed, undefined if the whole program must be written again. */
function changeOf(
  { counters: old }: RoundProg,
  { facts, counters }: RoundProg,
): ProgChange | readonly [] | undefined {
  if (counters === undefined) return old === undefined ? [] : [facts.id];
  if (old === undefined) return undefined;
  const calls = counters.count - old.count;
  const runTimeNs = counters.runTimeNs - old.runTimeNs;
  const misses = counters.misses - old.misses;
  if (calls === 0n && runTimeNs === 0n && misses === 0n) return [];
  if (calls < 0n || runTimeNs < 0n || misses < 0n) return undefined;
  return [facts.id, calls, runTimeNs, misses];
}

function gone(before: ReadonlyMap<number, unknown>, now: ReadonlyMap<number, unknown>): number[] | undefined {
  return some([...before.keys()].filter((id) => !now.has(id)));
}

const some = <T>(list: T[]): T[] | undefined => (list.length === 0 ? undefined : list);

const progJson = ({ facts, counters }: RoundProg): Json => ({
  ...progFactsJson(facts),
  run_cnt: counters?.count,
  run_time_ns: counters?.runTimeNs,
  recursion_misses: counters?.misses,
});

const progFactsJson = ({
  id,
  type,
  name,
  tag,
  loadTimeNs,
  mapIds,
}: ProgFacts): { readonly [key: string]: Json } => ({
  id,
  type,
  name,
  tag,
  load_time_ns: loadTimeNs,
  map_ids: mapIds,
});

const mapJson = ({ facts, entries, bytes }: RoundMap): Json => ({
  ...mapFactsJson(facts),
  entries,
  bytes_memlock: bytes,
});

const mapFactsJson = ({
  id,
  type,
  name,
  keySize,
  valueSize,
  maxEntries,
}: MapFacts): { readonly [key: string]: Json } => ({
  id,
  type,
  name,
  bytes_key: keySize,
  bytes_value: valueSize,
  max_entries: maxEntries,
});

const linkJson = ({ id, type, progId, place }: LinkFacts): Json => ({ id, type, prog_id: progId, place });
