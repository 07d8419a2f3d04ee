/** One reading of a machine's counters, a round, as plain data: what `top`, `record` and `metrics` are made of. */
import type { PlainValue } from "./btf/value.ts";
import type { MapInfo, ProgInfo, ProgStats } from "./state.ts";
import { utf8 } from "./text.ts";
import { MAP_TYPES, nameOr, PROG_TYPES } from "./uapi/names.ts";

/** What does not change as long as a program is loaded. Names here and below are the machine's own: printers escape them. */
export interface ProgFacts {
  readonly id: number;
  /** bpftool's word, or the number of a type that has none. */
  readonly type: string;
  /** The function's whole name where it is known. */
  readonly name: string;
  /** 16 hexadecimal digits. */
  readonly tag: string;
  /** Nanoseconds since boot: tells two programs apart that had the same id one after the other. */
  readonly loadTimeNs: bigint;
  readonly mapIds: readonly number[];
}

export interface RoundProg {
  /** The same object in every round in which the program is there. */
  readonly facts: ProgFacts;
  /** Since the program was loaded, while statistics were on; undefined: they could not be read. */
  readonly counters: ProgStats | undefined;
}

/** What does not change as long as a map is there. Sizes in bytes. */
export interface MapFacts {
  readonly id: number;
  readonly type: string;
  readonly name: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
}

export interface RoundMap {
  /** The same object in every round in which the map is there. */
  readonly facts: MapFacts;
  /** undefined: its type has none, or counting them costs more than a round may. */
  readonly entries: number | undefined;
  /** What it costs, as the kernel accounts it; undefined where that is not known. */
  readonly bytes: number | undefined;
}

export interface LinkFacts {
  readonly id: number;
  readonly type: string;
  /** 0: a struct_ops link, which has none. */
  readonly progId: number;
  /** "on interface veth0, ingress"; "" where the link does not tell. */
  readonly place: string;
}

/** sched_ext as a round sees it. */
export interface RoundSched {
  /** "enabled". */
  readonly state: string;
  /** `ops.name` of the root scheduler; "" where none is loaded. */
  readonly ops: string;
  /** `scx_enable_seq`: schedulers that were enabled since the boot. */
  readonly enableSeq: bigint | undefined;
  /** `struct scx_event_stats` of the root scheduler, summed over CPUs, in its order. */
  readonly events: readonly { readonly name: string; readonly count: bigint }[];
  /** Dispatch queues that hold tasks; undefined: this source does not tell of queues. */
  readonly queues: readonly QueueLength[] | undefined;
  /** The tasks that wait longest, the longest first; undefined: this source does not tell of tasks. */
  readonly waits: readonly TaskWait[] | undefined;
}

export interface QueueLength {
  /** "local CPU 3", "0x5ced0", or the name that the scheduler has for it. */
  readonly name: string;
  /** In tasks. */
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
   * Milliseconds since the first round of the series, by a clock that never jumps and does not run while the machine stands
   * still for a round.
   */
  readonly atMs: number;
  /** Unix time in milliseconds. */
  readonly unixMs: number;
  /** For how long the machine stood still to be read, in milliseconds; undefined: it was not paused. */
  readonly pauseMs: number | undefined;
  /** By ascending id, as are maps and links. */
  readonly progs: readonly RoundProg[];
  readonly maps: readonly RoundMap[];
  readonly links: readonly LinkFacts[];
  /** undefined: this kernel has no sched_ext, or the source does not tell of it. */
  readonly sched: RoundSched | undefined;
  /** The values of the variables that were asked for, in the order of `SeriesFacts.globals`; undefined: not there now. */
  readonly globals: readonly (PlainValue | undefined)[];
}

/** What all rounds of one series share. */
export interface SeriesFacts {
  /** For people: "the running kernel", or what was given for `--memory` or `--vm`. */
  readonly source: string;
  readonly kernel: {
    readonly release: string;
    readonly machine: string;
    readonly possibleCpus: number | undefined;
    readonly onlineCpus: number | undefined;
    /** Unix time of boot in nanoseconds. */
    readonly bootTimeUnixNs: bigint | undefined;
  };
  /** The variables that were asked for: "scx_simple.bss:nr_enqueued". */
  readonly globals: readonly string[];
}

/** What a data path reads in one go of what changes all the time. */
export interface Counts {
  readonly progs: readonly RoundProg[];
  readonly maps: readonly RoundMap[];
  /** Ascending. */
  readonly linkIds: readonly number[];
  readonly sched: RoundSched | undefined;
}

/** A data path that counts again and again. It keeps what it knows of an object for as long as that is there. */
export interface Counter {
  /** Objects that could not be read, as sentences; grows. */
  readonly warnings: readonly string[];
  /** Throws `KtstrError` where the machine cannot be read. */
  count(): Counts;
}

/** Where rounds come from: a kernel that goes on running. */
export interface RoundSource extends Disposable {
  readonly facts: SeriesFacts;
  /** What could not be read, as sentences; grows with the rounds. */
  readonly warnings: readonly string[];
  /** What runs a program, in words. It takes longer than a round, and does not pause the machine. */
  places(progId: number): readonly string[];
  /** Reads once more. Throws `KtstrError` where the machine cannot be read (any more). */
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
