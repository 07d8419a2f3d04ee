/** Reads the registers of running tasks from the dump's NT_PRSTATUS notes. */
import { ptr, struct } from "../../btf/struct.ts";
import { viewOf } from "../../uapi/layout.ts";
import { ELF_PRSTATUS, PRSTATUS_REGISTERS } from "../../uapi/prstatus.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { type PerCpuArea, perCpuAddress } from "../kernel/percpu.ts";
import { requireSymbol } from "../kernel/symbols.ts";
import type { TaskAt } from "../kernel/tasks.ts";

const RQ = struct("rq", { curr: ptr });

export interface Registers {
  readonly ip: bigint;
  readonly sp: bigint;
  /** RBP or x29. */
  readonly fp: bigint;
  /** Whether the CPU was in user mode. */
  readonly isUser: boolean;
  readonly areInterruptsOff: boolean;
}

/** Returns the CPU whose `rq->curr` is the task. Throws `GuestFault`. */
export function cpuOf({ memory, btf, symbols, cpus }: GuestKernel, { at }: TaskAt): PerCpuArea | undefined {
  const runqueues = requireSymbol(symbols, "runqueues");
  const { curr } = RQ.resolve(btf);
  return cpus.areas.find((area) => {
    const rq = perCpuAddress(runqueues, area);
    const task = memory.pointer(rq.hi, rq.lo, curr, "rq->curr");
    return task.hi === at.at.hi && task.lo === at.at.lo;
  });
}

/** Returns a running task's registers, or undefined if the dump has no note for its CPU. */
export function registersOf(kernel: GuestKernel, task: TaskAt, { cpu }: PerCpuArea): Registers | undefined {
  const note = noteOf(kernel, task, cpu);
  if (note === undefined) return undefined;
  const { info } = kernel;
  const names = PRSTATUS_REGISTERS[info.machine === "aarch64" ? "aarch64" : "x86_64"];
  const view = viewOf(note);
  const last = Math.max(names.ip, names.sp, names.fp, names.mode, names.flags);
  const end = ELF_PRSTATUS.fields.reg.offset + 8 * (last + 1);
  if (view.byteLength < end) return undefined;
  const register = (index: number): bigint =>
    view.getBigUint64(ELF_PRSTATUS.fields.reg.offset + 8 * index, true);
  return {
    ip: register(names.ip),
    sp: register(names.sp),
    fp: register(names.fp),
    isUser: names.isUser(register(names.mode)),
    areInterruptsOff: names.areInterruptsOff(register(names.flags)),
  };
}

/**
 * Returns the note of a CPU. `pr_pid` identifies it: QEMU's dumps number the CPUs from 1 (dump/dump.c, `cpu_index`), the
 * kernel's contain the task's pid (kernel/kexec_core.c, crash_save_cpu).
 */
function noteOf(kernel: GuestKernel, { pid }: TaskAt, cpu: number): Uint8Array | undefined {
  const { prstatus } = kernel;
  const pids = prstatus.map(pidOf);
  const isByCpu = pids.every((each, index) => each === index + 1);
  const wanted = isByCpu ? cpu + 1 : pid;
  const first = pids.indexOf(wanted);
  if (first === pids.lastIndexOf(wanted)) return prstatus[first];
  // Each CPU's idle task has pid 0. The notes are in the order of the possible CPUs, and a CPU that did not save its registers
  // has none (fs/proc/vmcore.c, merge_note_headers_elf64): only a note for each CPU makes the position certain.
  const { possible } = kernel.cpus;
  const place = possible.indexOf(cpu);
  return prstatus.length === possible.length && pids[place] === wanted ? prstatus[place] : undefined;
}

function pidOf(note: Uint8Array): number {
  const { offset } = ELF_PRSTATUS.fields.pid;
  return note.length < ELF_PRSTATUS.size ? -1 : viewOf(note).getUint32(offset, true);
}
