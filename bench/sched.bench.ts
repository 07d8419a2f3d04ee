/** `ktstr sched`: on a machine with many CPUs and tasks, compared with a tenth of the tasks; on a real guest, compared with Bun's start. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { labDir } from "../test/lab/cache.ts";
import type { Case, Side } from "./case.ts";
import { frozenMemory } from "./commands.bench.ts";
import { KTSTR } from "./harness.ts";
import { makeSchedMachine } from "./sched-machine.ts";

const CPUS = 256;
const TASKS = 20_000;
const nothing = (): void => {};

const page = (memory: string, ...options: readonly string[]): Side => ({
  kind: "command",
  name: "ktstr",
  command: [...KTSTR, ...options, "sched", "--memory", memory],
});

/** Returns the path of the newest BTF that the lab extracted from boot images; undefined if there is none. */
function schedExtTypes(): string | undefined {
  const folder = join(labDir(), "btf");
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".btf")) : [];
  const newest = names.sort().at(-1);
  return newest === undefined ? undefined : join(folder, newest);
}

/** Ten times the tasks on the same CPUs: a walk that is not linear takes more than ten times the time. */
const many = (...options: readonly string[]): Case => ({
  name: `${[...options, "sched"].join(" ")}: ${CPUS} CPUs, ${TASKS} tasks, to ${TASKS / 10} tasks`,
  target: 10,
  peakTargetMb: 200,
  missing: () => (schedExtTypes() === undefined ? "the lab has no types of a kernel with sched_ext" : ""),
  prepare: (folder) => {
    const make = (tasks: number): string => `${makeSchedMachine(folder, schedExtTypes()!, CPUS, tasks)}@0`;
    const side = (tasks: number): Side => page(make(tasks), ...options);
    return { subject: side(TASKS), reference: side(TASKS / 10), [Symbol.dispose]: nothing };
  },
});

/** 200 ms if Bun itself takes 5 ms. */
const GUEST_TARGET = 40;
const GUEST = "sid-4level";

const guest: Case = {
  name: `cold: ktstr sched --memory ${GUEST} (4 CPUs, 3 GiB), to bun itself`,
  target: GUEST_TARGET,
  missing: async () => ((await frozenMemory(GUEST)) === undefined ? `the lab keeps no ${GUEST}` : ""),
  prepare: async () => ({
    subject: page((await frozenMemory(GUEST))!),
    reference: { kind: "command", name: "bun", command: [process.execPath, "-e", "0"] },
    [Symbol.dispose]: nothing,
  }),
};

export const cases: readonly Case[] = [many(), many("-j"), guest];
export const jobs = {};
