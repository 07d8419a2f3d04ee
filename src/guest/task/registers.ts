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

/**
 * Returns a running task's registers, or undefined if the dump has no note for its CPU. `pr_pid` identifies the note:
 * QEMU's dumps number the CPUs from 1 (dump/dump.c, `cpu_index`), the kernel's contain the task's pid
 * (kernel/kexec_core.c, crash_save_cpu).
 */
export function registersOf(kernel: GuestKernel, task: TaskAt, { cpu }: PerCpuArea): Registers | undefined {
  const { prstatus, info } = kernel;
  const pids = prstatus.map(pidOf);
  const isByCpu = pids.every((pid, index) => pid === index + 1);
  const note = prstatus[pids.indexOf(isByCpu ? cpu + 1 : task.pid)];
  if (note === undefined) return undefined;
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

function pidOf(note: Uint8Array): number {
  const { offset } = ELF_PRSTATUS.fields.pid;
  return note.length < ELF_PRSTATUS.size ? -1 : viewOf(note).getUint32(offset, true);
}
