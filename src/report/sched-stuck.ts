/** Finding "cpu-stuck": a program of the scheduler does not return and holds a run queue's lock, so that all CPUs hang. */
import { type Finding, secondsText } from "./sched-findings.ts";
import type { SchedCpu, SchedView } from "./sched-view.ts";

/** Prefix of the symbols that the kernel gives to programs: "bpf_prog_<tag>_". */
const PROGRAM = /^bpf_prog_[0-9a-f]{16}_(?=\w)/;
/** kernel/locking/qspinlock.c and qrwlock.c. */
const SPINS: readonly string[] = [
  "native_queued_spin_lock_slowpath",
  "queued_spin_lock_slowpath",
  "queued_read_lock_slowpath",
  "queued_write_lock_slowpath",
];
/** Limits on the named functions of a stack, and on the stacks of a finding. */
const NAMED = 6;

/**
 * Detects that all CPUs have their interrupts off: one or more are in a BPF program, and others spin for a lock. No CPU then handles timer
 * ticks, so all clocks in memory stopped at that moment. Needs the CPUs' registers.
 */
export function stuckCpus({ cpus }: SchedView): Finding[] {
  if (!cpus.every(({ areInterruptsOff }) => areInterruptsOff === true)) return [];
  const spinning = cpus.filter(isSpinning);
  const inProgram = cpus.filter((cpu) => !isSpinning(cpu) && programOf(cpu) !== undefined);
  const [first] = inProgram;
  if (first?.clockNs === undefined || spinning.length === 0) return [];
  const stopped = cpus.reduce((latest, { clockNs = 0n }) => (clockNs > latest ? clockNs : latest), 0n);
  const wait =
    spinning.length === 1
      ? `CPU ${spinning[0]?.cpu} waits for a lock`
      : `${spinning.length} CPUs wait for locks`;
  const involved = [...inProgram, ...spinning];
  return [
    {
      kind: "cpu-stuck",
      summary: `CPU ${first.cpu} has been in the BPF program ${programOf(first)} since ${uptimeText(first.clockNs)} after boot, ${wait}, and all CPUs have interrupts off: the kernel's clock does not run`,
      details: [
        `All times on this page end ${uptimeText(stopped)} after boot, even if the machine was frozen much later.`,
        ...involved.slice(0, NAMED).map(placeText),
      ],
      pids: involved.flatMap(({ currPid }) => (currPid === undefined ? [] : [currPid])),
      cpus: involved.map(({ cpu }) => cpu),
      dsqId: undefined,
      waitMs: undefined,
    },
  ];
}

function isSpinning({ stack }: SchedCpu): boolean {
  return SPINS.includes(functionOf(stack?.[0] ?? ""));
}

/** The outermost program of the innermost BPF frames. The inner ones are its functions. */
function programOf({ stack = [] }: SchedCpu): string | undefined {
  const start = stack.findIndex((frame) => PROGRAM.test(frame));
  if (start < 0) return undefined;
  const length = stack.slice(start).findIndex((frame) => !PROGRAM.test(frame));
  return functionOf(stack.at(length < 0 ? -1 : start + length - 1) ?? "");
}

/** "outer_loop" of "bpf_prog_f04df6452e6c7b41_outer_loop+0x65/0xb8 [bpf]". */
const functionOf = (frame: string): string => frame.replace(/\+0x.*$/, "").replace(PROGRAM, "");

function placeText({ cpu, currComm, currPid, stack = [] }: SchedCpu): string {
  const functions = stack.slice(0, NAMED).map(functionOf).join(", ");
  const more = stack.length > NAMED ? " and so on" : "";
  return `CPU ${cpu} runs ${currComm}[${currPid}], in ${functions}${more}.`;
}

const uptimeText = (ns: bigint): string => secondsText(Number(ns / 1_000_000n));
