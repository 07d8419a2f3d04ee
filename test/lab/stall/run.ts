/** Runs a stall in a guest. The scheduler is attached and works; the stall begins after the other answers are collected. */
import { collectLate } from "../answers.ts";
import type { Guest } from "../guest.ts";
import { LabError } from "../process.ts";

export const stallKinds = [
  "healthy",
  "lost-comm",
  "lost-dsq",
  "pinned",
  "slice-inf",
  "loop",
  "rt-hog",
  "near",
  "held",
  "rt-all",
  "starved",
  "dl-all",
  "kicked",
] as const;

export type StallKind = (typeof stallKinds)[number];

/** Stalls during which the guest cannot answer in time. Its late answers are collected just before the stall. */
export type SilentKind = "near" | "held" | "rt-all" | "dl-all" | "loop" | "kicked";

/** Stalls after which the kernel ejects the scheduler early enough for the lab. */
export type EjectedKind = Exclude<StallKind, "healthy" | "starved" | Exclude<SilentKind, "loop">>;

/** Time from the begin of the stall to the freeze. */
const SILENT_MS: { readonly [kind in SilentKind]: number } = {
  // Two thirds of the watchdog's timeout.
  near: 20_000,
  held: 5_000,
  // After three quarters of the watchdog's timeout, during which its worker does not run.
  "rt-all": 9_000,
  "dl-all": 9_000,
  // Well before the soft lockup detector ejects the scheduler: after 20 s on one CPU.
  loop: 8_000,
  kicked: 8_000,
};

export const isSilent = (kind: StallKind): kind is SilentKind => Object.hasOwn(SILENT_MS, kind);

export interface Stall {
  /** The kind of stall (stall.h). `rt-hog`: the scheduler works, and a SCHED_FIFO task holds a CPU. */
  readonly kind: StallKind;
  /** Whether the guest is frozen after the kernel's watchdog has ejected the scheduler. Otherwise it is frozen before. */
  readonly ejected: boolean;
}

/** The maximum of sched_ext, which is also its default (kernel/sched/ext, SCX_WATCHDOG_MAX_TIMEOUT). */
const LONG_TIMEOUT_MS = 30_000;
const SHORT_TIMEOUT_MS = 6_000;
/** Timeout for `rt-all`: the watchdog's worker cannot run, and the guest is frozen when most of the timeout has passed. */
const RT_ALL_TIMEOUT_MS = 10_000;
const LOOP_MS = 20_000;
/** Time from the begin of a stall to the answers. Collecting them takes two to ten seconds, less than the watchdog's timeout. */
const STALLED_MS = 3_000;

async function must(guest: Guest, what: string, script: string, timeoutMs = 120_000): Promise<void> {
  const { status, stderr } = await guest.exec(script, timeoutMs);
  if (status !== 0) throw new LabError(`lab: ${what} in the guest: status ${status}: ${stderr.trim()}`);
}

/** Attaches the scheduler, which works until the stall begins. Its own tasks sleep. */
export async function startStall(guest: Guest, stall: Stall): Promise<void> {
  const timeoutMs = stall.ejected
    ? SHORT_TIMEOUT_MS
    : stall.kind === "rt-all" || stall.kind === "dl-all"
      ? RT_ALL_TIMEOUT_MS
      : LONG_TIMEOUT_MS;
  const script = `
/lab-stall ${stall.kind} ${timeoutMs} ${LOOP_MS} /tmp/stall.json > /tmp/stall.log 2>&1 &
echo $! > /tmp/stall.pid
i=0
while [ "$(cat /sys/kernel/sched_ext/state)" != enabled ]; do
  if [ $i -ge 300 ] || ! kill -0 $(cat /tmp/stall.pid); then cat /tmp/stall.log >&2; exit 1; fi
  usleep 100000; i=$((i+1))
done
`;
  await must(guest, `the scheduler that stalls (${stall.kind})`, script);
}

/**
 * Lets a real-time task use its whole CPU: turns off the throttling of real-time tasks, and the servers that reserve time for
 * fair and sched_ext tasks (kernel/sched/deadline.c, fair_server and ext_server). Allows deadline tasks a period of more than
 * four seconds. Without the throttling, a deadline task can be bound to a CPU (kernel/sched/syscalls.c). Turns off the soft
 * lockup detector, which would interrupt the task every four seconds with a task of the stop class (kernel/watchdog.c).
 */
const UNLEASH_RT = `
echo 0 > /proc/sys/kernel/watchdog
echo -1 > /proc/sys/kernel/sched_rt_runtime_us
echo 100000000 > /proc/sys/kernel/sched_deadline_period_max_us
for server in fair_server ext_server; do
  for f in /sys/kernel/debug/sched/$server/cpu*/runtime; do
    [ ! -e $f ] || echo 0 > $f
  done
done
`;

const BEGIN = `
rm -f /tmp/stall.json
kill -USR1 $(cat /tmp/stall.pid)
i=0
while [ ! -s /tmp/stall.json ]; do
  [ $i -lt 200 ] || { echo "no statement after 20 s" >&2; cat /tmp/stall.log >&2; exit 1; }
  usleep 100000; i=$((i+1))
done
cat /tmp/stall.json
`;

/** Begins the stall of an attached scheduler. Returns the loader's statement. */
export async function beginStall(guest: Guest): Promise<string> {
  const { status, stdout, stderr } = await guest.exec(BEGIN, 120_000);
  if (status !== 0) throw new LabError(`lab: beginning the stall: status ${status}: ${stderr.trim()}`);
  return new TextDecoder().decode(stdout);
}

/** Begins the stall and collects the late answers during it, or after the ejection. The caller then freezes the guest. */
export async function stallAndCollect(guest: Guest, stall: Stall, answersDir: string): Promise<void> {
  if (isSilent(stall.kind) && !stall.ejected) return stallWithoutAnswers(guest, stall.kind, answersDir);
  await must(guest, "real-time limits", stall.kind === "rt-hog" ? UNLEASH_RT : "");
  await beginStall(guest);
  if (stall.ejected) await waitForEjection(guest);
  else await Bun.sleep(STALLED_MS);
  await collectLate(guest, answersDir);
}

/** Begins a stall during which the guest does not answer. The loader's statement then has only the tasks, not the stall. */
async function stallWithoutAnswers(guest: Guest, kind: SilentKind, answersDir: string): Promise<void> {
  await must(guest, "real-time limits", UNLEASH_RT);
  await collectLate(guest, answersDir);
  await must(guest, "beginning the stall", "(sleep 1; kill -USR1 $(cat /tmp/stall.pid)) > /dev/null 2>&1 &");
  await Bun.sleep(1000 + SILENT_MS[kind]);
}

async function waitForEjection(guest: Guest): Promise<void> {
  const script = `
i=0
while [ "$(cat /sys/kernel/sched_ext/state)" != disabled ] || ! grep -q '"exit"' /tmp/stall.json; do
  [ $i -lt 600 ] || { echo "not ejected after 60 s" >&2; exit 1; }
  usleep 100000; i=$((i+1))
done
`;
  await must(guest, "the ejection", script);
}
