import { KtstrError } from "../errors.ts";
import type { Sys } from "./sys.ts";

/** `CONFIG_NR_CPUS` of no distribution is larger. */
const MAX_CPUS = 65_536;

/**
 * How many CPUs a list such as `0-3,8` counts and spans. The kernel writes one per-CPU value for each possible
 * CPU in ascending order, so `cpus[i]` names slot `i`.
 */
export function parseCpuList(list: string): number[] {
  const cpus: number[] = [];
  for (const part of list.trim().split(",")) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(part);
    const first = Number(match?.[1]);
    const last = Number(match?.[2] ?? match?.[1]);
    if (match === null || last < first || last >= MAX_CPUS) {
      throw new KtstrError(`not a list of CPUs: ${JSON.stringify(list.trim())}`);
    }
    for (let cpu = first; cpu <= last; cpu++) cpus.push(cpu);
  }
  return cpus;
}

const POSSIBLE = "/sys/devices/system/cpu/possible";
const ONLINE = "/sys/devices/system/cpu/online";

/** Nothing tells which CPUs are possible. */
export class NoCpusError extends KtstrError {}

/**
 * The possible CPUs. What a per-CPU look-up writes depends on nothing else, so there is no guess when the file
 * cannot be read: a buffer of another size would be written past its end.
 */
export function possibleCpus(sys: Sys): readonly number[] {
  const bytes = sys.readFile(POSSIBLE);
  if (bytes === undefined) {
    throw new NoCpusError(`the possible CPUs: ${POSSIBLE} cannot be read`, {
      hint: "per-CPU maps need it; mount sysfs (mount -t sysfs sysfs /sys)",
    });
  }
  return parseCpuList(new TextDecoder().decode(bytes));
}

/** How many CPUs are possible and online; undefined where /sys does not say. */
export function cpuCounts(sys: Sys): {
  readonly possibleCpus: number | undefined;
  readonly onlineCpus: number | undefined;
} {
  const count = (path: string): number | undefined => {
    const bytes = sys.readFile(path);
    return bytes === undefined ? undefined : parseCpuList(new TextDecoder().decode(bytes)).length;
  };
  return { possibleCpus: count(POSSIBLE), onlineCpus: count(ONLINE) };
}
