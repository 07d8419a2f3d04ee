/** Reads the facts that `diff` compares from an `inspect --json` report. The report is untrusted. */
import { KtstrError } from "../errors.ts";
import type { ParsedJson } from "./parse-json.ts";
import { type SnapshotSched, schedOf } from "./snapshot-sched.ts";

export interface Snapshot {
  readonly kernel: SnapshotKernel;
  readonly scheduler: SnapshotScheduler | undefined;
  /** One item per scheduler. */
  readonly sched: readonly SnapshotSched[];
  readonly progs: readonly SnapshotProg[];
  readonly maps: readonly SnapshotMap[];
  readonly links: readonly SnapshotLink[];
  readonly warnings: readonly string[];
}

export interface SnapshotKernel {
  readonly release: string;
  /** "" if not known. */
  readonly version: string;
  readonly machine: string;
  readonly onlineCpus: number | undefined;
  readonly statsEnabled: boolean | undefined;
  /** undefined: the report was written by an older ktstr, or the machine's uptime was not known. */
  readonly uptimeNs: bigint | undefined;
  readonly bootTimeUnixNs: bigint | undefined;
}

export interface SnapshotScheduler {
  readonly ops: string;
  /** "" if not known. */
  readonly object: string;
  readonly state: string;
  /** undefined if not known. */
  readonly progIds: readonly number[] | undefined;
  /** Number of schedulers enabled since boot; undefined if not known. */
  readonly enableSeq: bigint | undefined;
}

/** `struct bpf_prog_stats` summed over CPUs. */
export interface Counters {
  readonly calls: bigint;
  readonly runTimeNs: bigint;
  readonly misses: bigint;
}

interface Named {
  readonly id: number;
  /** bpftool's name, or the number of a type without a name. */
  readonly type: string;
  readonly name: string;
}

export interface SnapshotProg extends Named {
  readonly tag: string;
  readonly loadTimeNs: bigint | undefined;
  /** undefined: the statistics could not be read. */
  readonly counters: Counters | undefined;
}

export interface SnapshotMap extends Named {
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly memlockBytes: number | undefined;
  readonly frozen: boolean | undefined;
  readonly count: number;
  readonly countIsWhole: boolean;
  /** Global variables of a section; undefined for other maps. */
  readonly variables: readonly SnapshotVariable[] | undefined;
}

export interface SnapshotVariable {
  readonly name: string;
  /** Declared C type. */
  readonly type: string;
  readonly offset: number;
  readonly value: ParsedJson;
}

export interface SnapshotLink {
  readonly id: number;
  readonly type: string;
  readonly progId: number;
  /** Map of a struct_ops link, which has no program. */
  readonly mapId: number | undefined;
}

const SCHEMA = "ktstr-inspect";
const SCHEMA_VERSION = 1;

/** `what`: name of the report in errors. Throws `KtstrError` if it is not a report, or has another version. */
export function readSnapshot(report: ParsedJson, what: string): Snapshot {
  const root = new Reader(report, what, "");
  if (!root.isObject || root.raw("schema") !== SCHEMA)
    throw new KtstrError(`${what}: JSON, but not a ktstr report`, {
      hint: "`ktstr -j inspect > FILE` writes one",
    });
  const version = root.integer("schema_version");
  if (version !== SCHEMA_VERSION)
    throw new KtstrError(
      `${what}: the report has version ${version}, this ktstr reads version ${SCHEMA_VERSION}`,
    );
  const scheduler = root.raw("scheduler") === null ? undefined : root.child("scheduler");
  return {
    kernel: kernelOf(root.child("kernel")),
    scheduler: scheduler === undefined ? undefined : schedulerOf(scheduler),
    sched: schedOf(root),
    progs: root.children("programs").map(progOf),
    maps: root.children("maps").map(mapOf),
    links: root.children("links").map(linkOf),
    warnings: root.children("warnings").map((warning) => warning.asText()),
  };
}

function kernelOf(kernel: Reader): SnapshotKernel {
  return {
    release: kernel.text("release"),
    version: kernel.text("version"),
    machine: kernel.text("machine"),
    onlineCpus: kernel.has("online_cpus") ? kernel.integer("online_cpus") : undefined,
    statsEnabled: kernel.has("bpf_stats_enabled") ? kernel.raw("bpf_stats_enabled") === true : undefined,
    uptimeNs: kernel.has("uptime_ns") ? kernel.big("uptime_ns") : undefined,
    bootTimeUnixNs: kernel.has("boot_time_unix_ns") ? kernel.big("boot_time_unix_ns") : undefined,
  };
}

function schedulerOf(scheduler: Reader): SnapshotScheduler {
  return {
    ops: scheduler.text("ops"),
    object: scheduler.text("object"),
    state: scheduler.text("state"),
    progIds: scheduler.children("prog_ids").map((id) => id.asInteger()),
    enableSeq: undefined,
  };
}

function progOf(prog: Reader): SnapshotProg {
  // bpftool omits keys whose value is 0.
  const counter = (key: string): bigint => (prog.has(key) ? prog.big(key) : 0n);
  return {
    ...namedOf(prog),
    tag: prog.text("tag"),
    loadTimeNs: prog.has("load_time_ns") ? prog.big("load_time_ns") : undefined,
    counters: prog.has("stats_unreadable")
      ? undefined
      : {
          calls: counter("run_cnt"),
          runTimeNs: counter("run_time_ns"),
          misses: counter("recursion_misses"),
        },
  };
}

function mapOf(map: Reader): SnapshotMap {
  return {
    ...namedOf(map),
    keySize: map.integer("bytes_key"),
    valueSize: map.integer("bytes_value"),
    maxEntries: map.integer("max_entries"),
    memlockBytes: map.has("bytes_memlock") ? map.integer("bytes_memlock") : undefined,
    frozen: map.has("frozen") ? map.integer("frozen") !== 0 : undefined,
    count: map.integer("count"),
    countIsWhole: map.raw("count_is_whole") === true,
    variables: map.has("variables") ? map.children("variables").map(variableOf) : undefined,
  };
}

function variableOf(variable: Reader): SnapshotVariable {
  return {
    name: variable.text("name"),
    type: variable.text("type"),
    offset: variable.integer("offset"),
    value: variable.raw("value") ?? null,
  };
}

function linkOf(link: Reader): SnapshotLink {
  return {
    id: link.integer("id"),
    type: typeOf(link),
    progId: link.integer("prog_id"),
    mapId: link.has("map_id") ? link.integer("map_id") : undefined,
  };
}

function namedOf(object: Reader): Named {
  return {
    id: object.integer("id"),
    type: typeOf(object),
    name: object.has("name") ? object.text("name") : "",
  };
}

const typeOf = (object: Reader): string =>
  typeof object.raw("type") === "string" ? object.text("type") : String(object.integer("type"));

/** A value with its path, for errors: `maps[3].count`. */
export class Reader {
  readonly #value: ParsedJson;
  readonly #what: string;
  readonly #path: string;

  constructor(value: ParsedJson, what: string, path: string) {
    this.#value = value;
    this.#what = what;
    this.#path = path;
  }

  get isObject(): boolean {
    return isObject(this.#value);
  }

  /** Member names of an object, in the file's order. */
  get names(): string[] {
    return isObject(this.#value) ? Object.keys(this.#value) : this.#fail("", "an object");
  }

  has(key: string): boolean {
    return this.raw(key) !== undefined;
  }

  raw(key: string): ParsedJson | undefined {
    const value = this.#value;
    return isObject(value) ? value[key] : this.#fail("", "an object");
  }

  child(key: string): Reader {
    return new Reader(this.raw(key) ?? this.#fail(key, "there"), this.#what, this.#join(key));
  }

  children(key: string): Reader[] {
    const list = this.raw(key);
    if (!Array.isArray(list)) return this.#fail(key, "an array");
    const path = this.#join(key);
    return (list as readonly ParsedJson[]).map(
      (item, index) => new Reader(item, this.#what, `${path}[${index}]`),
    );
  }

  text(key: string): string {
    return this.child(key).asText();
  }

  integer(key: string): number {
    return this.child(key).asInteger();
  }

  big(key: string): bigint {
    const value = this.raw(key);
    if (typeof value === "bigint" && value >= 0n) return value;
    return BigInt(this.integer(key));
  }

  asText(): string {
    return typeof this.#value === "string" ? this.#value : this.#fail("", "a string");
  }

  /** Returns an integer from 0 to 2^53 - 1. */
  asInteger(): number {
    const value = this.#value;
    return Number.isSafeInteger(value) && (value as number) >= 0
      ? (value as number)
      : this.#fail("", "a count");
  }

  #join(key: string): string {
    return this.#path === "" ? key : `${this.#path}.${key}`;
  }

  #fail(key: string, expected: string): never {
    const path = key === "" ? this.#path : this.#join(key);
    throw new KtstrError(`${this.#what}: ${path === "" ? "the report" : path} is not ${expected}`);
  }
}

function isObject(value: ParsedJson): value is { readonly [key: string]: ParsedJson } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
