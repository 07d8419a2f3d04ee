/**
 * Rounds of a running guest: from outside with `--vm`, and inside it live and through /proc/kcore, compared with the answers of
 * the guest's own bpftool and /sys/kernel/sched_ext before and after.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { setPriority, tmpdir } from "node:os";
import { join } from "node:path";
import { openRecord } from "../../src/report/record-read.ts";
import type { Round } from "../../src/round.ts";
import { spawn } from "../live/bpftool.ts";
import { labSkipReason } from "./availability.ts";
import { bootGuest, type FrozenGuest } from "./frozen.ts";

const cli = join(import.meta.dir, "../../src/cli.ts");
const bootMs = 600_000;

interface Prog {
  readonly id: number;
  readonly name?: string;
  readonly run_cnt?: number;
}

interface Said {
  readonly progs: readonly Prog[];
  readonly state: string;
  readonly ops: string;
  readonly events: ReadonlyMap<string, number>;
}

/** Takes minutes under emulation, so CI does not run it. */
const isAsked = process.env["KTSTR_LAB"] === "all";

describe.skipIf((await labSkipReason()) !== "" || !isAsked)("a guest of 1 GiB with a scheduler", () => {
  const folder = mkdtempSync(join(tmpdir(), "ktstr-top-"));
  const path = join(folder, "r.ktstr");
  let guest: FrozenGuest;
  let pid = 0;

  beforeAll(async () => {
    guest = await bootGuest({
      kernel: "sid",
      memoryMiB: 1024,
      scheduler: "scx_flatcg",
      zoo: true,
      mayBeEjected: true,
      withKtstr: true,
    });
    await guest.thaw();
    ({ pid } = guest);
  }, bootMs);
  afterAll(async () => {
    await guest?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  const text = async (script: string): Promise<string> =>
    Buffer.from((await guest.exec(script, 300_000)).stdout).toString();

  async function said(): Promise<Said> {
    const progs = JSON.parse(await text("bpftool -j prog show")) as Prog[];
    const file = (name: string): Promise<string> =>
      text(`cat /sys/kernel/sched_ext/${name} 2>/dev/null; true`);
    const events = await file("root/events");
    return {
      progs,
      state: (await file("state")).trim(),
      ops: (await file("root/ops")).trim(),
      events: new Map(
        [...events.matchAll(/^(\w+) (\d+)$/gm)].map(([, name = "", count]) => [name, Number(count)]),
      ),
    };
  }

  /** Requires that the rounds are between the answers before and after, and have every program that stayed. */
  function expectBetween(before: Said, round: Round, after: Said): void {
    const counts = new Map(
      round.progs.map(({ facts, counters }) => [facts.id, Number(counters?.count ?? -1)]),
    );
    let compared = 0;
    for (const { id, run_cnt: most = 0 } of after.progs) {
      const least = before.progs.find((prog) => prog.id === id)?.run_cnt;
      if (least === undefined) continue;
      expect([id, counts.get(id)! >= least, counts.get(id)! <= most]).toEqual([id, true, true]);
      if (most > least) compared++;
    }
    expect(compared).toBeGreaterThan(3);
    // On a busy machine the kernel may eject the scheduler, because its watchdog ignores emulation.
    if (before.state !== after.state) return;
    expect([round.sched?.state, round.sched?.ops]).toEqual([after.state, after.ops]);
    expect(round.sched?.events.length).toBe(after.events.size);
    for (const { name, count } of round.sched?.events ?? [])
      expect([
        name,
        Number(count) >= before.events.get(name)!,
        Number(count) <= after.events.get(name)!,
      ]).toEqual([name, true, true]);
  }

  async function record(...words: string[]): Promise<Round[]> {
    const child = Bun.spawn([process.execPath, cli, "record", "-o", path, "--force", ...words], {
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, err, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    expect([status, err]).toEqual([0, expect.anything()]);
    console.log(out.trimEnd(), err.trimEnd());
    return [...openRecord(path).rounds()];
  }

  test(
    "rounds from outside have the counters, entries and events of bpftool and sysfs in the guest",
    async () => {
      const before = await said();
      const rounds = await record("--vm", `${pid}`, "--for", "5", "--get", "scx_flat.bss:cvtime_now");
      const after = await said();
      expect(rounds.length).toBeGreaterThan(3);
      for (const round of rounds) expectBetween(before, round, after);
      // Maps that do not change have the contents of bpftool's dump before the freeze.
      const many = rounds[0]!.maps.find(({ facts }) => facts.name === "z_h_many")!;
      const dump = (await guest.answers.mapDump(many.facts.id))?.value as unknown[];
      expect(many.entries).toBe(dump.length);
      const memlock = JSON.parse(await text(`bpftool -j map show id ${many.facts.id}`)) as {
        bytes_memlock: number;
      };
      expect(many.bytes).toBe(memlock.bytes_memlock);
      const links = JSON.parse(await text("bpftool -j link show")) as { id: number }[];
      expect(rounds[0]!.links.map(({ id }) => id)).toEqual(links.map(({ id }) => id));
      const times = rounds.map(({ globals }) => Number(globals[0]));
      expect(times.every((time) => time > 0)).toBe(true);
      expect(times.at(-1)).toBeGreaterThan(times[0]!);
      for (const { pauseMs, sched } of rounds) {
        expect(pauseMs).toBeGreaterThan(0);
        expect(sched?.queues).toBeDefined();
      }
      const free = await record("--vm", `${pid}`, "--for", "2", "--no-pause");
      for (const { pauseMs } of free) expect(pauseMs).toBeUndefined();
      await guest.check();
    },
    bootMs,
  );

  test(
    "top -j --vm prints the pause, and the guest continues when top is killed",
    async () => {
      const child = Bun.spawn([process.execPath, cli, "-j", "top", "--vm", `${pid}`, "--interval", "0.5"], {
        stderr: "pipe",
      });
      const reader = child.stdout.getReader();
      let read = "";
      while (read.split("\n").length < 4) read += Buffer.from((await reader.read()).value ?? []).toString();
      child.kill("SIGKILL");
      await child.exited;
      const [first] = read.split("\n");
      const line = JSON.parse(first ?? "") as { pause_ms: number; programs: { calls_per_second: number }[] };
      expect(line.pause_ms).toBeGreaterThan(0);
      expect(line.programs.some((prog) => prog.calls_per_second > 0)).toBe(true);
      expect(await text("echo alive")).toBe("alive\n");
      await guest.check();
    },
    bootMs,
  );

  test(
    "metrics --vm has every program's calls and the scheduler's events, between the answers of the guest's own tools",
    async () => {
      const before = await said();
      const ran = spawn([process.execPath, cli, "metrics", "--once", "--vm", `${pid}`]);
      const after = await said();
      expect(ran.status).toBe(0);
      const samples = (name: string, label: string): Map<string, number> =>
        new Map(
          [...ran.out.matchAll(new RegExp(`^${name}\\{.*?\\b${label}="(\\w+)".*\\} (\\d+)$`, "gm"))].map(
            ([, key = "", count]) => [key, Number(count)],
          ),
        );
      const runs = samples("ktstr_program_runs_total", "id");
      let compared = 0;
      for (const { id, run_cnt: most = 0 } of after.progs) {
        const least = before.progs.find((prog) => prog.id === id)?.run_cnt;
        const count = runs.get(`${id}`);
        if (least === undefined || count === undefined) continue;
        expect([id, count >= least, count <= most]).toEqual([id, true, true]);
        compared++;
      }
      expect(compared).toBeGreaterThan(20);
      if (before.state !== after.state) return;
      const events = samples("ktstr_sched_ext_events_total", "event");
      expect([...events.keys()]).toEqual([...after.events.keys()]);
      for (const [name, count] of events)
        expect([name, count >= before.events.get(name)!, count <= after.events.get(name)!]).toEqual([
          name,
          true,
          true,
        ]);
    },
    bootMs,
  );

  test(
    "a counter in the guest measures how much of its time one round per second takes",
    async () => {
      // Other load of this machine would be counted, too, so QEMU's threads get a higher priority.
      for (const thread of readdirSync(`/proc/${pid}/task`)) setPriority(Number(thread), -20);
      const count = async (): Promise<number> =>
        Number(
          await text(`timeout 8 sh -c 'n=0; trap "echo \\$n; exit" TERM; while :; do n=$((n+1)); done'`),
        );
      const without: number[] = [];
      const during: number[] = [];
      const pauses: number[] = [];
      for (let pair = 0; pair < 6; pair++) {
        without.push(await count());
        const recording = record("--vm", `${pid}`, "--for", "10");
        during.push(await count());
        pauses.push(...(await recording).map(({ pauseMs }) => pauseMs ?? Number.NaN));
      }
      pauses.sort((a, b) => a - b);
      const sum = (list: readonly number[]): number => list.reduce((all, one) => all + one, 0);
      console.log(
        `counted without ${without.join(" ")}, during ${during.join(" ")}: ${((1 - sum(during) / sum(without)) * 100).toFixed(2)} % lost`,
      );
      console.log(
        `paused ${pauses[0]?.toFixed(1)} to ${pauses.at(-1)?.toFixed(1)} ms, half at most ${pauses[pauses.length >> 1]?.toFixed(1)} ms: ${(sum(pauses) / pauses.length / 10).toFixed(2)} % of a second`,
      );
      expect(pauses.every((pause) => pause > 0)).toBe(true);
    },
    bootMs,
  );

  test.each([
    ["live", ""],
    ["through /proc/kcore", "--memory /proc/kcore"],
  ])(
    "rounds inside, %s, have the same",
    async (_, from) => {
      const before = await said();
      const out = await text(
        `cd /ktstr && bun run ktstr record -o /tmp/r.ktstr --force --for 12 ${from} >/tmp/o 2>&1; cat /tmp/o >&2; cat /tmp/r.ktstr`,
      );
      const after = await said();
      await Bun.write(path, out);
      const rounds = [...openRecord(path).rounds()];
      expect(rounds.length).toBeGreaterThan(1);
      expectBetween(before, rounds.at(-1)!, after);
    },
    bootMs,
  );
});
