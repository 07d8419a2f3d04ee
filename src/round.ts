/** One reading of a machine's counters (a round) as plain data. `top`, `record` and `metrics` use it. */
import type { PlainValue } from "./btf/value.ts";
import type { MapInfo, ProgInfo, ProgStats } from "./state.ts";
import { utf8 } from "./text.ts";
import { MAP_TYPES, nameOr, PROG_TYPES } from "./uapi/names.ts";

/**
 * Attributes of a program that do not change while it is loaded. Names in this file are not escaped; printers escape them.
 */
export interface ProgFacts {
  readonly id: number;
  /** bpftool's name of the type, or the number of a type without a name. */
  readonly type: string;
  /** The full name of the function if it is known. */
  readonly name: string;
  /** 16 hexadecimal digits. */
  readonly tag: string;
  /** Nanoseconds since boot. Distinguishes programs that had the same id at different times. */
  readonly loadTimeNs: bigint;
  readonly mapIds: readonly number[];
}

export interface RoundProg {
  /** The same object in every round while the program is loaded. */
  readonly facts: ProgFacts;
  /** Counted since the program was loaded, while statistics were enabled. undefined if they could not be read. */
  readonly counters: ProgStats | undefined;
}

/** Attributes of a map that do not change while it exists. Sizes are in bytes. */
export interface MapFacts {
  readonly id: number;
  readonly type: string;
  readonly name: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
}

export interface RoundMap {
  /** The same object in every round while the map exists. */
  readonly facts: MapFacts;
  /** Number of elements. undefined if the type has no count, or if counting takes too long for a round. */
  readonly entries: number | undefined;
  /** Memory that the kernel accounts for the map; undefined if unknown. */
  readonly bytes: number | undefined;
}

export interface LinkFacts {
  readonly id: number;
  readonly type: string;
  /** 0 for a struct_ops link, which has no program. */
  readonly progId: number;
  /** "on interface veth0, ingress"; "" if the link has no such information. */
  readonly place: string;
}

/** The state of sched_ext in a round. */
export interface RoundSched {
  /** "enabled". */
  readonly state: string;
  /** `ops.name` of the root scheduler; "" if none is loaded. */
  readonly ops: string;
  /** `scx_enable_seq`: number of schedulers enabled since boot. */
  readonly enableSeq: bigint | undefined;
  /** `struct scx_event_stats` of the root scheduler, summed over CPUs, in the order of the struct. */
  readonly events: readonly { readonly name: string; readonly count: bigint }[];
  /** Dispatch queues with tasks; undefined if this source cannot read queues. */
  readonly queues: readonly QueueLength[] | undefined;
  /** The tasks that have waited longest, in descending order; undefined if this source cannot read tasks. */
  readonly waits: readonly TaskWait[] | undefined;
}

export interface QueueLength {
  /** "local CPU 3", "0x5ced0", or the scheduler's own name for the queue. */
  readonly name: string;
  /** Number of tasks. */
  readonly length: number;
}

export interface TaskWait {
  readonly pid: number;
  readonly comm: string;
  readonly cpu: number;
  readonly waitMs: number;
}

export interface Round {
  /**
   * Milliseconds since the first round of the series. The clock is monotonic and stops while the machine is paused for a
   * round.
   */
  readonly atMs: number;
  /** Unix time in milliseconds. */
  readonly unixMs: number;
  /** Duration of the pause for this round in milliseconds; undefined if the machine was not paused. */
  readonly pauseMs: number | undefined;
  /** By ascending id. Maps and links likewise. */
  readonly progs: readonly RoundProg[];
  readonly maps: readonly RoundMap[];
  readonly links: readonly LinkFacts[];
  /** undefined if this kernel has no sched_ext or the source cannot read it. */
  readonly sched: RoundSched | undefined;
  /** Values of the requested variables in the order of `SeriesFacts.globals`. undefined if a variable does not exist now. */
  readonly globals: readonly (PlainValue | undefined)[];
}

/** Data that all rounds of a series share. */
export interface SeriesFacts {
  /** Description of the source: "the running kernel", or the argument of `--memory` or `--vm`. */
  readonly source: string;
  readonly kernel: {
    readonly release: string;
    readonly machine: string;
    readonly possibleCpus: number | undefined;
    readonly onlineCpus: number | undefined;
    /** Unix time of boot in nanoseconds. */
    readonly bootTimeUnixNs: bigint | undefined;
  };
  /** The requested variables: "scx_simple.bss:nr_enqueued". */
  readonly globals: readonly string[];
}

/** The changing data of a round, as a data path reads it. */
export interface Counts {
  readonly progs: readonly RoundProg[];
  readonly maps: readonly RoundMap[];
  /** Ascending. */
  readonly linkIds: readonly number[];
  readonly sched: RoundSched | undefined;
}

/** Reads the counters of one data path repeatedly. Caches the attributes of an object while it exists. */
export interface Counter {
  /** Sentences about objects that could not be read. Grows. */
  readonly warnings: readonly string[];
  /** Throws `KtstrError` if the machine cannot be read. */
  count(): Counts;
}

/** A source of rounds: a kernel that keeps running. */
export interface RoundSource extends Disposable {
  readonly facts: SeriesFacts;
  /** Sentences about data that could not be read. Grows with each round. */
  readonly warnings: readonly string[];
  /** Sentences about the places where a program is attached. Slower than a round; does not pause the machine. */
  places(progId: number): readonly string[];
  /** Reads a round. Throws `KtstrError` if the machine cannot be read or is gone. */
  round(): Round;
}

export function progFacts(prog: ProgInfo): ProgFacts {
  return {
    id: prog.id,
    type: String(nameOr(PROG_TYPES, prog.type)),
    name: utf8(prog.fullName),
    tag: Buffer.from(prog.tag).toString("hex"),
    loadTimeNs: prog.loadTimeNs,
    mapIds: prog.mapIds,
  };
}

export function mapFacts(map: MapInfo): MapFacts {
  return {
    id: map.id,
    type: String(nameOr(MAP_TYPES, map.type)),
    name: utf8(map.name),
    keySize: map.keySize,
    valueSize: map.valueSize,
    maxEntries: map.maxEntries,
  };
}
