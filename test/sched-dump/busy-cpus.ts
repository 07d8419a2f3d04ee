/** Guests in which sched_ext cannot run tasks: a real-time task keeps each CPU busy, the kernel prints its dump, and the guest is frozen. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { cached, keyOf, labDir } from "../lab/cache.ts";
import { cpio } from "../lab/cpio.ts";
import { type Guest, startGuest } from "../lab/guest.ts";
import { GuestDied } from "../lab/guest-watch.ts";
import { fetchKernel, type KernelName } from "../lab/kernels.ts";
import { loadOverlay, startScheduler, startWorkload } from "../lab/load.ts";
import { LabError } from "../lab/process.ts";
import type { SchedulerName } from "../lab/schedulers.ts";
import { compileStatic } from "../lab/toolchain.ts";

/** Seconds from the start: longer than it takes until the freeze, shorter than the timeout of any watchdog (30 s; RCU's is 21 s). */
const HOLD_S = 16;
const ATTEMPTS = 3;

/**
 * Disables the throttling of real-time tasks, and the servers that lend time to fair and scx tasks
 * (kernel/sched/deadline.c, fair_server and ext_server).
 */
const SCRIPT = `
echo -1 > /proc/sys/kernel/sched_rt_runtime_us
for f in /sys/kernel/debug/sched/*_server/cpu*/runtime; do [ ! -e $f ] || echo 0 > $f; done
t=/sys/kernel/tracing
echo 4096 > $t/buffer_size_kb
echo 1 > $t/events/sched_ext/sched_ext_dump/enable
/lab-hold ${HOLD_S} > /tmp/hold.log 2>&1 || { cat /tmp/hold.log >&2; exit 1; }
cat $t/trace
`;

async function buildHold(): Promise<string> {
  const source = join(import.meta.dir, "hold.c");
  const key = keyOf(await Bun.file(source).text(), compileStatic.toString());
  const dir = await cached(join(labDir(), "hold", key), async (fresh) => {
    await mkdir(fresh, { recursive: true });
    await compileStatic("amd64", join(fresh, "hold"), ["-Wall", "-Wextra", "-Werror", source]);
  });
  return join(dir, "hold");
}

/**
 * Returns the result of `ask` for the frozen guest's memory, and the trace that the guest then sends. If a guest dies, another one is
 * started, a bounded number of times.
 */
export async function guestWithBusyCpus<T>(
  kernel: KernelName,
  scheduler: SchedulerName,
  ask: (guest: Guest) => T,
): Promise<{ readonly trace: string; readonly answer: T }> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await holdOnce(kernel, scheduler, ask);
    } catch (error) {
      if (!(error instanceof GuestDied) || attempt === ATTEMPTS) throw error;
    }
  }
}

async function holdOnce<T>(
  kernel: KernelName,
  scheduler: SchedulerName,
  ask: (guest: Guest) => T,
): Promise<{ readonly trace: string; readonly answer: T }> {
  const data = new Uint8Array(await readFile(await buildHold()));
  const overlays = [
    await loadOverlay({ schedulers: [scheduler], zoo: false }, await fetchKernel(kernel)),
    cpio([{ kind: "file", path: "lab-hold", data, executable: true }]),
  ];
  await using guest = await startGuest({ kernel, memoryMiB: 768, overlays });
  await startScheduler(guest, scheduler);
  await startWorkload(guest);
  const done = guest.exec(SCRIPT);
  await consoleSays(guest, "held", done);
  await guest.freeze();
  const answer = ask(guest);
  await guest.thaw();
  const { status, stdout, stderr } = await done;
  if (status !== 0) throw new LabError(`lab: the dump of a held guest: status ${status}: ${stderr.trim()}`);
  return { trace: new TextDecoder().decode(stdout), answer };
}

/** Waits until the console has the word, or until the guest's script ends. */
async function consoleSays(guest: Guest, word: string, script: Promise<unknown>): Promise<void> {
  const over = script.then(
    () => true,
    () => true,
  );
  while (!(await guest.console()).includes(word)) if (await Promise.race([over, Bun.sleep(20)])) return;
}
