/** Sums of a program's per-CPU counters. */
import { expect, test } from "bun:test";
import { StatsReader, StatsSum } from "../../src/guest/bpf/stats.ts";
import type { ProgStats } from "../../src/state.ts";
import { ObjectMachine, type ObjectMachineOptions } from "./objects.ts";

/** A per-CPU address, as in `bpf_prog.stats`. */
const AT = 0x2040;

function counted(options: ObjectMachineOptions = {}): ObjectMachine {
  const machine = new ObjectMachine(options);
  machine.counters(0, AT, { cnt: 10n, nsecs: 1_000n, misses: 1n });
  machine.counters(1, AT, { cnt: 20n, nsecs: 0x1_0000_0005n, misses: 2n });
  return machine;
}

/** Returns the result of one read per CPU, after a check that one read per counter gives the same. */
function both({ kernel }: Pick<ObjectMachine, "kernel">, at: number = AT): ProgStats {
  const reader = new StatsReader(kernel);
  const scalar = new StatsSum();
  reader.loadOneByOne(0, at, scalar);
  const bulk = reader.read(0, at);
  if (!bulk.ok) throw new Error(bulk.why.detail);
  expect(bulk.value).toEqual(scalar.value());
  return bulk.value;
}

test("the counters of all CPUs are added up", () => {
  expect(both(counted())).toEqual({ count: 30n, runTimeNs: 0x1_0000_03edn, misses: 3n });
});

test("one reader reads programs on the same page and on others in turn", () => {
  const machine = counted();
  const reader = new StatsReader(machine.kernel);
  for (const [at, cnt] of [
    [AT + 0x40, 7n],
    [0x5000, 8n],
    [AT, 9n],
  ] as const) {
    machine.counters(0, at, { cnt, nsecs: 0n, misses: 0n });
    machine.counters(1, at, { cnt, nsecs: 0n, misses: 0n });
    expect(reader.read(0, at)).toEqual({ ok: true, value: { count: 2n * cnt, runTimeNs: 0n, misses: 0n } });
  }
});

test.each([2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 62n + 12_345n, 2n ** 63n - 1n])(
  "a counter of %p is exact",
  (nsecs) => {
    const machine = new ObjectMachine();
    machine.counters(0, AT, { cnt: 1n, nsecs, misses: 0n });
    machine.counters(1, AT, { cnt: 2n, nsecs: 1n, misses: 0n });
    expect(both(machine).runTimeNs).toBe(nsecs + 1n);
  },
);

test("words whose bits are a negative number, an infinity or NaN are read as integers", () => {
  for (const [first, second] of [
    [0x8000_0000_0000_0005n, 5n],
    [0x7ff0_0000_0000_0000n, 1n],
    [0x7ff8_0000_0000_0001n, 1n],
    [0xfff0_0000_0000_0000n, 0x7ff0_0000_0000_0000n],
  ] as const) {
    const machine = new ObjectMachine();
    machine.counters(0, AT, { cnt: first, nsecs: 3n, misses: 0n });
    machine.counters(1, AT, { cnt: second, nsecs: 4n, misses: 0n });
    const sum = first + second;
    expect(both(machine)).toEqual({
      count: sum > 2n ** 64n - 1n ? 2n ** 64n - 1n : sum,
      runTimeNs: 7n,
      misses: 0n,
    });
  }
});

test("sums saturate at 2^64-1", () => {
  const machine = new ObjectMachine();
  machine.counters(0, AT, { cnt: 2n ** 64n - 1n, nsecs: 0n, misses: 2n ** 63n + 1n });
  machine.counters(1, AT, { cnt: 1n, nsecs: 0n, misses: 2n ** 63n + 1n });
  expect(both(machine)).toEqual({ count: 2n ** 64n - 1n, runTimeNs: 0n, misses: 2n ** 64n - 1n });
});

test("counters that cross a page boundary are read", () => {
  const at = 0x2000 - 24;
  const machine = new ObjectMachine();
  machine.counters(0, at, { cnt: 1n, nsecs: 2n, misses: 3n });
  machine.counters(1, at, { cnt: 4n, nsecs: 5n, misses: 6n });
  expect(both(machine, at)).toEqual({ count: 5n, runTimeNs: 7n, misses: 9n });
});

test("counters more than 64 bytes apart, and at odd addresses, are read one by one", () => {
  const apart = {
    bpf_prog_stats: [256, { cnt: ["u64", 0], nsecs: ["u64", 64], misses: ["u64", 200] }],
  } as const;
  expect(both(counted({ structs: apart }))).toEqual({ count: 30n, runTimeNs: 0x1_0000_03edn, misses: 3n });
  const machine = new ObjectMachine();
  machine.counters(0, AT + 3, { cnt: 1n, nsecs: 2n, misses: 3n });
  expect(both(machine, AT + 3)).toEqual({ count: 1n, runTimeNs: 2n, misses: 3n });
});

/** A machine whose per-CPU areas have page tables, with only some pages for CPU 1. */
function withoutPage(absent: number): ObjectMachine {
  const machine = counted({ translated: true });
  machine.unmapPerCpuPage(1, absent);
  return machine;
}

test("an absent page of one CPU gives no sum, and the reason has the missing part and the sum of the rest", () => {
  const { kernel } = withoutPage(AT & ~0xfff);
  const stats = new StatsReader(kernel).read(0, AT);
  expect(stats.ok).toBe(false);
  if (stats.ok) return;
  expect(stats.why.reason).toBe("not-present");
  expect(stats.why.detail).toMatch(
    /^read bpf_prog\.stats->cnt of CPU 1: 0x[0-9a-f]{16} is not mapped \(PTE entry not present\); the others add up to cnt=10 nsecs=1000 misses=1$/,
  );
});

test("counters next to an absent page are read one by one", () => {
  // misses at 8 and cnt at 16 on the first page, nsecs at 32 on the next.
  const at = 0x3000 - 24;
  const machine = new ObjectMachine({ translated: true });
  machine.counters(0, at, { cnt: 1n, nsecs: 2n, misses: 3n });
  machine.counters(1, at, { cnt: 10n, nsecs: 20n, misses: 30n });
  machine.unmapPerCpuPage(1, 0x3000);
  const stats = new StatsReader(machine.kernel).read(0, at);
  if (stats.ok) throw new Error("there is no sum");
  expect(stats.why.detail).toContain("stats->nsecs of CPU 1");
  expect(stats.why.detail).toEndWith("cnt=11 nsecs=2 misses=33");
});

test("a NULL pointer gives no statistics, not zero", () => {
  const stats = new StatsReader(counted().kernel).read(0, 0);
  expect(stats).toEqual({
    ok: false,
    why: { reason: "not-present", detail: "the program has no counters (bpf_prog.stats is NULL)" },
  });
});

test("only CPUs with an area are read: an unused slot is not a second CPU 0", () => {
  const machine = counted();
  const [first] = machine.kernel.cpus.areas;
  const kernel = { ...machine.kernel, cpus: { ...machine.kernel.cpus, areas: [first!], missing: [1] } };
  expect(both({ kernel }).count).toBe(10n);
});
