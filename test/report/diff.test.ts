/** Differences between two snapshots, from reports made by hand. */
import { describe, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { KtstrError } from "../../src/errors.ts";
import { buildDiff, type Diff } from "../../src/report/diff.ts";
import { diffJson } from "../../src/report/diff-json.ts";
import { writeDiff } from "../../src/report/diff-text.ts";
import { stringify } from "../../src/report/json.ts";
import { Output } from "../../src/report/output.ts";
import { parseJson } from "../../src/report/parse-json.ts";
import { readSnapshot } from "../../src/report/snapshot.ts";
import { map, prog, ran, report, scheduler, section, snapshot } from "./reports.ts";
import { diffProblems, inspectionProblems } from "./schema.ts";

type Report = ReturnType<typeof report>;

const diff = (a: Report, b: Report): Diff => buildDiff(snapshot(a), snapshot(b));
const ids = (objects: readonly { readonly id: number }[]): number[] => objects.map(({ id }) => id);

function textOf(built: Diff, name = "report"): string {
  const path = join(mkdtempSync(join(tmpdir(), "ktstr-diff-")), "text");
  const fd = openSync(path, "w");
  const out = new Output(fd);
  const same = (text: string): string => text;
  writeDiff(out, built, [name, name], { heading: same, dim: same, alarm: same });
  out.flush();
  closeSync(fd);
  const text = readFileSync(path, "utf8");
  rmSync(dirname(path), { recursive: true });
  return text;
}

test("the reports of these tests follow the schema", () => {
  const all = report(1, {
    programs: [ran(1, "p", 2, 3)],
    maps: [map(1, "m"), section(2, "x.bss", { a: 1 })],
    scheduler: scheduler("simple", [1]),
  });
  expect(
    inspectionProblems(
      JSON.parse(JSON.stringify(all, (_, value) => (typeof value === "bigint" ? Number(value) : value))),
    ),
  ).toEqual([]);
});

describe("sched_ext", () => {
  const state = (
    events: { readonly [name: string]: number },
    queues: readonly object[],
    more: object = {},
  ): Report => ({
    ...report(10, { programs: [prog(1, "p")], scheduler: scheduler("simple", [1]) }),
    sched: [{ ops: "simple", place: "root", findings: [], queues, events, ...more }] as never,
  });
  const shared = (length: number): object => ({ id: "0x5ced0", name: "shared_dsq", kind: "user", length });
  const local = (cpu: number, length: number): object => ({
    id: "0x8000000000000002",
    kind: "local",
    cpu,
    length,
  });
  const a = state({ SCX_EV_A: 5, SCX_EV_B: 7, SCX_EV_GONE: 1 }, [shared(2), local(0, 4)]);
  const b = state({ SCX_EV_A: 9, SCX_EV_B: 7, SCX_EV_NEW: 0 }, [shared(12), local(1, 1)]);

  test("counters and queue lengths that changed; a queue that a side does not list is empty", () => {
    const { sched } = diff(a, b);
    expect(sched.events.map(({ name, a: before, b: after }) => [name, before, after])).toEqual([
      ["SCX_EV_A", 5n, 9n],
      ["SCX_EV_GONE", 1n, undefined],
      ["SCX_EV_NEW", undefined, 0n],
    ]);
    expect(sched.queues.map(({ queue: { kind, cpu }, a: was, b: is }) => [kind, cpu, was, is])).toEqual([
      ["user", undefined, 2, 12],
      ["local", 1, undefined, 1],
      ["local", 0, 4, undefined],
    ]);
    expect(diffProblems(JSON.parse(stringify(diffJson(diff(a, b), ["a", "b"]))))).toEqual([]);
    const page = textOf(diff(a, { ...b, kernel: { ...(b["kernel"] as object), uptime_ns: 12e9 } as never }));
    expect(page).toContain("  SCX_EV_A     5 -> 9  (+4, 2/s)");
    expect(page).toContain("  0x5ced0 (shared_dsq)  2 -> 12");
    expect(page).toContain("  local CPU 0           4 -> 0");
  });

  test("nothing is compared if the schedulers differ, or if a side has no data", () => {
    const other = { ...b, scheduler: scheduler("central", [1]) };
    const silent = { ...b };
    delete (silent as { sched?: unknown }).sched;
    for (const against of [other, silent]) expect(diff(a, against).sched).toEqual({ events: [], queues: [] });
  });

  test("hostile names are escaped", () => {
    const evil = "\u001b[31m\u202e";
    const of = (count: number): Report =>
      state({ [evil]: count }, [{ id: evil, name: evil, kind: evil, length: count }], { place: evil });
    const text = textOf(diff(of(1), of(2)));
    expect(text).toContain("\\x1b[31m");
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  });

  test("equal sides have no changes", () => {
    expect(textOf(diff(a, a))).toContain("Nothing changed.");
    expect(inspectionProblems(JSON.parse(stringify(a)))).toEqual([]);
  });
});

describe("costs", () => {
  test("are increments between A and B, per second", () => {
    const { costs, elapsedNs } = diff(
      report(10, { programs: [ran(1, "a", 100, 1000), ran(2, "b", 5, 50)] }),
      report(14, { programs: [ran(1, "a", 300, 4000), ran(2, "b", 15, 1050)] }),
    );
    expect(elapsedNs).toBe(4_000_000_000n);
    expect(costs.map(({ prog }) => prog.name)).toEqual(["a", "b"]);
    expect(costs[0]?.between).toEqual({
      calls: 200n,
      runTimeNs: 3000n,
      misses: 0n,
      nsPerCall: 15,
      share: 0.75,
      windowNs: 4_000_000_000n,
      callsPerSecond: 50,
      nsPerSecond: 750,
      reset: false,
    });
    expect(costs[0]?.a?.nsPerCall).toBe(10);
    expect(costs[1]?.between).toMatchObject({ share: 0.25, nsPerCall: 100 });
  });

  test("above 2^53 are exact", () => {
    const [cost] = diff(
      report(1, { programs: [ran(1, "a", 1n, 2n ** 64n - 10n)] }),
      report(2, { programs: [ran(1, "a", 2n, 2n ** 64n - 3n)] }),
    ).costs;
    expect(cost?.between?.runTimeNs).toBe(7n);
  });

  test("count from 0 if a counter decreased, and say so", () => {
    const [cost] = diff(
      report(1, { programs: [ran(1, "a", 500, 9000)] }),
      report(2, { programs: [ran(1, "a", 20, 400)] }),
    ).costs;
    expect(cost?.between).toMatchObject({ calls: 20n, runTimeNs: 400n, reset: true });
  });

  test("of a program that was loaded in between count from its load", () => {
    const [cost] = diff(
      report(10),
      report(20, { programs: [ran(9, "new", 30, 60, { load_time_ns: 17e9 })] }),
    ).costs;
    expect(cost?.a).toBeUndefined();
    expect(cost?.between).toMatchObject({ calls: 30n, windowNs: 3_000_000_000n, callsPerSecond: 10 });
  });

  test("of programs that did not run, or are gone, are left out", () => {
    const { costs } = diff(
      report(1, { programs: [ran(1, "still", 5, 5), ran(2, "gone", 5, 5)] }),
      report(2, { programs: [ran(1, "still", 5, 5), prog(3, "never")] }),
    );
    expect(costs).toEqual([]);
  });

  test("have no rates if a report has no time, or no time passed", () => {
    const programs = [[ran(1, "a", 1, 1)], [ran(1, "a", 2, 2)]] as const;
    for (const [from, to] of [
      [undefined, 5],
      [5, undefined],
      [5, 5],
    ]) {
      const [cost] = diff(
        report(from, { programs: programs[0] }),
        report(to, { programs: programs[1] }),
      ).costs;
      expect(cost?.between).toMatchObject({ calls: 1n, callsPerSecond: undefined, nsPerSecond: undefined });
    }
    expect(diff(report(undefined), report(5)).notes.join()).toContain("no rates");
  });

  test("of a program whose statistics could not be read are left out", () => {
    const unreadable = { stats_unreadable: "not present" };
    const { costs } = diff(
      report(1, { programs: [prog(1, "a", unreadable)] }),
      report(2, { programs: [ran(1, "a", 2, 2)] }),
    );
    expect(costs).toEqual([]);
  });
});

describe("the identity of objects", () => {
  test("within a boot: by id and name; a new object with an old name is another object", () => {
    const { maps } = diff(
      report(1, { maps: [map(5, "x.bss"), map(6, "kept"), map(7, "gone")] }),
      report(2, { maps: [map(6, "kept"), map(12, "x.bss"), map(13, "new")] }),
    );
    expect(ids(maps.gone)).toEqual([5, 7]);
    expect(ids(maps.appeared)).toEqual([12, 13]);
    expect([...maps.replaced]).toEqual([[12, 5]]);
  });

  test("an object that is still held is not new", () => {
    const { maps } = diff(
      report(1, { maps: [map(5, "x.bss")] }),
      report(2, { maps: [map(5, "x.bss"), map(12, "x.bss")] }),
    );
    expect([ids(maps.gone), ids(maps.appeared), [...maps.replaced]]).toEqual([[], [12], []]);
  });

  test("a reused id is another object", () => {
    const { maps, progs } = diff(
      report(1, { maps: [map(5, "a")], programs: [prog(1, "p", { load_time_ns: 5 }), prog(2, "q")] }),
      report(2, { maps: [map(5, "b")], programs: [prog(1, "p", { load_time_ns: 9 }), prog(2, "q")] }),
    );
    expect([ids(maps.gone), ids(maps.appeared)]).toEqual([[5], [5]]);
    expect([ids(progs.gone), ids(progs.appeared)]).toEqual([[1], [1]]);
  });

  test("across boots: by name and code, in order, and costs are totals", () => {
    const { progs, maps, costs, sameBoot, elapsedNs, notes, globals } = diff(
      report(50, {
        programs: [ran(1, "p", 10, 100), prog(2, "q", { tag: "aaaaaaaaaaaaaaaa" })],
        maps: [map(1, "twin", { count: 1 }), map(2, "twin", { count: 2 }), section(3, "x.bss", { n: 1 })],
      }),
      report(
        20,
        {
          programs: [ran(101, "p", 40, 800), prog(102, "q", { tag: "bbbbbbbbbbbbbbbb" })],
          maps: [map(7, "twin", { count: 1 }), map(8, "twin", { count: 2 }), section(9, "x.bss", { n: 2 })],
        },
        { boot_time_unix_ns: 1_790_000_900_000_000_000n },
      ),
    );
    expect([sameBoot, elapsedNs]).toEqual([false, undefined]);
    expect(notes.join()).toContain("different boots (900 s apart)");
    expect([progs.gone, progs.appeared, maps.gone, maps.appeared]).toEqual([[], [], [], []]);
    expect(costs).toHaveLength(1);
    expect(costs[0]).toMatchObject({ a: { nsPerCall: 10 }, b: { nsPerCall: 20 }, between: undefined });
    expect(globals.map(({ a, b }) => [a.id, b.id])).toEqual([[3, 9]]);
  });

  test("another kernel is another boot", () => {
    expect(diff(report(1), report(2, {}, { release: "7.3.0" })).sameBoot).toBe(false);
  });

  test("a changed clock is not another boot if a program with the same load time in ns exists", () => {
    const programs = [prog(1, "p")];
    const set = { boot_time_unix_ns: 1_790_000_900_000_000_000n };
    expect(diff(report(1, { programs }), report(2, { programs }, set)).sameBoot).toBe(true);
    expect(diff(report(1), report(2, {}, set)).sameBoot).toBe(false);
  });

  test("A after B is an error that says so", () => {
    const wrong = (): Diff => diff(report(9), report(7.5));
    expect(wrong).toThrow(KtstrError);
    expect(wrong).toThrow("A was made 1.5 s after B");
  });

  test("links are identified by id; a link whose program changed is a change", () => {
    const link = (id: number, progId: number): object => ({ id, type: "xdp", prog_id: progId });
    const built = diff(
      report(1, { links: [link(1, 10), link(2, 20), link(3, 30)] as never }),
      report(2, { links: [link(2, 21), link(3, 30), link(4, 40)] as never }),
    );
    expect([ids(built.links.gone), ids(built.links.appeared)]).toEqual([[1], [4]]);
    expect(built.changedLinks.map(([a, b]) => [a.id, a.progId, b.progId])).toEqual([[2, 20, 21]]);
  });
});

describe("the scheduler", () => {
  const simple = scheduler("simple", [1, 2]);
  test.each([
    ["none", null, null],
    ["attached", null, simple],
    ["detached", simple, null],
    ["same", simple, scheduler("simple", [1, 2], "disabling")],
    ["reloaded", simple, scheduler("simple", [7, 8])],
    ["replaced", simple, scheduler("central", [7, 8])],
  ] as const)("%s", (kind, a, b) => {
    expect(diff(report(1, { scheduler: a }), report(2, { scheduler: b })).scheduler.kind).toBe(kind);
  });
});

describe("global variables", () => {
  const changes = (a: Report, b: Report): unknown[] =>
    diff(a, b).globals.flatMap(({ variables }) => variables.flatMap((variable) => variable.changes));
  const bss = (variables: Parameters<typeof section>[2]): Report =>
    report(1, { maps: [section(3, "x.bss", variables)] });

  test("that changed are listed by the paths of the changed parts", () => {
    expect(
      changes(
        bss({ same: 1, n: 5, s: { a: [1, 2, 3], b: { c: true } }, text: "old" }),
        bss({ same: 1, n: 6, s: { a: [1, 9, 3], b: { c: false } }, text: "new" }),
      ),
    ).toEqual([
      { path: "n", a: 5, b: 6 },
      { path: "s.a[1]", a: 2, b: 9 },
      { path: "s.b.c", a: true, b: false },
      { path: "text", a: "old", b: "new" },
    ]);
  });

  test("of 64 bits that differ in the last bit differ", () => {
    expect(changes(bss({ n: 2n ** 63n }), bss({ n: 2n ** 63n + 1n }))).toEqual([
      { path: "n", a: 2n ** 63n, b: 2n ** 63n + 1n },
    ]);
    expect(changes(bss({ n: 2n ** 63n }), bss({ n: 2n ** 63n }))).toEqual([]);
  });

  test("that are new, gone, or changed their type are shown whole", () => {
    expect(
      changes(bss({ old: 1, kind: 5, list: [1] }), bss({ kind: { x: 1 }, list: [1, 2], fresh: null })),
    ).toEqual([
      { path: "kind", a: 5, b: { x: 1 } },
      { path: "list[1]", a: undefined, b: 2 },
      { path: "fresh", a: undefined, b: null },
      { path: "old", a: 1, b: undefined },
    ]);
  });
});

test("maps of both sides are listed if their count, cost or state changed", () => {
  const { changedMaps } = diff(
    report(1, { maps: [map(1, "same", { count: 5 }), map(2, "more", { count: 5 }), map(3, "frozen")] }),
    report(2, {
      maps: [map(1, "same", { count: 5 }), map(2, "more", { count: 7 }), map(3, "frozen", { frozen: 1 })],
    }),
  );
  expect(changedMaps.map(([a, b]) => [a.id, a.count, b.count])).toEqual([
    [2, 5, 7],
    [3, 0, 0],
  ]);
});

test("warnings of only one side are listed", () => {
  const { warnings } = diff(
    report(1, { warnings: ["both", "old"] }),
    report(2, { warnings: ["new", "both"] }),
  );
  expect(warnings).toEqual({ onlyA: ["old"], onlyB: ["new"] });
});

describe("the error of a damaged report has the path to the damage", () => {
  test.each([
    [{ ...report(1), schema: "else" }, "JSON, but not a ktstr report"],
    [{ ...report(1), schema_version: 2 }, "the report has version 2"],
    [[1], "JSON, but not a ktstr report"],
    [{ ...report(1), maps: 5 }, "maps is not an array"],
    [report(1, { maps: [map(1, "a"), { id: -1 }] }), "maps[1].id is not a count"],
    [report(1, { maps: [null] }), "maps[0] is not an object"],
    [report(1, { programs: [ran(1, "a", "many", 1)] }), "programs[0].run_cnt is not a count"],
    [report(1, {}, { release: 7 }), "kernel.release is not a string"],
    [report(1, { scheduler: { ops: "x" } }), "scheduler.object is not there"],
  ])("%#", (damaged, sentence) => expect(() => snapshot(damaged as Report)).toThrow(sentence));
});

describe("a hostile report", () => {
  test("has all control characters escaped", () => {
    const evil = "\u001b[31m\u202e\n";
    const side = (n: number): Report =>
      report(
        n,
        {
          programs: [ran(1, evil, n, n, { type: evil }), prog(n, evil, { type: evil, tag: evil })],
          maps: [
            map(1, evil, { type: evil, count: n }),
            map(10 + n, evil, { type: evil }),
            section(50, evil, { [evil]: { [evil]: `${evil}${n}` } }),
          ],
          links: [{ id: n, type: evil, prog_id: 1 }],
          scheduler: scheduler(`${evil}${n}`, [n], `${evil}${n}`),
          warnings: [`${evil}${n}`],
        },
        { release: evil, machine: evil },
      );
    const text = textOf(diff(side(2), side(3)), evil);
    expect(text.split("\n").length).toBeGreaterThan(15);
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    expect(text).toContain("\\x1b[31m");
  });

  test("is compared or is a KtstrError, for any changed byte", () => {
    const good = readFileSync(join(import.meta.dir, "../docs/before.json"), "latin1");
    const whole = readSnapshot(parseJson(good, "good"), "good");
    let seed = 1;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    const BYTES = '{}[]":,0-9e.ntf\\ "';
    let refused = 0;
    for (let round = 0; round < 3000; round++) {
      const at = random(good.length);
      const bad = good.slice(0, at) + BYTES[random(BYTES.length)] + good.slice(at + random(3));
      try {
        buildDiff(whole, readSnapshot(parseJson(bad, "bad"), "bad"));
      } catch (error) {
        if (!(error instanceof KtstrError)) throw error;
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(500);
  });
});
