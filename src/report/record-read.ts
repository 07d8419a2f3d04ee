/** Reads record files: the rounds that `RoundLines` wrote (docs/record.md). Files are untrusted. */
import { closeSync, openSync, readSync } from "node:fs";
import type { PlainValue } from "../btf/value.ts";
import { FormatError, KtstrError } from "../errors.ts";
import type { LinkFacts, Round, RoundMap, RoundProg, RoundSched, SeriesFacts } from "../round.ts";
import { type ParsedJson, parseJson } from "./parse-json.ts";
import { fileCall } from "./read-file.ts";
import { MAX_LINE_BYTES, RECORD_SCHEMA, RECORD_VERSION } from "./record-format.ts";
import { Reader } from "./snapshot.ts";

export interface RecordFile {
  readonly path: string;
  readonly facts: SeriesFacts;
  /** Requested time between rounds. */
  readonly intervalMs: number;
  /** Returns rounds in the order of recording. Ends at the first damaged or incomplete line: see `damage`. */
  rounds(): Generator<Round>;
  /** Sentence about the part of the file that the last walk over the rounds ignored; "" if there is none. */
  readonly damage: string;
}

/** Whether the text is the beginning of a record file. */
export function isRecord(start: string): boolean {
  return start.startsWith(`{"schema":"${RECORD_SCHEMA}"`);
}

/** Reads the header. Throws `KtstrError` if the file cannot be read, is not a record, or has another version. */
export function openRecord(path: string): RecordFile {
  const lines = linesOf(path);
  const first = lines.next();
  lines.return(undefined);
  if (first.done || !isRecord(first.value))
    throw new KtstrError(`${path}: not a ktstr record`, { hint: "`ktstr record -o FILE` writes one" });
  const header = new Reader(parseLine(first.value, path), path, "");
  const version = header.integer("schema_version");
  if (version !== RECORD_VERSION)
    throw new KtstrError(
      `${path}: the record has version ${version}, this ktstr reads version ${RECORD_VERSION}`,
    );
  let damage = "";
  return {
    path,
    facts: factsOf(header),
    intervalMs: header.integer("interval_ms"),
    get damage() {
      return damage;
    },
    *rounds() {
      damage = "";
      const decoder = new RoundDecoder(path);
      let number = 1;
      const all = linesOf(path, (rest) => {
        damage = `${path}: the last ${rest} bytes are an incomplete round and were ignored: the writer was killed or is still running`;
      });
      for (const line of all) {
        if (number++ === 1) continue;
        try {
          yield decoder.next(line);
        } catch (error) {
          if (!(error instanceof KtstrError)) throw error;
          damage = `${path}: line ${number - 1} is damaged; it and the rest of the file were ignored: ${error.message}`;
          return;
        }
      }
    },
  };
}

const CHUNK_BYTES = 2 ** 20;
const NEWLINE = 0x0a;

/** Returns complete lines. Calls `onRest` with the number of bytes after the last newline. Throws `KtstrError`. */
function* linesOf(path: string, onRest: (bytes: number) => void = () => {}): Generator<string, undefined> {
  const file = fileCall("open", path, () => openSync(path, "r"));
  try {
    const chunk = Buffer.alloc(CHUNK_BYTES);
    let parts: Buffer[] = [];
    let held = 0;
    for (;;) {
      const got = fileCall("read", path, () => readSync(file, chunk, 0, CHUNK_BYTES, null));
      if (got === 0) break;
      let from = 0;
      for (let end = chunk.indexOf(NEWLINE); end >= 0 && end < got; end = chunk.indexOf(NEWLINE, from)) {
        const last = chunk.subarray(from, end);
        const line = parts.length === 0 ? last : Buffer.concat([...parts, last]);
        parts = [];
        held = 0;
        from = end + 1;
        yield line.toString("utf8");
      }
      if (from === got) continue;
      held += got - from;
      if (held > MAX_LINE_BYTES)
        throw new FormatError(path, 0, `a line of more than ${MAX_LINE_BYTES} bytes`);
      parts.push(Buffer.from(chunk.subarray(from, got)));
    }
    if (held > 0) onRest(held);
    return undefined;
  } finally {
    closeSync(file);
  }
}

/** Matches numbers that `JSON.parse`, which is many times as fast, may not read exactly. */
const LONG_NUMBER = /\d{16}/;

function parseLine(line: string, path: string): ParsedJson {
  if (LONG_NUMBER.test(line)) return parseJson(line, path);
  try {
    return JSON.parse(line) as ParsedJson;
  } catch {
    return parseJson(line, path); // its error has the offset
  }
}

function factsOf(header: Reader): SeriesFacts {
  const kernel = header.child("kernel");
  const count = (key: string): number | undefined => (kernel.has(key) ? kernel.integer(key) : undefined);
  return {
    source: header.text("source"),
    kernel: {
      release: kernel.text("release"),
      machine: kernel.text("machine"),
      possibleCpus: count("possible_cpus"),
      onlineCpus: count("online_cpus"),
      bootTimeUnixNs: kernel.has("boot_time_unix_ns") ? kernel.big("boot_time_unix_ns") : undefined,
    },
    globals: header.children("globals").map((name) => name.asText()),
  };
}

/** Computes rounds from lines by adding the differences. */
class RoundDecoder {
  readonly #path: string;
  readonly #progs: Map<number, RoundProg> = new Map();
  readonly #maps: Map<number, RoundMap> = new Map();
  readonly #links: Map<number, LinkFacts> = new Map();
  #sched: RoundSched | undefined;
  #globals: (PlainValue | undefined)[] = [];

  constructor(path: string) {
    this.#path = path;
  }

  /** Throws `KtstrError` if the line does not follow the schema. */
  next(text: string): Round {
    const line = new Reader(parseLine(text, this.#path), this.#path, "");
    this.#progChanges(line);
    this.#mapChanges(line);
    const each = (key: string): Reader[] => (line.has(key) ? line.children(key) : []);
    for (const id of each("links_removed")) this.#links.delete(id.asInteger());
    for (const link of each("links_added")) this.#links.set(link.integer("id"), linkOf(link));
    const sched = line.raw("sched");
    if (sched === null) this.#sched = undefined;
    else if (sched !== undefined) this.#sched = schedOf(line.child("sched"), this.#sched);
    if (line.has("globals")) this.#globals = globalsOf(line.child("globals"), this.#globals);
    return {
      atMs: line.integer("at_us") / 1000,
      unixMs: line.integer("unix_ms"),
      pauseMs: line.has("pause_us") ? line.integer("pause_us") / 1000 : undefined,
      progs: byId(this.#progs, ({ facts }) => facts.id),
      maps: byId(this.#maps, ({ facts }) => facts.id),
      links: byId(this.#links, ({ id }) => id),
      sched: this.#sched,
      globals: this.#globals,
    };
  }

  #progChanges(line: Reader): void {
    const progs = this.#progs;
    if (line.has("programs_removed"))
      for (const id of line.children("programs_removed")) progs.delete(id.asInteger());
    if (line.has("programs"))
      for (const change of rowsOf(line, "programs")) {
        const [id, calls, runTimeNs, misses] = change;
        const prog = progs.get(Number(id));
        if (prog === undefined) throw new KtstrError(`programs: there is no program ${String(id)}`);
        const { facts, counters } = prog;
        if (change.length === 1) progs.set(facts.id, { facts, counters: undefined });
        else if (counters === undefined)
          throw new KtstrError(`programs: program ${facts.id} has no counters`);
        else
          progs.set(facts.id, {
            facts,
            counters: {
              count: counters.count + addedOf(calls),
              runTimeNs: counters.runTimeNs + addedOf(runTimeNs),
              misses: counters.misses + addedOf(misses),
            },
          });
      }
    if (line.has("programs_added"))
      for (const prog of line.children("programs_added")) progs.set(prog.integer("id"), progOf(prog));
  }

  #mapChanges(line: Reader): void {
    const maps = this.#maps;
    if (line.has("maps_removed")) for (const id of line.children("maps_removed")) maps.delete(id.asInteger());
    if (line.has("maps"))
      for (const [id, entries, bytes] of rowsOf(line, "maps")) {
        const map = maps.get(Number(id));
        if (map === undefined) throw new KtstrError(`maps: there is no map ${String(id)}`);
        maps.set(map.facts.id, { facts: map.facts, entries: countOf(entries), bytes: countOf(bytes) });
      }
    if (line.has("maps_added"))
      for (const map of line.children("maps_added")) maps.set(map.integer("id"), mapOf(map));
  }
}

function byId<T>(all: ReadonlyMap<number, T>, idOf: (item: T) => number): T[] {
  return [...all.values()].sort((a, b) => idOf(a) - idOf(b));
}

function rowsOf(line: Reader, key: string): readonly (readonly ParsedJson[])[] {
  const rows = line.raw(key);
  if (!Array.isArray(rows) || !rows.every((row) => Array.isArray(row)))
    throw new KtstrError(`${key} is not an array of arrays`);
  return rows as readonly (readonly ParsedJson[])[];
}

/** Returns the difference of a counter. Throws `KtstrError` if it is negative or has more than 64 bits. */
function addedOf(value: ParsedJson | undefined): bigint {
  if (typeof value === "bigint" && value >= 0n && value < 2n ** 64n) return value;
  if (Number.isSafeInteger(value) && (value as number) >= 0) return BigInt(value as number);
  throw new KtstrError("a difference is not a count");
}

function signedOf(value: ParsedJson): bigint {
  if (typeof value === "bigint" || Number.isSafeInteger(value)) return BigInt(value as number | bigint);
  throw new KtstrError("an event's difference is not an integer");
}

function countOf(value: ParsedJson | undefined): number | undefined {
  if (value === null || value === undefined) return undefined;
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw new KtstrError("a map's entries or bytes are not a count");
}

function progOf(prog: Reader): RoundProg {
  return {
    facts: {
      id: prog.integer("id"),
      type: prog.text("type"),
      name: prog.text("name"),
      tag: prog.text("tag"),
      loadTimeNs: prog.big("load_time_ns"),
      mapIds: prog.children("map_ids").map((id) => id.asInteger()),
    },
    counters: prog.has("run_cnt")
      ? {
          count: prog.big("run_cnt"),
          runTimeNs: prog.big("run_time_ns"),
          misses: prog.big("recursion_misses"),
        }
      : undefined,
  };
}

function mapOf(map: Reader): RoundMap {
  return {
    facts: {
      id: map.integer("id"),
      type: map.text("type"),
      name: map.text("name"),
      keySize: map.integer("bytes_key"),
      valueSize: map.integer("bytes_value"),
      maxEntries: map.integer("max_entries"),
    },
    entries: map.has("entries") ? map.integer("entries") : undefined,
    bytes: map.has("bytes_memlock") ? map.integer("bytes_memlock") : undefined,
  };
}

const linkOf = (link: Reader): LinkFacts => ({
  id: link.integer("id"),
  type: link.text("type"),
  progId: link.integer("prog_id"),
  place: link.text("place"),
});

function schedOf(sched: Reader, before: RoundSched | undefined): RoundSched {
  const isNew = sched.has("state") || before === undefined;
  const counts = new Map((isNew ? [] : before.events).map(({ name, count }) => [name, count]));
  if (sched.has("events")) {
    const events = sched.child("events");
    for (const name of events.names)
      counts.set(name, (counts.get(name) ?? 0n) + signedOf(events.raw(name) ?? null));
  }
  return {
    state: isNew ? sched.text("state") : before.state,
    ops: isNew ? sched.text("ops") : before.ops,
    enableSeq: isNew ? (sched.has("enable_seq") ? sched.big("enable_seq") : undefined) : before.enableSeq,
    events: [...counts].map(([name, count]) => ({ name, count })),
    queues: sched.has("queues")
      ? rowsOf(sched, "queues").map(([name, length]) => ({
          name: String(name),
          length: countOf(length) ?? 0,
        }))
      : undefined,
    waits: sched.has("waits")
      ? rowsOf(sched, "waits").map(([pid, comm, cpu, waitMs]) => ({
          pid: countOf(pid) ?? 0,
          comm: String(comm),
          cpu: countOf(cpu) ?? 0,
          waitMs: typeof waitMs === "number" ? waitMs : 0,
        }))
      : undefined,
  };
}

/** Limit on global variables in a record. */
const MAX_GLOBALS = 10_000;

function globalsOf(changes: Reader, before: readonly (PlainValue | undefined)[]): (PlainValue | undefined)[] {
  const values = [...before];
  for (const key of changes.names) {
    const index = Number(key);
    if (!(Number.isInteger(index) && index >= 0 && index < MAX_GLOBALS))
      throw new KtstrError(`globals: ${JSON.stringify(key)} is not the index of a variable`);
    values[index] = (changes.raw(key) ?? undefined) as PlainValue | undefined;
  }
  return values;
}
