/** A round as metrics: families of samples with labels, bounded in number (docs/metrics.md). */
import type { Round, RoundMap, RoundProg, SeriesFacts } from "../round.ts";
import { escapeText } from "../text.ts";

export interface Family {
  /** Without the `_total` of a counter. */
  readonly name: string;
  readonly kind: "gauge" | "counter";
  readonly help: string;
  readonly samples: readonly Sample[];
}

export interface Sample {
  readonly labels: { readonly [name: string]: string };
  /** Exact digits: "8.739829878". */
  readonly value: string;
}

/** Objects of a kind that have series of their own: the costliest programs, the largest maps. The others are counted. */
export const MAX_PROGS = 1000;
export const MAX_MAPS = 1000;
/** The kernel has 13 to 20. */
const MAX_EVENTS = 64;

/** `ms`: how long the round took to be read. */
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
    gauge("ktstr_info", "The kernel, and the ktstr that reads it.", [one(1, { release, machine, version })]),
    gauge("ktstr_cpus", "CPUs by state.", [
      ...some(onlineCpus, { state: "online" }),
      ...some(possibleCpus, { state: "possible" }),
    ]),
    gauge("ktstr_objects", "BPF objects that are loaded.", [
      one(progs.length, { kind: "program" }),
      one(maps.length, { kind: "map" }),
      one(links.length, { kind: "link" }),
    ]),
    gauge("ktstr_objects_without_series", "Objects that are loaded, and have no series of their own.", [
      one(progs.length - shownProgs.length, { kind: "program" }),
      one(maps.length - shownMaps.length, { kind: "map" }),
    ]),
    gauge("ktstr_unreadable", "Sentences that said what could not be read.", [one(unreadable)]),
    gauge("ktstr_read_duration_seconds", "How long this reading took.", [one(`${(ms / 1000).toFixed(6)}`)]),
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
      "Time that a program ran, while statistics were on.",
      each(({ runTimeNs }) => seconds(runTimeNs)),
    ),
    counter(
      "ktstr_program_runs",
      "Calls of a program, while statistics were on.",
      each(({ count }) => `${count}`),
    ),
    counter(
      "ktstr_program_misses",
      "Calls that the kernel did not make, for the program ran already.",
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
      "Entries of a map, where they can be counted.",
      each(({ entries }) => entries),
    ),
    gauge(
      "ktstr_map_max_entries",
      "Entries that a map may have.",
      each(({ facts }) => facts.maxEntries),
    ),
    gauge(
      "ktstr_map_memory_bytes",
      "What a map costs, as the kernel accounts it.",
      each(({ bytes }) => bytes),
    ),
  ];
}

function schedFamilies({ state, ops, enableSeq, events }: NonNullable<Round["sched"]>): Family[] {
  return [
    gauge("ktstr_sched_ext_info", "The state of sched_ext, and its root scheduler.", [
      one(1, { state: escapeText(state), ops: escapeText(ops) }),
    ]),
    counter("ktstr_sched_ext_enables", "Schedulers that were enabled since the boot.", some(enableSeq, {})),
    counter(
      "ktstr_sched_ext_events",
      "Events of the root scheduler, by the kernel's names; it counts from 0 when a scheduler is enabled.",
      // A counter is never negative; the kernel's are signed.
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

/** In their order; where they are more than `most`, the largest of them. */
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

/** "8.739829878": all digits of a nanosecond counter. */
function seconds(ns: bigint): string {
  return `${ns / NS}.${String(ns % NS).padStart(9, "0")}`;
}
