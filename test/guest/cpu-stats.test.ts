/** A program's counters by CPU, read from per-CPU memory. */
import { expect, test } from "bun:test";
import { readCpuStats } from "../../src/guest/bpf/cpu-stats.ts";
import type { ProgInfo } from "../../src/state.ts";
import { ObjectMachine } from "./objects.ts";

/** A per-CPU address, as in `bpf_prog.stats`. */
const AT = 0x100;

function machineWith(stats: number): { readonly machine: ObjectMachine; readonly info: ProgInfo } {
  const machine = new ObjectMachine({ translated: true });
  const { prog } = machine.prog(1, { stats });
  return { machine, info: { address: machine.address(prog) } as ProgInfo };
}

test("each CPU has its own counters, of 64 bits", () => {
  const { machine, info } = machineWith(AT);
  machine.counters(0, AT, { cnt: 3n, nsecs: 2n ** 63n + 1n, misses: 1n });
  machine.counters(1, AT, { cnt: 5n, nsecs: 7n });
  expect(readCpuStats(machine.kernel, info)).toEqual([
    { cpu: 0, count: 3n, runTimeNs: 2n ** 63n + 1n, misses: 1n },
    { cpu: 1, count: 5n, runTimeNs: 7n, misses: 0n },
  ]);
});

test("a program without counters is an error, and so is a CPU whose page is absent", () => {
  const without = machineWith(0);
  expect(() => readCpuStats(without.machine.kernel, without.info)).toThrow("has no counters");
  const { machine, info } = machineWith(AT);
  machine.unmapPerCpuPage(1, AT);
  expect(() => readCpuStats(machine.kernel, info)).toThrow("bpf_prog.stats of CPU 1");
});
