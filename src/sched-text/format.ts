/**
 * Prints a dump in the kernel's format: the format strings of `scx_dump_state`, `scx_dump_cpu` and `scx_dump_task`
 * (kernel/sched/ext.c of 6.12 to 7.1, kernel/sched/ext/ext.c since 7.2). Undefined members are members that the release does
 * not print. The output of a scheduler's own `dump` callbacks (`unknown`) is not printed.
 */
import type { DumpCpu, DumpTask, DumpTrigger, ScxDump } from "./dump.ts";

/** Yields lines without line ends. `cpuCount` is `nr_cpu_ids`, which determines the width of masks. */
export function* dumpLines(dump: ScxDump, cpuCount: number): Generator<string> {
  const { opsName, scheduler, cgroupPath } = dump;
  if (opsName !== undefined)
    yield scheduler === undefined || scheduler === "root"
      ? `${opsName}: root`
      : `${opsName}: ${scheduler} ${cgroupPath ?? ""}`;
  yield* triggerLines(dump.trigger);
  yield* heading("CPU states");
  for (const cpu of dump.cpus) yield* cpuLines(cpu, cpuCount);
  if (dump.events.length === 0) return; // 6.12 has no event counters
  yield* heading("Event counters");
  for (const { name, count } of dump.events) yield `${name.padStart(40)}: ${String(count).padStart(16)}`;
}

function* heading(title: string): Generator<string> {
  yield "";
  yield title;
  yield "-".repeat(title.length);
}

function* triggerLines(trigger: DumpTrigger): Generator<string> {
  if (trigger.kind !== "exit") {
    yield `Debug dump triggered by ${trigger.reason}`;
    return;
  }
  const cpu = trigger.cpu === undefined ? "" : ` on CPU ${trigger.cpu}`;
  yield `${trigger.comm}[${trigger.pid}] triggered exit kind ${trigger.exitKind}${cpu}:`;
  yield `  ${trigger.reason} (${trigger.message})`;
  yield "";
  yield "Backtrace:";
  for (const frame of trigger.backtrace) yield `  ${frame}`;
}

function* cpuLines(cpu: DumpCpu, cpuCount: number): Generator<string> {
  const { nrRunning, flags, cpuReleased, currPid } = cpu;
  const sequences = cpu.sequences.map(({ name, value }) => ` ${name}=${value}`).join("");
  yield "";
  if (nrRunning !== undefined && flags !== undefined && cpuReleased !== undefined)
    yield `CPU ${String(cpu.cpu).padEnd(4)}: nr_run=${nrRunning} flags=${hex(flags)} cpu_rel=${cpuReleased}${sequences}`;
  if (cpu.rescue !== undefined) yield `          ${cpu.rescue}`;
  if (currPid !== undefined) yield `          curr=${cpu.currComm}[${currPid}] class=${cpu.currClass}`;
  for (const { name, cpus } of cpu.kicks) yield `  ${name.padEnd(15)}: ${cpuMask(cpus, cpuCount)}`;
  for (const task of cpu.tasks) yield* taskLines(task, cpuCount);
}

function* taskLines(task: DumpTask, cpuCount: number): Generator<string> {
  const { scheduler, isOwn, waitMs } = task;
  const owner = scheduler === undefined ? "" : ` ${isOwn === true ? "*" : ""}${scheduler}`;
  const delta = waitMs > 0 ? `-${waitMs}` : `+${0 - waitMs}`;
  yield "";
  yield ` ${task.isCurrent ? "*" : " "}${task.state} ${task.comm}[${task.pid}]${owner} ${delta}ms`;
  yield* fieldLines(task, cpuCount);
  if (task.stack.length > 0) yield "";
  for (const frame of task.stack) yield `    ${frame}`;
}

/** Omits a line whose values are missing. */
function* fieldLines(task: DumpTask, cpuCount: number): Generator<string> {
  const {
    scxState,
    flags,
    dsqFlags,
    opsState,
    qseq,
    stickyCpu,
    holdingCpu,
    dsqId,
    vtime,
    sliceNs,
    weight,
    cpus,
  } = task;
  if (scxState !== undefined && flags !== undefined && dsqFlags !== undefined)
    yield `      scx_state/flags=${scxState}/${hex(flags)} dsq_flags=${hex(dsqFlags)} ops_state/qseq=${opsState}/${qseq}`;
  // 6.12 prints dsq_vtime on the line of the queue, and neither slice nor weight.
  if (stickyCpu !== undefined && dsqId !== undefined) {
    const old = sliceNs === undefined && vtime !== undefined ? ` dsq_vtime=${vtime}` : "";
    const dsq = dsqId === null ? "(n/a)" : `0x${dsqId.toString(16)}`;
    yield `      sticky/holding_cpu=${stickyCpu}/${holdingCpu} dsq_id=${dsq}${old}`;
  }
  if (sliceNs !== undefined) yield `      dsq_vtime=${vtime} slice=${sliceNs} weight=${weight}`;
  if (cpus === undefined) return;
  const pinned = task.migrationDisabled === undefined ? "" : ` no_mig=${task.migrationDisabled}`;
  yield `      cpus=${cpuMask(cpus, cpuCount)}${pinned}`;
}

const hex = (value: number): string => `0x${value.toString(16)}`;

/**
 * `%*pb` of `cpumask_pr_args()`: 32-bit words; the first word has only the digits it needs (lib/vsprintf.c, `bitmap_string`).
 */
export function cpuMask(cpus: readonly number[], cpuCount: number): string {
  const words = new Uint32Array(Math.max(1, Math.ceil(cpuCount / 32)));
  for (const cpu of cpus) if (cpu < cpuCount) words[cpu >>> 5]! |= 1 << (cpu & 31);
  const firstBits = cpuCount % 32 === 0 ? 32 : cpuCount % 32;
  return [...words]
    .map((word, index) =>
      word.toString(16).padStart(index === words.length - 1 ? Math.ceil(firstBits / 4) : 8, "0"),
    )
    .reverse()
    .join(",");
}
