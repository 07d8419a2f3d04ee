/** Record files: they are read back as written, and a cut or damaged file gives the rounds before the damage. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KtstrError } from "../../src/errors.ts";
import { openRecord, type RecordFile } from "../../src/report/record-read.ts";
import { headerLine, RoundLines } from "../../src/report/record-write.ts";
import type { MapFacts, ProgFacts, Round, SeriesFacts } from "../../src/round.ts";
import { recordProblems } from "./schema.ts";

const dir = mkdtempSync(join(tmpdir(), "ktstr-record-"));
afterAll(() => rmSync(dir, { recursive: true }));

const FACTS: SeriesFacts = {
  source: "the running kernel",
  kernel: {
    release: "7.2.13",
    machine: "x86_64",
    possibleCpus: 4,
    onlineCpus: undefined,
    bootTimeUnixNs: 1_795_847_161_776_593_786n,
  },
  globals: ["scx.bss:nr", "flags"],
};

const prog = (id: number, loadTimeNs: bigint): ProgFacts => ({
  id,
  type: "xdp",
  name: `p"${id}\u001b\\`,
  tag: "0123456789abcdef",
  loadTimeNs,
  mapIds: [7, 8],
});
const map = (id: number): MapFacts => ({
  id,
  type: "hash",
  name: "m",
  keySize: 4,
  valueSize: 8,
  maxEntries: 99,
});
const first = prog(1, 5n);
const second = prog(2, 2n ** 63n);
const again = prog(2, 2n ** 63n + 1n);
const seven = map(7);
const eight = map(8);
const link = { id: 3, type: "xdp", progId: 1, place: "on interface eth0" };
const counters = (count: bigint): { count: bigint; runTimeNs: bigint; misses: bigint } => ({
  count,
  runTimeNs: count * 10n,
  misses: 0n,
});
const BASE: Round = {
  atMs: 0,
  unixMs: 1_795_865_480_860,
  pauseMs: undefined,
  progs: [],
  maps: [],
  links: [],
  sched: undefined,
  globals: [undefined, undefined],
};
const event = (name: string, count: bigint): { name: string; count: bigint } => ({ name, count });
const SCHED = { state: "enabled", ops: "flatcg", enableSeq: 1n, queues: undefined, waits: undefined };

/** A round in which everything that can change has changed. */
const ROUNDS: readonly Round[] = [
  BASE,
  {
    ...BASE,
    atMs: 500.25,
    pauseMs: 1.5,
    progs: [
      { facts: first, counters: counters(2n ** 64n - 1n) },
      { facts: second, counters: counters(0n) },
    ],
    maps: [{ facts: seven, entries: 3, bytes: undefined }],
    links: [link],
    sched: { ...SCHED, events: [event("SCX_EV_A", 0n), event("SCX_EV_B", 2n ** 60n)] },
    globals: [5, { a: [1n << 63n], b: "x" }],
  },
  {
    ...BASE,
    atMs: 1000,
    progs: [
      { facts: first, counters: undefined },
      { facts: again, counters: counters(7n) },
    ],
    maps: [
      { facts: seven, entries: undefined, bytes: 4096 },
      { facts: eight, entries: 0, bytes: 0 },
    ],
    sched: {
      ...SCHED,
      events: [event("SCX_EV_A", 4n), event("SCX_EV_B", 2n ** 60n), event("SCX_EV_C", 1n)],
      queues: [{ name: "local CPU 0", length: 3 }],
      waits: [{ pid: 12, comm: "\u001b[2J", cpu: 1, waitMs: 4.5 }],
    },
    globals: [5, undefined],
  },
  {
    ...BASE,
    atMs: 1500,
    progs: [
      { facts: first, counters: counters(1n) },
      { facts: again, counters: counters(9n) },
    ],
    maps: [{ facts: eight, entries: 1, bytes: 0 }],
    sched: { ...SCHED, enableSeq: 2n, ops: "simple", events: [event("SCX_EV_A", 1n)] },
  },
  { ...BASE, atMs: 2000, progs: [{ facts: again, counters: counters(3n) }] },
];

function textOf(rounds: readonly Round[]): string {
  const lines = new RoundLines();
  return [headerLine(FACTS, 500, "0.1.0"), ...rounds.map((round) => lines.next(round)), ""].join("\n");
}

let files = 0;
function opened(content: string | Uint8Array): RecordFile {
  const path = join(dir, `${files++}`);
  writeFileSync(path, content);
  return openRecord(path);
}

const WHOLE = textOf(ROUNDS);

test("a record is read back as it was written", () => {
  const file = opened(WHOLE);
  expect(file.facts).toEqual(FACTS);
  expect(file.intervalMs).toBe(500);
  const read = [...file.rounds()];
  expect(read).toHaveLength(ROUNDS.length);
  for (const [index, round] of read.entries()) {
    const { globals, ...rest } = ROUNDS[index]!;
    expect(round).toMatchObject(rest);
    for (const [at, value] of globals.entries()) expect(round.globals[at]).toEqual(value as never);
  }
  expect(file.damage).toBe("");
});

test("facts of an object stay the same JavaScript object while the kernel object is the same", () => {
  const read = [...opened(WHOLE).rounds()];
  expect(read[3]!.progs[1]!.facts).toBe(read[2]!.progs[1]!.facts);
  expect(read[2]!.progs[1]!.facts).not.toBe(read[1]!.progs[1]!.facts);
});

test("every line follows the schema", () => {
  for (const line of WHOLE.trimEnd().split("\n")) expect(recordProblems(JSON.parse(line))).toEqual([]);
  expect(recordProblems({ at_us: 1, unix_ms: 2, programs: [[1]] })).toEqual([]);
  expect(recordProblems({ at_us: 1, unix_ms: 2, programs: [[1, 2]] })).not.toEqual([]);
  expect(recordProblems({ at_us: 1, unix_ms: 2, maps: [[1, 2]] })).not.toEqual([]);
  expect(recordProblems({ unix_ms: 2 })).not.toEqual([]);
});

test("a file that is cut at any byte has every round with a complete line, and reports the rest", () => {
  const bytes = Buffer.from(WHOLE);
  const header = bytes.indexOf(10) + 1;
  for (let length = header; length < bytes.length; length++) {
    const cut = bytes.subarray(0, length);
    const whole = cut.toString("latin1").split("\n").length - 2;
    const file = opened(cut);
    expect([...file.rounds()]).toHaveLength(whole);
    expect(file.damage === "").toBe(cut.at(-1) === 10);
  }
});

test("a file without a complete header is an error", () => {
  for (const text of ["", "{}\n", "no", WHOLE.slice(0, 100)]) expect(() => opened(text)).toThrow(KtstrError);
  expect(() => opened(WHOLE.replace('"schema_version":1', '"schema_version":2'))).toThrow("version 2");
  expect(() => openRecord(join(dir, "none"))).toThrow("ENOENT");
});

test("lines after a damaged line are ignored", () => {
  const lines = WHOLE.split("\n");
  for (const broken of [
    "{",
    '{"at_us":-1,"unix_ms":1}',
    '{"at_us":1,"unix_ms":1,"programs":[[99,1,1,1]]}',
    '{"at_us":1,"unix_ms":1,"maps":[[99,1,1]]}',
    '{"at_us":1,"unix_ms":1,"programs":[[1,-1,1,1]]}',
    '{"at_us":1,"unix_ms":1,"globals":{"__proto__":1}}',
    '{"at_us":1,"unix_ms":1,"globals":{"4000000000":1}}',
  ]) {
    const file = opened([...lines.slice(0, 3), broken, ...lines.slice(3)].join("\n"));
    expect([...file.rounds()]).toHaveLength(2);
    expect(file.damage).toContain("line 4 is damaged");
  }
});

test("a file with random bytes changed gives rounds or a KtstrError", () => {
  const bytes = Buffer.from(WHOLE);
  let seed = 1;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % below;
  };
  for (let run = 0; run < 2000; run++) {
    const mutant = Buffer.from(bytes);
    for (let change = 0; change <= random(4); change++) mutant[random(mutant.length)] = random(256);
    try {
      for (const _ of opened(mutant).rounds());
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
    }
  }
});
