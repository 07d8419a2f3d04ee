/** A round as metrics: families of samples with labels, bounded in number (docs/metrics.md). */
import type { Round, RoundMap, RoundProg, SeriesFacts } from "../round.ts";
import { escapeText } from "../text.ts";

export interface Family {
  /** Name, without the `_total` of a counter. */
  readonly name: string;
  readonly kind: "gauge" | "counter";
  readonly help: string;
  readonly samples: readonly Sample[];
}

export interface Sample {
  readonly labels: { readonly [name: string]: string };
  /** Decimal number with exact digits: "8.739829878". */
  readonly value: string;
}

/** Limits on objects that have series: the costliest programs, and the largest maps. The others are only counted. */
export const MAX_PROGS = 1000;
export const MAX_MAPS = 1000;
/** Limit on event counters. Kernels have 13 to 20. */
const MAX_EVENTS = 64;

/** `ms`: duration of the reading. */
export function metricsOf(
  facts: SeriesFacts,
  round: Round,
  version: string,
  ms: number,
  unreadable: number,
): Family[] {
  const { progs, maps, links, sched } = round;
  const shownProgs = largest(progs, MAX_PROGS, ({ counters }) => counters?.runTimeNs ?? 0n);
  const shownMaps = largest(maps, MAX_MAPS, ({ bytes }) => BigInt(bytes ?? 0));
  const { release, machine, possibleCpus, onlineCpus } = facts.kernel;
  return [
    gauge("ktstr_info", "Versions of the kernel and of ktstr.", [one(1, { release, machine, version })]),
    gauge("ktstr_cpus", "CPUs by state.", [
      ...some(onlineCpus, { state: "online" }),
      ...some(possibleCpus, { state: "possible" }),
    ]),
    gauge("ktstr_objects", "Loaded BPF objects.", [
      one(progs.length, { kind: "program" }),
      one(maps.length, { kind: "map" }),
      one(links.length, { kind: "link" }),
    ]),
    gauge("ktstr_objects_without_series", "Loaded objects without series of their own.", [
      one(progs.length - shownProgs.length, { kind: "program" }),
      one(maps.length - shownMaps.length, { kind: "map" }),
    ]),
    gauge("ktstr_unreadable", "Number of warnings about data that could not be read.", [one(unreadable)]),
    gauge("ktstr_read_duration_seconds", "Duration of this reading.", [one(`${(ms / 1000).toFixed(6)}`)]),
    ...progFamilies(shownProgs),
    ...mapFamilies(shownMaps),
    ...(sched === undefined ? [] : schedFamilies(sched)),
  ];
}

function progFamilies(progs: readonly RoundProg[]): Family[] {
  const each = (value: (counters: NonNullable<RoundProg["counters"]>) => string): Sample[] =>
    progs.flatMap(({ facts, counters }) =>
      counters === undefined ? [] : [one(value(counters), { ...labelsOf(facts), tag: facts.tag })],
    );
  return [
    counter(
      "ktstr_program_run_time_seconds",
      "Run time of a program while statistics were enabled.",
      each(({ runTimeNs }) => seconds(runTimeNs)),
    ),
    counter(
      "ktstr_program_runs",
      "Calls of a program while statistics were enabled.",
      each(({ count }) => `${count}`),
    ),
    counter(
      "ktstr_program_misses",
      "Calls that the kernel skipped because the program was already running.",
      each(({ misses }) => `${misses}`),
    ),
  ];
}

function mapFamilies(maps: readonly RoundMap[]): Family[] {
  const each = (value: (map: RoundMap) => number | undefined): Sample[] =>
    maps.flatMap((map) => some(value(map), labelsOf(map.facts)));
  return [
    gauge(
      "ktstr_map_entries",
      "Entries of a map, if they can be counted.",
      each(({ entries }) => entries),
    ),
    gauge(
      "ktstr_map_max_entries",
      "Maximum number of entries of a map.",
      each(({ facts }) => facts.maxEntries),
    ),
    gauge(
      "ktstr_map_memory_bytes",
      "Memory of a map, as the kernel accounts it.",
      each(({ bytes }) => bytes),
    ),
  ];
}

function schedFamilies({ state, ops, enableSeq, events }: NonNullable<Round["sched"]>): Family[] {
  return [
    gauge("ktstr_sched_ext_info", "The state of sched_ext, and its root scheduler.", [
      one(1, { state: escapeText(state), ops: escapeText(ops) }),
    ]),
    counter("ktstr_sched_ext_enables", "Schedulers enabled since boot.", some(enableSeq, {})),
    counter(
      "ktstr_sched_ext_events",
      "Events of the root scheduler, with the kernel's names; reset when a scheduler is enabled.",
      // Counters of metrics are not negative, but the kernel's are signed.
      events
        .filter(({ count }) => count >= 0n)
        .slice(0, MAX_EVENTS)
        .map(({ name, count }) => one(`${count}`, { event: escapeText(name) })),
    ),
  ];
}

const labelsOf = ({
  id,
  name,
  type,
}: {
  readonly id: number;
  readonly name: string;
  readonly type: string;
}) => ({
  id: String(id),
  name: escapeText(name),
  type: escapeText(type),
});

const gauge = (name: string, help: string, samples: readonly Sample[]): Family => ({
  name,
  kind: "gauge",
  help,
  samples,
});
const counter = (name: string, help: string, samples: readonly Sample[]): Family => ({
  name,
  kind: "counter",
  help,
  samples,
});
const one = (value: number | string, labels: Sample["labels"] = {}): Sample => ({
  labels,
  value: String(value),
});
const some = (value: number | bigint | undefined, labels: Sample["labels"]): Sample[] =>
  value === undefined ? [] : [one(String(value), labels)];

/** Returns all items if they are at most `most`, else the largest, in either case in their order. */
function largest<T>(all: readonly T[], most: number, sizeOf: (item: T) => bigint): readonly T[] {
  if (all.length <= most) return all;
  const sizes = new Map(all.map((item) => [item, sizeOf(item)]));
  const size = (item: T): bigint => sizes.get(item) ?? 0n;
  const kept = new Set(
    [...all].sort((a, b) => (size(b) > size(a) ? 1 : size(b) < size(a) ? -1 : 0)).slice(0, most),
  );
  return all.filter((item) => kept.has(item));
}

const NS = 1_000_000_000n;

/** Converts nanoseconds to seconds with all digits: "8.739829878". */
function seconds(ns: bigint): string {
  return `${ns / NS}.${String(ns % NS).padStart(9, "0")}`;
}
