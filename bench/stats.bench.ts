/** Sums of the counters of all programs of a frozen machine, compared with the same sums in C, and with ktstr reading one counter at a time. */
import { place, struct } from "../src/btf/struct.ts";
import { StatsReader, StatsSum } from "../src/guest/bpf/stats.ts";
import { addressBatch } from "../src/guest/memory/address-batch.ts";
import type { GuestMemory } from "../src/guest/memory/memory.ts";
import { type Case, inC, type Job, ours, type Side } from "./case.ts";
import { BenchMachine, openBench } from "./machine.ts";

const PROG = struct("bpf_prog", { stats: place });
const STATS = struct("bpf_prog_stats", { cnt: place, nsecs: place, misses: place });
/** Each program has its own pages. */
const PROG_BYTES = 4096;
/** Per-CPU address of the first program's counters. */
const FIRST = 0x8000;

interface Sides {
  readonly c: Side;
  readonly bulk: Side;
  readonly scalar: Side;
}

function build(folder: string, count: number, cpus: number): Sides {
  using machine = new BenchMachine(folder, 2 ** 22 + count * PROG_BYTES + cpus * (count * 32 + 16_384), cpus);
  const prog = PROG.resolve(machine.btf);
  const stats = STATS.resolve(machine.btf);
  const programs = machine.vmalloc(count * PROG_BYTES);
  for (let index = 0; index < count; index++)
    machine.setU64(programs, index * PROG_BYTES + prog.stats, FIRST + index * stats.sizeof);
  for (const [cpu, area] of machine.percpu(FIRST, count * stats.sizeof).entries()) {
    for (let index = 0; index < count; index++) {
      const at = index * stats.sizeof;
      machine.setU64(area, at + stats.cnt, index * 1000 + cpu);
      machine.setU64(area, at + stats.nsecs, 2 ** 33 * (cpu + 1) + index * 77);
      machine.setU64(area, at + stats.misses, index & 3);
    }
  }
  machine.finish();
  const words = [machine.path, programs.hi, programs.lo, count];
  const offsets = machine.kernel.addressOf("__per_cpu_offset");
  const layout = [prog.stats, offsets, cpus, stats.cnt, stats.nsecs, stats.misses];
  return {
    c: inC("stats", ...machine.guestWords(), programs.address, count, PROG_BYTES, ...layout),
    bulk: ours("bulk", ...words),
    scalar: ours("scalar", ...words),
  };
}

interface Opened {
  readonly reader: StatsReader;
  readonly memory: GuestMemory;
  /** `bpf_prog.stats` of the first program, as two words. */
  readonly hi: number;
  readonly lo: number;
  readonly count: number;
}

function open([path = "", highWord = "", lowWord = "", count = ""]: readonly string[]): Opened {
  const kernel = openBench(path);
  const { stats } = PROG.resolve(kernel.btf);
  return {
    reader: new StatsReader(kernel),
    memory: kernel.memory,
    hi: Number(highWord) | 0,
    lo: (Number(lowWord) + stats) | 0,
    count: Number(count),
  };
}

// Two loops instead of one with a parameter, because a call with two targets costs more than the difference to measure.
const bulk: Job = (...words) => {
  const { reader, memory, hi, lo, count } = open(words);
  const sum = new StatsSum();
  const low = new Int32Array(sum.bits.buffer);
  const statsHi = new Int32Array(count);
  const statsLo = new Int32Array(count);
  // Programs are scattered in memory, so the addresses of their counters are read first, in a loop without dependencies.
  const progs = addressBatch(count);
  progs.hi.fill(hi);
  for (let index = 0; index < count; index++) progs.lo[index] = lo + index * PROG_BYTES;
  const { windows } = memory.physical;
  const gather = (): void => {
    memory.locateEach(progs, count, 0, 8);
    for (let index = 0; index < count; index++) {
      let at = progs.at[index]!;
      let view = windows[progs.index[index]!]!.view;
      if (at < 0) {
        at = memory.expect(hi, lo, index * PROG_BYTES, 8, "bpf_prog.stats");
        view = memory.view;
      }
      statsHi[index] = view.getInt32(at + 4, true);
      statsLo[index] = view.getInt32(at, true);
    }
  };
  return () => {
    let checksum = 0;
    gather();
    for (let index = 0; index < count; index++) {
      reader.load(statsHi[index]!, statsLo[index]!, sum);
      if (sum.hasWords) throw new Error(`not every counter was read at once: ${sum.missing}`);
      checksum = (checksum + low[0]! + Math.imul(3, low[2]!) + Math.imul(5, low[4]!)) | 0;
    }
    return { items: count, checksum };
  };
};

const scalar: Job = (...words) => {
  const { reader, memory, hi, lo, count } = open(words);
  const sum = new StatsSum();
  return () => {
    let checksum = 0;
    for (let index = 0; index < count; index++) {
      const at = memory.locate(hi, lo, index * PROG_BYTES, 8);
      reader.loadOneByOne(memory.view.getInt32(at + 4, true), memory.view.getInt32(at, true), sum);
      if (sum.missing !== "") throw new Error(sum.missing);
      checksum = (checksum + sum.lo[0]! + Math.imul(3, sum.lo[1]!) + Math.imul(5, sum.lo[2]!)) | 0;
    }
    return { items: count, checksum };
  };
};

export const jobs: Record<string, Job> = { bulk, scalar };

function caseOf(count: number, cpus: number, of: "C" | "scalar", target?: number): Case {
  const against = of === "C" ? "" : ", bulk to counter by counter";
  return {
    name: `stats of ${count} programs on ${cpus} CPUs${against}`,
    ...(target === undefined ? {} : { target }),
    times: 40,
    loops: Math.max(1, Math.ceil(1_000_000 / (count * cpus))),
    prepare: (folder) => {
      const { c, bulk, scalar } = build(folder, count, cpus);
      return { subject: bulk, reference: of === "C" ? c : scalar, [Symbol.dispose]: () => {} };
    },
  };
}

export const cases: readonly Case[] = [
  ...[1, 100, 1000].flatMap((count) =>
    [1, 8, 256].map((cpus) => caseOf(count, cpus, "C", count === 1000 && cpus === 8 ? 1.7 : undefined)),
  ),
  ...[8, 256].map((cpus) => caseOf(1000, cpus, "scalar", cpus === 8 ? 1 / 1.8 : undefined)),
];
