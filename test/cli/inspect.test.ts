/** `ktstr inspect` of the running kernel, compared with bpftool. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { release } from "node:os";
import { enableStats } from "../../src/live/stats.ts";
import { CLI, kernelSkipReason, ktstr, ktstrJson, missing, parseExact } from "../live/bpftool.ts";
import { type Held, type HeldMap, Kit } from "../live/kit.ts";
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

describe.skipIf(kernelSkipReason() !== "")("ktstr inspect", () => {
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
    // Other processes create and free objects during the test. Warnings about them go to stderr, and are not failures.
    expect(ran.status).toBe(0);
    return parseExact(ran.out) as Inspected;
  };

  test("--json has a schema, the kernel, and every object with bpftool's keys", () => {
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
      // Counters can change between the two answers if another process enabled statistics. The page does not show who holds
      // an object.
      const { run_time_ns, run_cnt, pids, ...still } = Object(ktstrJson(kind, "show", "id", String(id)));
      expect(missing(mine, still)).toEqual([]);
    }
  });

  for (const limit of [0, 1, 8, 20, 21]) {
    test(`shows ${limit} entries of a map with that limit, and counts all of them`, () => {
      const report = inspect("--limit", String(limit));
      expect(report.content_limit).toBe(limit);
      const shown = report.maps.find(({ id }) => id === map.id);
      expect(shown?.entries).toHaveLength(Math.min(limit, 20));
      expect(shown).toMatchObject({ count: 20, count_is_whole: true });
      for (const { key, value } of shown?.entries ?? []) expect(value).toBe(key.slice(0, 2).repeat(4));
      expect(report.maps.find(({ id }) => id === empty.id)).toMatchObject({ entries: [], count: 0 });
    });
  }

  test("as text has the kernel, no scheduler, and the entries of the map", () => {
    const ran = ktstr(["inspect", "--limit", "2"]);
    expect(ran.status).toBe(0);
    expect(ran.out).toContain(release());
    expect(ran.out).toMatch(new RegExp(`^ *${map.id} +inspected +hash`, "m"));
    for (const heading of ["Kernel", "Scheduler", "Programs", "Links", "Maps"])
      expect(ran.out).toContain(heading);
  });
});

/** Waits until statistics are off, because other processes can enable them for some time. */
async function waitForStatsOff(prog: Held, count: () => number): Promise<void> {
  for (let tries = 0; ; tries++) {
    const before = count();
    testRun(prog, 100);
    if (count() === before) return;
    if (tries === 200) throw new Error("run-time statistics stay on");
    await Bun.sleep(100);
  }
}

describe.skipIf(kernelSkipReason() !== "")("--stats SECONDS", () => {
  test("enables statistics for this time, and says so", async () => {
    using kit = new Kit();
    const prog = loadProg(kit, { type: "socket_filter", name: "counted" });
    const count = (): number =>
      (ktstrJson("prog", "show", "id", String(prog.id)) as { run_cnt?: number }).run_cnt ?? 0;
    await waitForStatsOff(prog, count);
    const command = [process.execPath, CLI, "-j", "prog", "show", "id", String(prog.id), "--stats", "1"];
    const child = Bun.spawn(command, { stdout: "pipe", stderr: "pipe" });
    // Runs the program until it is counted, then until statistics are off.
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
    await waitForStatsOff(prog, count);
  });

  test("shows the costs within these seconds beside the totals", async () => {
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

  test("statistics are off after the command is killed", async () => {
    using kit = new Kit();
    const prog = loadProg(kit, { type: "socket_filter", name: "killed" });
    const count = (): number =>
      (ktstrJson("prog", "show", "id", String(prog.id)) as { run_cnt?: number }).run_cnt ?? 0;
    await waitForStatsOff(prog, count);
    const before = count();
    const child = Bun.spawn([process.execPath, CLI, "inspect", "--stats", "60"], {
      stdout: "pipe",
      stderr: "pipe",
    });
    for (let tries = 0; tries < 500 && count() === before; tries++) {
      testRun(prog, 1);
      await Bun.sleep(10);
    }
    expect(count()).toBeGreaterThan(before);
    child.kill("SIGINT");
    await child.exited;
    expect(await new Response(child.stderr).text()).toBe("");
    await waitForStatsOff(prog, count);
  });
});

describe.skipIf(kernelSkipReason() !== "")("the page's lines", () => {
  test("costs are in one column, even beside the longest name of a program type", () => {
    using kit = new Kit();
    using _on = enableStats();
    // Runs at the end of every test run (include/trace/events/bpf_test_run.h).
    const writable = loadProg(kit, { type: "raw_tracepoint_writable", name: "longest" });
    openRawTracepoint(kit, writable, "bpf_test_finish");
    const filter = loadProg(kit, { type: "socket_filter", name: "shorter" });
    testRun(filter, 10);
    const lines = ktstr(["inspect", "--limit", "0"]).out.split("\n");
    const rows = [writable, filter].map(({ id }) =>
      lines.find((line) => line.startsWith(`${id}`.padStart(6))),
    );
    expect(rows[0]).toContain("longest");
    expect(rows[0]).toContain("raw_tracepoint_writable  ");
    const columns = rows.map((row) => row!.indexOf("%"));
    expect(columns[0]).toBeGreaterThan(0);
    expect(columns[1]).toBe(columns[0]!);
  });

  test("four or more full maps give one warning, three give three", () => {
    using kit = new Kit();
    const full = (prefix: string, count: number): number[] =>
      Array.from({ length: count }, (_, index) => {
        const map = kit.map({ type: "hash", name: `${prefix}${index}`, maxEntries: 2 });
        kit.fill(map, 2);
        return map.id;
      });
    const warningsOf = (ids: readonly number[]): string[] =>
      ktstr(["inspect", "--limit", "0"])
        .out.split("\n")
        .filter((line) => / (is|are) full: /.test(line) && ids.some((id) => line.includes(`${id} (`)));
    const ids = full("few_", 3);
    const few = warningsOf(ids);
    // Full maps of other processes count, too, and are named in the same line.
    expect([1, 3]).toContain(few.length);
    ids.push(...full("many_", 4));
    const many = warningsOf(ids);
    expect(many).toHaveLength(1);
    for (const id of ids) expect(many[0]).toContain(`${id} (`);
  });
});
