/** `ktstr record` of the running kernel: compared with bpftool's counters, and killed at random moments. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { openRecord } from "../../src/report/record-read.ts";
import type { Round } from "../../src/round.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { BPF_F_NO_PREALLOC } from "../../src/uapi/names.ts";
import { BtfWriter } from "../btf/support/encode.ts";
import { diffProblems, recordProblems } from "../report/schema.ts";
import { bpftoolJson, CLI, kernelSkipReason, ktstr, ktstrJson, spawn } from "./bpftool.ts";
import { type Held, type HeldMap, Kit, u32 } from "./kit.ts";
import { loadBtf, loadProg, testRun, usesMaps } from "./kit-progs.ts";

interface Theirs {
  readonly run_cnt?: number;
  readonly run_time_ns?: number;
}

/** Returns the processes that have run-time statistics enabled, from their descriptors in /proc. */
function holdersOfStats(): number[] {
  const listed = spawn(["sh", "-c", "ls -l /proc/[0-9]*/fd 2>/dev/null"]).out;
  let pid = 0;
  const found: number[] = [];
  for (const line of listed.split("\n")) {
    pid = Number(/^\/proc\/(\d+)\/fd:$/.exec(line)?.[1] ?? pid);
    if (line.endsWith("anon_inode:bpf-stats")) found.push(pid);
  }
  return found;
}

/** A section with one variable, `int nr`, as libbpf creates it. */
function section(kit: Kit, name: string): HeldMap {
  const writer = new BtfWriter();
  const int = writer.int("int", 4, 1);
  const variable = writer.raw(BTF_KIND.VAR, "nr", int, [1]);
  const data = writer.raw(BTF_KIND.DATASEC, ".bss", 4, [variable, 0, 4], 1);
  const btf = loadBtf(kit, writer.bytes());
  return kit.map({ type: "array", name, valueSize: 4, maxEntries: 1, btfFd: btf.fd, btfValueTypeId: data });
}

describe.skipIf(kernelSkipReason() !== "")("ktstr record", () => {
  const kit = new Kit();
  const name = `r${process.pid}.bss`;
  let prog: Held;
  let hash: HeldMap;
  let globals: HeldMap;

  beforeAll(() => {
    hash = kit.map({ type: "hash", name: "recorded", maxEntries: 100, flags: BPF_F_NO_PREALLOC });
    kit.fill(hash, 3);
    globals = section(kit, name);
    prog = loadProg(kit, { type: "socket_filter", name: "recorded", code: usesMaps(hash) });
  });
  afterAll(() => kit[Symbol.dispose]());

  const path = (): string => join(kit.directory, "a.ktstr");
  const start = (...more: string[]): ReturnType<typeof Bun.spawn> =>
    Bun.spawn([process.execPath, CLI, "record", "-o", path(), "--force", "--interval", "0.05", ...more], {
      stdout: "pipe",
      stderr: "pipe",
      stdin: "ignore",
    });
  const lines = (): number =>
    existsSync(path()) ? readFileSync(path(), "latin1").split("\n").length - 1 : 0;
  /** Waits until the file has this many complete rounds. */
  async function until(rounds: number): Promise<void> {
    for (let waited = 0; lines() < rounds + 1; waited++) {
      if (waited > 3000) throw new Error(`the file has fewer than ${rounds} rounds`);
      await Bun.sleep(10);
    }
  }
  const rounds = (): Round[] => [...openRecord(path()).rounds()];
  const theirs = (): Theirs => bpftoolJson("prog", "show", "id", String(prog.id)) as Theirs;

  test("has bpftool's counters, maps and globals, and the changes between rounds", async () => {
    rmSync(path(), { force: true });
    const before = theirs().run_cnt ?? 0;
    const running = start("--get", `${name}:nr`, "--get", "none:there");
    await until(2);
    testRun(prog, 1000);
    kit.update(globals, u32(0), u32(42));
    kit.fill(hash, 50);
    const { id: later } = loadProg(kit, { type: "xdp", name: "later" });
    const counted = theirs();
    await until(lines() + 2);
    kit.remove(hash, u32(7));
    await until(lines() + 2);
    running.kill("SIGINT");
    expect(await running.exited).toBe(0);
    expect(await new Response(running.stderr as ReadableStream).text()).toContain(
      "none:there: no map is named",
    );

    const file = openRecord(path());
    const all = [...file.rounds()];
    expect(file.damage).toBe("");
    const first = all[0]!;
    const last = all.at(-1)!;
    const of = (round: Round): Round["progs"][number] =>
      round.progs.find(({ facts }) => facts.id === prog.id)!;
    expect(of(first).counters?.count).toBe(BigInt(before));
    expect(of(last).counters).toMatchObject({
      count: BigInt(counted.run_cnt ?? -1),
      runTimeNs: BigInt(counted.run_time_ns ?? -1),
    });
    expect(Number(of(last).counters?.count) - before).toBe(1000);
    expect(of(last).facts).toMatchObject({ name: "recorded", type: "socket_filter", mapIds: [hash.id] });
    expect([first, last].map(({ progs }) => progs.some(({ facts }) => facts.id === later))).toEqual([
      false,
      true,
    ]);
    const entries = all.map(({ maps }) => maps.find(({ facts }) => facts.id === hash.id)?.entries);
    expect([entries[0], entries.includes(50), entries.at(-1)]).toEqual([3, true, 49]);
    const { bytes_memlock: memory } = bpftoolJson("map", "show", "id", String(hash.id)) as {
      bytes_memlock: number;
    };
    expect(last.maps.find(({ facts }) => facts.id === hash.id)?.bytes).toBe(memory);
    expect(first.globals[0]).toBe(0);
    expect(last.globals).toEqual([42]);
    const diff = ktstrJson("diff", path());
    expect(diffProblems(diff)).toEqual([]);
    const cost = (diff as { costs: { id: number; between: { run_cnt: number } }[] }).costs.find(
      ({ id }) => id === prog.id,
    );
    expect(cost?.between.run_cnt).toBe(1000);
    for (const line of readFileSync(path(), "utf8").trimEnd().split("\n"))
      expect(recordProblems(JSON.parse(line))).toEqual([]);
  });

  test("killed at random moments it leaves a valid file with every round except the last", async () => {
    for (let run = 0; run < 12; run++) {
      rmSync(path(), { force: true });
      const running = start("--interval", "0.01");
      await until(1);
      await Bun.sleep(Math.random() * 120);
      const sure = lines() - 1;
      running.kill("SIGKILL");
      await running.exited;
      expect(rounds().length).toBeGreaterThanOrEqual(sure);
      expect(lines() - 1).toBe(rounds().length);
    }
  });

  test("statistics are on while it runs, and off after it was killed", async () => {
    rmSync(path(), { force: true });
    const strangers = holdersOfStats();
    const running = start();
    await until(1);
    expect(holdersOfStats()).toContain(running.pid);
    const before = theirs().run_cnt ?? 0;
    testRun(prog, 10);
    const during = theirs().run_cnt ?? 0;
    expect(during - before).toBe(10);
    running.kill("SIGKILL");
    await running.exited;
    expect(holdersOfStats()).not.toContain(running.pid);
    testRun(prog, 10);
    // Other tests on this machine may have enabled them, too.
    const others = [...strangers, ...holdersOfStats()];
    if (others.length > 0) console.warn(`skipped: counting is on for processes ${others.join(", ")}`);
    else expect(theirs().run_cnt ?? 0).toBe(during);
  });

  test("ends by itself, with a correct summary", () => {
    const ran = ktstr(["-j", "record", "-o", path(), "--force", "--interval", "0.1", "--for", "0.5"]);
    const summary = JSON.parse(ran.out) as { rounds: number; missed_rounds: number; file_bytes: number };
    expect(summary.rounds).toBe(rounds().length);
    expect(summary.rounds + summary.missed_rounds).toBe(6);
    expect(summary.file_bytes).toBe(statSync(path()).size);
    expect(statSync(path()).mode & 0o777).toBe(0o600);
  });

  test("an existing file is not changed, and other than regular files are errors", () => {
    const before = readFileSync(path());
    const ran = ktstr(["record", "-o", path(), "--for", "0.1"]);
    expect([ran.status, ran.err]).toEqual([1, expect.stringContaining("--force replaces it")]);
    expect(readFileSync(path()).equals(before)).toBe(true);
    expect(ktstr(["record", "-o", "/dev/null", "--force"]).err).toContain("not a regular file");
    expect(ktstr(["record"]).status).toBe(2);
    expect(ktstr(["record", "-o", path(), "--interval", "0"]).status).toBe(2);
    expect(ktstr(["record", "-o", path(), "--force", "--sample"]).err).toContain("counters do not change");
  });
});
