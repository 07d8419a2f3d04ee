/** Registers of tasks that ran on a CPU when the machine was frozen, from the dump's NT_PRSTATUS notes. */
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
  /** RBP, x29. */
  readonly fp: bigint;
  /** Of a program, and not of the kernel. */
  readonly isUser: boolean;
}

/** The CPU that runs a task: `rq->curr`. Throws `GuestFault`. */
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
 * Whose registers a note has is told by its `pr_pid`: QEMU's dumps number the CPUs from 1 on (dump/dump.c, `cpu_index`),
 * the kernel's name the task (kernel/kexec_core.c, crash_save_cpu). undefined: the dump has no note of this CPU.
 */
export function registersOf(kernel: GuestKernel, task: TaskAt, { cpu }: PerCpuArea): Registers | undefined {
  const { prstatus, info } = kernel;
  const pids = prstatus.map(pidOf);
  const isByCpu = pids.every((pid, index) => pid === index + 1);
  const note = prstatus[pids.indexOf(isByCpu ? cpu + 1 : task.pid)];
  if (note === undefined) return undefined;
  const names = PRSTATUS_REGISTERS[info.machine === "aarch64" ? "aarch64" : "x86_64"];
  const view = viewOf(note);
  const last = Math.max(names.ip, names.sp, names.fp, names.mode);
  const end = ELF_PRSTATUS.fields.reg.offset + 8 * (last + 1);
  if (view.byteLength < end) return undefined;
  const register = (index: number): bigint =>
    view.getBigUint64(ELF_PRSTATUS.fields.reg.offset + 8 * index, true);
  return {
    ip: register(names.ip),
    sp: register(names.sp),
    fp: register(names.fp),
    isUser: names.isUser(register(names.mode)),
  };
}

function pidOf(note: Uint8Array): number {
  const { offset } = ELF_PRSTATUS.fields.pid;
  return note.length < ELF_PRSTATUS.size ? -1 : viewOf(note).getUint32(offset, true);
}
