/** Differences between two freezes of one guest. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { CLI } from "../live/bpftool.ts";
import { diffProblems } from "../report/schema.ts";
import { labSkipReason } from "./availability.ts";
import { type Guest, startGuest } from "./guest.ts";
import { GuestDied } from "./guest-watch.ts";
import { fetchKernel } from "./kernels.ts";
import { loadOverlay, startScheduler, startWorkload, stopScheduler } from "./load.ts";
import { beginStall, startStall } from "./stall/run.ts";

interface Prog {
  readonly id: number;
  readonly name: string;
  readonly run_cnt?: number;
  readonly run_time_ns?: number;
}

interface DiffJson {
  readonly elapsed_ns: number;
  readonly same_boot: boolean;
  readonly scheduler: { readonly change: string; readonly a: { ops: string }; readonly b: { ops: string } };
  readonly sched: {
    readonly queues: readonly {
      readonly id: string;
      readonly name?: string;
      readonly length: { readonly a?: number; readonly b?: number };
    }[];
    readonly events: readonly { readonly name: string; readonly a: number; readonly b: number }[];
  };
  readonly costs: readonly {
    readonly name: string;
    readonly between: Required<Pick<Prog, "run_cnt" | "run_time_ns">>;
  }[];
  readonly programs: { readonly new: readonly Prog[]; readonly gone: readonly Prog[] };
  readonly maps: {
    readonly new: readonly { readonly name: string; readonly count: number }[];
    readonly gone: readonly { readonly name: string }[];
    readonly changed: readonly {
      readonly name: string;
      readonly a: { count: number };
      readonly b: { count: number };
    }[];
  };
  readonly globals: readonly {
    readonly name: string;
    readonly variables: readonly {
      readonly name: string;
      readonly changes: readonly { path: string; a: number; b: number }[];
    }[];
  }[];
}

/** Answers of the guest itself, not from memory, as bounds for the frozen memory. */
interface Answers {
  readonly uptime: number;
  readonly progs: readonly Prog[];
  readonly vtime: number;
  /** /sys/kernel/sched_ext/root/events. */
  readonly events: ReadonlyMap<string, number>;
}

const BSS = "scx_simp.bss";

async function ask(guest: Guest): Promise<Answers> {
  const { stdout, stderr, status } = await guest.exec(
    `cat /proc/uptime; cat /sys/kernel/sched_ext/root/events; echo; bpftool -j prog show; echo; bpftool map dump name ${BSS} 2>/dev/null || echo none`,
  );
  if (status !== 0) throw new Error(stderr);
  const [uptime = "", ...rest] = new TextDecoder().decode(stdout).split("\n");
  const events = new Map<string, number>();
  while (/^SCX_EV_/.test(rest[0] ?? "")) {
    const [name = "", count] = rest.shift()!.split(" ");
    events.set(name, Number(count));
  }
  const [, progs = "", ...bss] = rest;
  const vtime = /"vtime_now": (\d+)/.exec(bss.join("\n"))?.[1] ?? "0";
  return {
    uptime: Number(uptime.split(" ")[0]),
    progs: JSON.parse(progs) as Prog[],
    vtime: Number(vtime),
    events,
  };
}

interface Frozen {
  readonly path: string;
  /** Answers just before and just after the freeze. */
  readonly before: Answers;
  readonly after: Answers;
}

async function freeze(guest: Guest, name: string): Promise<Frozen> {
  const path = join(guest.dir, `mem-${name}`);
  const before = await ask(guest);
  await guest.freeze();
  Bun.spawnSync(["cp", "--sparse=always", guest.memoryPath, path]);
  await guest.thaw();
  return { path, before, after: await ask(guest) };
}

function diff(a: Frozen, b: Frozen): DiffJson {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, CLI, "-j", "diff", a.path, b.path]);
  if (exitCode !== 0) throw new Error(stderr.toString());
  const told: unknown = JSON.parse(stdout.toString());
  expect(diffProblems(told)).toEqual([]);
  return told as DiffJson;
}

/** A difference between two freezes is at least that of the answers between them, and at most that of the answers around them. */
function expectWithin(value: number, a: Frozen, b: Frozen, of: (said: Answers) => number): void {
  expect(value).toBeGreaterThanOrEqual(of(b.before) - of(a.after));
  expect(value).toBeLessThanOrEqual(of(b.after) - of(a.before));
}

/** Repeats with a new guest if one dies: kernels that patch their own code can crash under emulation. */
async function retryIfGuestDies(attempts: number, ask: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof GuestDied) || attempt === attempts) throw error;
    }
  }
}

async function compareFreezes(): Promise<void> {
  const load = { schedulers: ["scx_simple", "scx_central"], zoo: false } as const;
  const overlays = [await loadOverlay(load, await fetchKernel("sid"))];
  await using guest = await startGuest({ kernel: "sid", overlays });
  const made =
    await guest.exec(`bpftool map create /sys/fs/bpf/held type hash key 4 value 8 entries 10 name held
  bpftool map update pinned /sys/fs/bpf/held key 1 0 0 0 value 0 0 0 0 0 0 0 0`);
  expect(made).toMatchObject({ status: 0 });
  await startScheduler(guest, "scx_simple");
  await startWorkload(guest);
  const a = await freeze(guest, "a");
  const grown =
    await guest.exec(`for n in 2 3 4; do bpftool map update pinned /sys/fs/bpf/held key $n 0 0 0 value 0 0 0 0 0 0 0 0; done
  bpftool map create /sys/fs/bpf/fresh type hash key 4 value 8 entries 10 name fresh
  bpftool map update pinned /sys/fs/bpf/fresh key 1 0 0 0 value 0 0 0 0 0 0 0 0; sleep 2`);
  expect(grown).toMatchObject({ status: 0 });
  const b = await freeze(guest, "b");

  const told = diff(a, b);
  expect(told.same_boot).toBe(true);
  expect(told.scheduler.change).toBe("same");
  // The frozen clock is that of the last tick, so it may be a tick behind.
  const seconds = told.elapsed_ns / 1e9;
  expect(seconds).toBeGreaterThan(b.before.uptime - a.after.uptime - 0.1);
  expect(seconds).toBeLessThan(b.after.uptime - a.before.uptime + 0.1);
  for (const name of ["simple_dispatch", "simple_enqueue", "simple_running"]) {
    const cost = told.costs.find((one) => one.name === name)!;
    const counter = (key: "run_cnt" | "run_time_ns") => (said: Answers) =>
      said.progs.find((prog) => prog.name === name)?.[key] ?? 0;
    expect(cost.between.run_cnt).toBeGreaterThan(0);
    expectWithin(cost.between.run_cnt, a, b, counter("run_cnt"));
    expectWithin(cost.between.run_time_ns, a, b, counter("run_time_ns"));
  }
  expect(a.before.events.size).toBeGreaterThan(5);
  expect(told.sched.events.length).toBeGreaterThan(0);
  for (const event of told.sched.events) {
    const count = ({ events }: Answers): number => events.get(event.name) ?? Number.NaN;
    for (const [value, frozen] of [
      [event.a, a],
      [event.b, b],
    ] as const) {
      expect(value).toBeGreaterThanOrEqual(count(frozen.before));
      expect(value).toBeLessThanOrEqual(count(frozen.after));
    }
    expectWithin(event.b - event.a, a, b, count);
  }
  for (const [name, count] of b.before.events)
    if (count > a.after.events.get(name)!)
      expect(told.sched.events.map((event) => event.name)).toContain(name);
  expect(told.maps.new).toEqual([expect.objectContaining({ name: "fresh", count: 1 })]);
  expect(told.maps.gone).toEqual([]);
  const held = told.maps.changed.find(({ name }) => name === "held");
  expect(held).toMatchObject({ a: { count: 1 }, b: { count: 4 } });
  const vtime = told.globals
    .find(({ name }) => name === BSS)!
    .variables.find(({ name }) => name === "vtime_now")!.changes[0]!;
  expect(vtime.a).toBeGreaterThanOrEqual(a.before.vtime);
  expect(vtime.a).toBeLessThanOrEqual(a.after.vtime);
  expect(vtime.b).toBeGreaterThanOrEqual(b.before.vtime);
  expect(vtime.b).toBeLessThanOrEqual(b.after.vtime);

  await stopScheduler(guest, "scx_simple");
  await startScheduler(guest, "scx_central");
  const c = await freeze(guest, "c");
  const swapped = diff(b, c);
  expect(swapped.scheduler).toMatchObject({
    change: "replaced",
    a: { ops: "simple" },
    b: { ops: "central" },
  });
  const ids = (progs: readonly Prog[], prefix: string): number[] =>
    progs.filter(({ name }) => name?.startsWith(prefix)).map(({ id }) => id);
  expect(ids(swapped.programs.new, "central_")).toEqual(ids(c.before.progs, "central_"));
  expect(ids(swapped.programs.gone, "simple_")).toEqual(ids(b.before.progs, "simple_"));
  expect(swapped.maps.gone.map(({ name }) => name)).toContain(BSS);
}

async function compareStall(): Promise<void> {
  const overlays = [await loadOverlay({ schedulers: [], zoo: false, stall: true }, await fetchKernel("sid"))];
  await using guest = await startGuest({ kernel: "sid", overlays });
  await startStall(guest, { kind: "lost-dsq", ejected: false });
  const healthy = await freeze(guest, "healthy");
  const statement = JSON.parse(await beginStall(guest)) as {
    readonly unconsumed_dsq: string;
    readonly victims: readonly { readonly enqueued_ns: number }[];
  };
  const queued = statement.victims.filter(({ enqueued_ns }) => enqueued_ns > 0).length;
  expect(queued).toBe(3);
  const told = diff(healthy, await freeze(guest, "stalled"));
  expect(told.sched.queues[0]).toMatchObject({
    id: statement.unconsumed_dsq,
    name: "unconsumed_dsq",
    length: { a: 0, b: queued },
  });
}

describe.skipIf((await labSkipReason()) !== "")("two freezes of one guest", () => {
  test(
    "give the increments that the guest's own bpftool counted, and the new scheduler",
    () => retryIfGuestDies(3, compareFreezes),
    900_000,
  );

  test("give the queue that grew, with its name", () => retryIfGuestDies(3, compareStall), 900_000);
});
