/** Produces the kernel's dump of every loaded scheduler, as SysRq-D would print it (`scx_dump_state()`, kernel/sched/ext). */
import { bytes, optional, place, ptr, struct } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { SchedulerDumps, SchedulerState } from "../../sched-state.ts";
import type { DumpCpu, DumpTask, ScxDump } from "../../sched-text/dump.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import type { AddressNames } from "../kernel/names-at.ts";
import { type PerCpuArea, perCpuAddress } from "../kernel/percpu.ts";
import { add, isNull, type Pointer } from "../memory/pointer.ts";
import { schedTraces } from "../task/trace.ts";
import { readJiffies } from "./jiffies.ts";
import { type CpuRead, kicksIn, readRunQueue } from "./rqs.ts";
import { requireSchedExt } from "./sched-ext.ts";
import { readOldScheduler, readScheduler, schedulersOf } from "./scx-sched.ts";
import { ScxTasks } from "./scx-task.ts";

const SCHED = struct("scx_sched", {
  ops: place,
  level: optional(place, "since 7.1"),
  cgrp_path: optional(ptr, "since 7.1, with CONFIG_EXT_SUB_SCHED"),
  dump_disabled: optional(bytes(1), "since 7.1"),
  pcpu: optional(ptr, "since 6.17"),
});
const OPS = struct("sched_ext_ops", { dump: ptr, dump_cpu: ptr, dump_task: ptr });
/** Whether a task's line has `no_mig`: no type shows it, but this member was added in the same release. */
const EXIT = struct("scx_exit_info", { flags: optional(place, "since 6.18") });

/** The format of this kernel's dump, derived from the members of its types. */
interface Form {
  /** Before 6.16 (as in 6.12): no slice, no weight, no `ops_qseq`. */
  readonly isOld: boolean;
  readonly namesScheduler: boolean;
  readonly namesOwner: boolean;
  readonly hasNoMig: boolean;
}

/** A loaded scheduler. In 6.12 the operations are in a global variable. */
interface Loaded {
  readonly sched: Pointer | undefined;
  readonly ops: Pointer;
  readonly state: SchedulerState;
}

/**
 * Returns one dump per scheduler, the root's first. Parts that cannot be read are left out and listed in `missing`. Throws
 * `KtstrError` if this kernel has no sched_ext or if no scheduler is loaded.
 */
export function readSchedulerDumps(kernel: GuestKernel, names: AddressNames): SchedulerDumps {
  const missing: string[] = [];
  const onFault = (error: unknown): void => {
    if (!(error instanceof Error) || error instanceof TypeError) throw error;
    if (!missing.includes(error.message)) missing.push(error.message);
  };
  const schedulers = loadedSchedulers(kernel, names, onFault);
  const form = formOf(kernel);
  const reader = new ScxTasks(kernel, readJiffies(kernel));
  const traceOf = schedTraces(kernel, names);
  const cpus = kernel.cpus.areas.flatMap((area) => {
    try {
      const read = readRunQueue(kernel, area, reader, onFault);
      return [{ area, read: { ...read, tasks: read.tasks.map((task) => reader.withStack(task, traceOf)) } }];
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
      onFault(error);
      return [];
    }
  });
  return {
    dumps: schedulers.map((one) => dumpOf(kernel, form, one, cpus)),
    cpuCount: 1 + (kernel.cpus.possible.at(-1) ?? 0),
    callbacks: [...new Set(schedulers.flatMap(({ ops }) => callbacksOf(kernel, ops)))],
    missing,
  };
}

function loadedSchedulers(
  kernel: GuestKernel,
  names: AddressNames,
  onFault: (error: unknown) => void,
): Loaded[] {
  const { memory, btf, symbols } = kernel;
  requireSchedExt(kernel);
  const nameAt = (at: Pointer): string => names.text(at);
  const global = isOld(kernel) ? symbols.address("scx_ops") : undefined;
  const old = global === undefined ? undefined : readOldScheduler(kernel, nameAt);
  const found: Loaded[] =
    global === undefined || old === undefined ? [] : [{ sched: undefined, ops: global, state: old }];
  for (const sched of schedulersOf(kernel, onFault)) {
    const { ops, dump_disabled } = SCHED.resolve(btf);
    if (dump_disabled !== undefined && memory.u8(sched.hi, sched.lo, dump_disabled, "dump_disabled") !== 0)
      continue;
    found.push({ sched, ops: add(sched, ops), state: readScheduler(kernel, sched, nameAt, true) });
  }
  if (found.length > 0) return found;
  throw new KtstrError("sched dump: no scheduler is loaded", {
    hint: "`ktstr sched` shows an ejected scheduler, with the dump that the kernel keeps of it",
  });
}

/** Before 6.16 there was no `struct scx_sched`. */
const isOld = ({ symbols }: GuestKernel): boolean => symbols.address("scx_root") === undefined;

function formOf(kernel: GuestKernel): Form {
  const { btf } = kernel;
  const sched = SCHED.resolveIfPresent(btf);
  return {
    isOld: isOld(kernel),
    namesScheduler: sched?.cgrp_path !== undefined,
    namesOwner: sched?.level !== undefined,
    hasNoMig: EXIT.resolve(btf).flags !== undefined,
  };
}

/** Returns the callbacks for which `SCX_HAS_OP()` is true: each adds lines to the dump. */
function callbacksOf({ memory, btf }: GuestKernel, ops: Pointer): string[] {
  const offsets = OPS.resolve(btf);
  return (["dump", "dump_cpu", "dump_task"] as const).filter(
    (name) => !isNull(memory.pointer(ops.hi, ops.lo, offsets[name], `ops.${name}`)),
  );
}

function dumpOf(
  kernel: GuestKernel,
  form: Form,
  { sched, state }: Loaded,
  cpus: readonly { readonly area: PerCpuArea; readonly read: CpuRead }[],
): ScxDump {
  const scheduler = state.place;
  // SysRq-D dumps every scheduler, each with its own tasks.
  const isOwn = (task: DumpTask): boolean => task.scheduler === undefined || task.scheduler === scheduler;
  return {
    opsName: form.namesScheduler ? state.opsName : undefined,
    scheduler: form.namesScheduler ? scheduler : undefined,
    cgroupPath: state.level === 0 ? undefined : state.cgroupPath,
    trigger: {
      kind: "debug",
      reason: "SysRq-D",
      message: "",
      exitKind: undefined,
      comm: "",
      pid: undefined,
      cpu: undefined,
      backtrace: [],
    },
    cpus: cpus
      .filter(({ read }) => !read.cpu.isIdle)
      .map(({ area, read }) => ({
        ...cpuIn(form, read),
        kicks: [...kicksOfScheduler(kernel, sched, area), ...read.cpu.kicks],
        tasks: read.tasks.filter(isOwn).map((task) => taskIn(form, task)),
      })),
    events: state.events,
    unknown: [],
    incomplete: "",
    firstLine: 0,
    lastLine: 0,
  };
}

function cpuIn({ isOld }: Form, { cpu }: CpuRead): Omit<DumpCpu, "tasks"> {
  return isOld ? { ...cpu, sequences: cpu.sequences.filter(({ name }) => name === "pnt_seq") } : cpu;
}

function taskIn({ isOld, namesOwner, hasNoMig }: Form, task: DumpTask): DumpTask {
  return {
    ...task,
    scheduler: namesOwner ? (task.scheduler ?? "root") : undefined,
    isOwn: namesOwner ? true : undefined,
    sliceNs: isOld ? undefined : task.sliceNs,
    weight: isOld ? undefined : task.weight,
    migrationDisabled: hasNoMig ? task.migrationDisabled : undefined,
  };
}

/** Since 7.3 each scheduler has its own masks. */
function kicksOfScheduler(
  kernel: GuestKernel,
  sched: Pointer | undefined,
  area: PerCpuArea,
): DumpCpu["kicks"] {
  const { memory, btf } = kernel;
  const pcpu = SCHED.resolveIfPresent(btf)?.pcpu;
  if (sched === undefined || pcpu === undefined) return [];
  const base = memory.pointer(sched.hi, sched.lo, pcpu, "scx_sched.pcpu");
  return kicksIn(kernel, perCpuAddress(base, area), "scx_sched_pcpu", "");
}
