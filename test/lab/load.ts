/** Starts the load of a guest: the zoo, a scheduler, and processes that change the counters. */
import { readFile } from "node:fs/promises";
import { type CpioEntry, cpio } from "./cpio.ts";
import type { Guest } from "./guest.ts";
import { fetchModules, type Kernel } from "./kernels.ts";
import { LabError, run } from "./process.ts";
import { buildScheduler, type SchedulerName } from "./schedulers.ts";
import { buildSleepers } from "./sleepers/build.ts";
import { buildStall } from "./stall/build.ts";
import { buildZoo } from "./zoo/build.ts";

export interface Load {
  readonly schedulers: readonly SchedulerName[];
  readonly zoo: boolean;
  /** Names of modules of the guest's kernel, without dependencies. */
  readonly modules?: readonly string[];
  /** Whether to add the lab's own scheduler. */
  readonly stall?: boolean;
}

/** Returns the load's programs as an archive: `/bin/scx_...`, `/zoo-loader`, `/lab-sleepers`, `/lab-stall`, modules. */
export async function loadOverlay(load: Load, kernel: Kernel): Promise<Uint8Array> {
  const { arch } = kernel;
  const entries: CpioEntry[] = [];
  const program = async (from: string, path: string): Promise<void> => {
    entries.push({ kind: "file", path, data: new Uint8Array(await readFile(from)), executable: true });
  };
  for (const name of load.schedulers) await program(await buildScheduler(name, arch), `bin/${name}`);
  await program(await buildSleepers(arch), "lab-sleepers");
  if (load.stall === true) await program(await buildStall(arch), "lab-stall");
  if (load.zoo) await program((await buildZoo({ arch })).loader, "zoo-loader");
  const modules = load.modules ?? [];
  const paths = modules.length === 0 ? [] : await fetchModules(kernel, modules);
  for (const [index, path] of paths.entries()) {
    const data = path.endsWith(".xz") ? await run(["xz", "-dc", path]) : new Uint8Array(await readFile(path));
    entries.push({ kind: "file", path: `lib/modules/${modules[index]}.ko`, data });
  }
  return cpio(entries);
}

async function must(guest: Guest, what: string, script: string, timeoutMs: number): Promise<void> {
  const { status, stderr } = await guest.exec(script, timeoutMs);
  if (status !== 0) throw new LabError(`lab: ${what} in the guest: status ${status}: ${stderr.trim()}`);
}

/** Inserts the load's modules into the kernel. Their BTF is split BTF with the kernel's BTF as its base. */
export async function insertModules(guest: Guest, names: readonly string[]): Promise<void> {
  for (const name of names) await must(guest, `module ${name}`, `insmod /lib/modules/${name}.ko`, 60_000);
}

/**
 * Starts two busy loops and two sleepers in three cgroups of different weights. All of them sleep at intervals. Also starts
 * processes that sleep until the end, each in a different place of the kernel (sleepers/sleepers.c).
 */
export async function startWorkload(guest: Guest): Promise<void> {
  const script = `
echo +cpu > /sys/fs/cgroup/cgroup.subtree_control
mkdir -p /sys/fs/cgroup/lab/left /sys/fs/cgroup/lab/right
echo +cpu > /sys/fs/cgroup/lab/cgroup.subtree_control
echo 300 > /sys/fs/cgroup/lab/left/cpu.weight
cat > /tmp/busy <<'END'
while :; do i=0; while [ $i -lt 300 ]; do i=$((i+1)); done; usleep 30000; done
END
for group in left right; do
  sh -c "echo \\$\\$ > /sys/fs/cgroup/lab/$group/cgroup.procs; exec sh /tmp/busy" > /dev/null 2>&1 &
  sh -c "echo \\$\\$ > /sys/fs/cgroup/lab/$group/cgroup.procs; while :; do usleep 200000; done" > /dev/null 2>&1 &
done
/lab-sleepers > /tmp/sleepers.json 2>/dev/null &
i=0
while [ ! -s /tmp/sleepers.json ]; do
  [ $i -lt 300 ] || { echo "no sleepers after 30 s" >&2; exit 1; }
  usleep 100000; i=$((i+1))
done
`;
  await must(guest, "the workload", script, 60_000);
}

/** Starts a scheduler and waits until the kernel reports it as enabled. */
export async function startScheduler(guest: Guest, name: SchedulerName): Promise<void> {
  const script = `
n=$(cat /sys/kernel/sched_ext/enable_seq)
${name} > /tmp/${name}.log 2>&1 &
pid=$!; echo $pid > /tmp/${name}.pid
i=0
while [ $i -lt 300 ]; do
  if [ "$(cat /sys/kernel/sched_ext/state)" = enabled ] && [ "$(cat /sys/kernel/sched_ext/enable_seq)" != "$n" ]; then exit 0; fi
  if ! kill -0 $pid 2>/dev/null; then cat /tmp/${name}.log >&2; exit 1; fi
  usleep 100000; i=$((i+1))
done
echo "not enabled after 30 s; state $(cat /sys/kernel/sched_ext/state)" >&2
cat /tmp/${name}.log >&2
exit 1
`;
  await must(guest, name, script, 120_000);
}

/** Ends a scheduler and waits until the kernel uses its own scheduler again. */
export async function stopScheduler(guest: Guest, name: SchedulerName): Promise<void> {
  const script = `
kill -INT $(cat /tmp/${name}.pid)
i=0
while [ $i -lt 300 ]; do
  kill -0 $(cat /tmp/${name}.pid) 2>/dev/null || exit 0
  usleep 100000; i=$((i+1))
done
exit 1
`;
  await must(guest, `the end of ${name}`, script, 120_000);
}

/** Starts the zoo's loader and waits until it has filled everything. Its JSON is in `/tmp/loader.json`. */
export async function startZoo(guest: Guest): Promise<void> {
  const script = `
/zoo-loader --answers /tmp/loader.json > /tmp/zoo.log 2>&1 &
pid=$!; echo $pid > /tmp/zoo.pid
i=0
while [ $i -lt 1800 ]; do
  if [ -s /tmp/loader.json ]; then exit 0; fi
  if ! kill -0 $pid 2>/dev/null; then cat /tmp/zoo.log >&2; exit 1; fi
  usleep 100000; i=$((i+1))
done
echo "nothing stored after 180 s" >&2
tail -20 /tmp/zoo.log >&2
exit 1
`;
  await must(guest, "the zoo", script, 240_000);
}
