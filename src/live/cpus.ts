/** The possible CPUs, from /sys. */
import { KtstrError } from "../errors.ts";
import type { Sys } from "./sys.ts";

/** Above `CONFIG_NR_CPUS` of every distribution. */
const MAX_CPUS = 65_536;

/**
 * Parses a CPU list such as `0-3,8`. The kernel writes one per-CPU value for each possible CPU in ascending order, so
 * `cpus[i]` is the CPU of value `i`.
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

/** The possible CPUs are not known. */
export class NoCpusError extends KtstrError {}

/**
 * Returns the possible CPUs. The size of a per-CPU look-up depends on their number. If the file cannot be read, this throws
 * instead of guessing, because the kernel would write past the end of a short buffer.
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

/** Returns the numbers of possible and online CPUs; undefined if /sys does not list them. */
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
