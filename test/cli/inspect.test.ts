import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { release } from "node:os";
import { enableStats, statsSwitchedOn } from "../../src/live/stats.ts";
import { realSys } from "../../src/live/sys.ts";
import { CLI, ktstr, missing, ours, parseExact, whyNoKernel } from "../live/bpftool.ts";
import { type HeldMap, Kit } from "../live/kit.ts";
import { openRawTracepoint } from "../live/kit-links.ts";
import { loadProg, testRun, usesMaps } from "../live/kit-progs.ts";

interface Inspected {
  readonly schema: string;
  readonly schema_version: number;
  readonly kernel: { readonly release: string; readonly possible_cpus: number };
  readonly scheduler: unknown;
  readonly content_limit: number;
  readonly programs: readonly { readonly id: number }[];
  readonly links: readonly { readonly id: number }[];
  readonly maps: readonly {
    readonly id: number;
    readonly entries: readonly { readonly key: string; readonly value?: string }[];
    readonly count: number;
    readonly count_is_whole: boolean;
  }[];
}

describe.skipIf(whyNoKernel() !== "")("ktstr inspect", () => {
  const kit = new Kit();
  let map: HeldMap;
  let empty: HeldMap;
  beforeAll(() => {
    map = kit.map({ type: "hash", name: "inspected", keySize: 4, valueSize: 4, maxEntries: 100 });
    kit.fill(map, 20);
    empty = kit.map({ type: "hash", name: "empty" });
  });
  afterAll(() => kit[Symbol.dispose]());

  const inspect = (...words: string[]): Inspected => {
    const ran = ktstr(["-j", "inspect", ...words]);
    // Strangers' objects may come and go: what is said of them goes to stderr, and is no failure.
    expect(ran.status).toBe(0);
    return parseExact(ran.out) as Inspected;
  };

  test("--json has a schema, the kernel, and every object under bpftool's keys", () => {
    const prog = loadProg(kit, { type: "raw_tracepoint", code: usesMaps(map) });
    const link = openRawTracepoint(kit, prog, "xdp_exception");
    const report = inspect();
    expect(report).toMatchObject({
      schema: "ktstr-inspect",
      schema_version: 1,
      kernel: { release: release() },
    });
    for (const [kind, list, id] of [
      ["map", report.maps, map.id],
      ["prog", report.programs, prog.id],
      ["link", report.links, link.id],
    ] as const) {
      const mine = list.find((object) => object.id === id);
      // Counters go on between the two answers where statistics are on, which somebody else may have done.
      const { run_time_ns, run_cnt, ...still } = Object(ours(kind, "show", "id", String(id)));
      expect(missing(mine, still)).toEqual([]);
    }
  });

  for (const limit of [0, 1, 8, 20, 21]) {
    test(`shows ${limit} entries of a map where that is the limit, and counts all of them`, () => {
      const report = inspect("--limit", String(limit));
      expect(report.content_limit).toBe(limit);
      const shown = report.maps.find(({ id }) => id === map.id);
      expect(shown?.entries).toHaveLength(Math.min(limit, 20));
      expect(shown).toMatchObject({ count: 20, count_is_whole: true });
      for (const { key, value } of shown?.entries ?? []) expect(value).toBe(key.slice(0, 2).repeat(4));
      expect(report.maps.find(({ id }) => id === empty.id)).toMatchObject({ entries: [], count: 0 });
    });
  }

  test("for people has the kernel, the scheduler's absence and the map's entries", () => {
    const ran = ktstr(["inspect", "--limit", "2"]);
    expect(ran.status).toBe(0);
    expect(ran.out).toContain(release());
    expect(ran.out).toMatch(new RegExp(`^ *${map.id} +inspected +hash`, "m"));
    for (const heading of ["Kernel", "Scheduler", "Programs", "Links", "Maps"])
      expect(ran.out).toContain(heading);
  });
});

describe.skipIf(whyNoKernel() !== "")("--stats SECONDS", () => {
  test("counts for so long, says what was counted, and no longer", async () => {
    using kit = new Kit();
    const prog = loadProg(kit, { type: "socket_filter", name: "counted" });
    const count = (): number =>
      (ours("prog", "show", "id", String(prog.id)) as { run_cnt?: number }).run_cnt ?? 0;
    testRun(prog, 1);
    const strangers = count() > 0; // somebody else's switch is on: nothing can be told of ours
    const command = [process.execPath, CLI, "-j", "prog", "show", "id", String(prog.id), "--stats", "1"];
    const child = Bun.spawn(command, { stdout: "pipe", stderr: "pipe" });
    // Runs it until it has been counted, then for as long as the switch is on.
    while (child.exitCode === null) {
      testRun(prog, 100);
      await Bun.sleep(10);
    }
    expect(await new Response(child.stderr).text()).toBe("");
    const told = JSON.parse(await new Response(child.stdout).text()) as {
      run_cnt: number;
      run_time_ns: number;
    };
    expect(told.run_cnt).toBeGreaterThan(100);
    expect(told.run_time_ns).toBeGreaterThan(0);
    const after = count();
    testRun(prog, 1000);
    if (!strangers && statsSwitchedOn(realSys) === false) expect(count()).toBe(after);
    else console.warn("not compared: run-time statistics are on for somebody else");
  });

  test("shows the costs of those seconds, and totals beside them", async () => {
    using kit = new Kit();
    using _on = enableStats();
    const prog = loadProg(kit, { type: "socket_filter", name: "interval" });
    testRun(prog, 1000);
    const child = Bun.spawn(
      [process.execPath, CLI, "-j", "prog", "show", "id", String(prog.id), "--stats", "0.5"],
      { stdout: "pipe", stderr: "pipe" },
    );
    let runs = 1000;
    while (child.exitCode === null) {
      testRun(prog, 100);
      runs += 100;
      await Bun.sleep(10);
    }
    const told = JSON.parse(await child.stdout.text()) as {
      run_cnt: number;
      run_time_ns: number;
      interval: { seconds: number; run_cnt: number; run_time_ns: number };
    };
    const { interval } = told;
    expect(interval.seconds).toBeGreaterThanOrEqual(0.5);
    expect(interval.run_cnt).toBeGreaterThan(100);
    expect(told.run_cnt - interval.run_cnt).toBeGreaterThanOrEqual(1000);
    expect(told.run_cnt).toBeLessThanOrEqual(runs);
    expect(interval.run_time_ns).toBeLessThan(told.run_time_ns);
    const page = ktstr(["inspect", "--stats", "0.2"]).out;
    expect(page).toMatch(/Programs \(\d+\) {2}\(costs of 0\.\d+ s, and totals\)/);
    expect(page).not.toContain("statistics are off");
  });

  test("is off again where the command is killed", async () => {
    using kit = new Kit();
    const prog = loadProg(kit, { type: "socket_filter", name: "killed" });
    const count = (): number =>
      (ours("prog", "show", "id", String(prog.id)) as { run_cnt?: number }).run_cnt ?? 0;
    testRun(prog, 1);
    if (count() > 0) {
      console.warn("not compared: run-time statistics are on for somebody else");
      return;
    }
    const child = Bun.spawn([process.execPath, CLI, "inspect", "--stats", "60"], {
      stdout: "pipe",
      stderr: "pipe",
    });
    for (let tries = 0; tries < 500 && count() === 0; tries++) {
      testRun(prog, 1);
      await Bun.sleep(10);
    }
    expect(count()).toBeGreaterThan(0);
    child.kill("SIGINT");
    await child.exited;
    expect(await new Response(child.stderr).text()).toBe("");
    const after = count();
    testRun(prog, 100);
    expect(count()).toBe(after);
  });
});
