/** Reads schedulers: `struct scx_sched`, or the globals that preceded it until 6.15. */
import { at, bytes, i32, i64, optional, place, ptr, struct, u32, u64 } from "../../btf/struct.ts";
import type { ExitState, SchedulerState } from "../../sched-state.ts";
import { BTF_KIND } from "../../uapi/btf.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { listOf } from "../kernel/list.ts";
import { perCpuAddress } from "../kernel/percpu.ts";
import { StructAt } from "../kernel/struct-at.ts";
import { add, isNull, type Pointer } from "../memory/pointer.ts";
import { ScxNames } from "./names.ts";

/** SCX_OPS_NAME_LEN. */
const NAME_BYTES = 128;
const OPS = struct("sched_ext_ops", {
  name: bytes(NAME_BYTES),
  flags: u64,
  sub_cgroup_id: optional(u64, "since 7.1"),
});
const SCHED = struct("scx_sched", {
  ops: place,
  level: optional(i32, "since 7.1"),
  all: optional(place, "since 7.1"),
  ancestors: optional(place, "since 7.1"),
  cgrp_path: optional(ptr, "since 7.1, with CONFIG_EXT_SUB_SCHED"),
  bypass_depth: optional(i32, "since 7.1"),
  exit_info: ptr,
  pcpu: optional(ptr, "since 6.17"),
  events: optional(at(ptr, "event_stats_cpu"), "6.16, 6.17 before its updates"),
});
const PCPU = struct("scx_sched_pcpu", { event_stats: place });
const EXIT = struct("scx_exit_info", {
  kind: u32,
  exit_cpu: optional(i32, "since 7.1"),
  exit_code: i64,
  reason: ptr,
  bt: ptr,
  bt_len: u32,
  msg: ptr,
  dump: ptr,
});

/** SCX_EXIT_MSG_LEN and SCX_EXIT_BT_LEN. */
const MAX_MESSAGE_BYTES = 1024;
const MAX_FRAMES = 64;
/** `exit_dump_len` is set by the scheduler; the default is 32 KiB. */
const MAX_DUMP_BYTES = 1 << 20;
/** Limit on schedulers: SCX_SUB_MAX_DEPTH is 4, and there is at most one scheduler per cgroup. */
const MAX_SCHEDULERS = 4096;

export type NameAt = (at: Pointer) => string;
type OnFault = (error: unknown) => void;

/** Members that the kernel's object does not have: log.ts adds the times, and report.ts the map. */
const unknown = { enabledMs: undefined, disabledMs: undefined, mapId: undefined };

/** Returns `scx_root`, then the others of `scx_sched_all`. Empty if none is loaded, or before 6.16. */
export function schedulersOf(kernel: GuestKernel, onFault: OnFault): Pointer[] {
  const { memory, btf, symbols } = kernel;
  const variable = symbols.address("scx_root");
  if (variable === undefined) return [];
  const root = memory.pointer(variable.hi, variable.lo, 0, "scx_root");
  if (isNull(root)) return [];
  const found = [root];
  const head = symbols.address("scx_sched_all");
  const { all } = SCHED.resolve(btf);
  if (head === undefined || all === undefined) return found;
  for (const sched of listOf(kernel, head, all, "scx_sched_all", onFault)) {
    if (found.length === MAX_SCHEDULERS) break;
    if (sched.hi !== root.hi || sched.lo !== root.lo) found.push(sched);
  }
  return found;
}

/** Reads a `struct scx_sched *`. Throws `GuestFault` and `LayoutError`. */
export function readScheduler(
  kernel: GuestKernel,
  sched: Pointer,
  nameAt: NameAt,
  isLoaded: boolean,
): SchedulerState {
  const { memory, btf } = kernel;
  const offsets = SCHED.resolve(btf);
  const self = new StructAt(memory, sched, "scx_sched.");
  const events = eventsAt(self, offsets, kernel);
  const { bypass_depth, cgrp_path } = offsets;
  const level = levelOf(self, offsets);
  const ops = readOps(kernel, add(sched, offsets.ops));
  return {
    ...ops,
    ...unknown,
    isLoaded,
    level,
    place: placeName(level, ops.cgroupId),
    parent: parentOf(kernel, self, level, offsets),
    cgroupPath:
      cgrp_path === undefined || isNull(self.pointer(cgrp_path, "cgrp_path"))
        ? undefined
        : self.string(cgrp_path, "cgrp_path", 4096),
    bypassDepth: bypass_depth === undefined ? globalDepth(kernel) : self.i32(bypass_depth, "bypass_depth"),
    exit: readExit(kernel, self.pointer(offsets.exit_info, "exit_info"), nameAt),
    events: events === undefined ? [] : readEvents(kernel, events),
  };
}

const levelOf = (self: StructAt, { level }: { readonly level: number | undefined }): number =>
  level === undefined ? 0 : self.i32(level, "level");

/** SCX_SUB_MAX_DEPTH is 4. */
const MAX_LEVEL = 64;

/** Returns the parent's place. `ancestors[level]` is the scheduler itself, the entry before it is its parent (`scx_parent()`). */
function parentOf(
  kernel: GuestKernel,
  self: StructAt,
  level: number,
  { ancestors }: { readonly ancestors: number | undefined },
): string | undefined {
  if (ancestors === undefined || level <= 0 || level > MAX_LEVEL) return undefined;
  const at = self.pointer(ancestors + 8 * (level - 1), `ancestors[${level - 1}]`);
  if (isNull(at)) return undefined;
  const { ops } = SCHED.resolve(kernel.btf);
  return placeName(level - 1, readOps(kernel, add(at, ops)).cgroupId);
}

const placeName = (level: number, cgroupId: bigint | undefined): string =>
  level === 0 ? "root" : `sub${level}-${cgroupId ?? "?"}`;

/** Before 6.16: `scx_ops`, `scx_exit_info`, `event_stats_cpu`. Undefined if there is no such symbol or no scheduler. */
export function readOldScheduler(kernel: GuestKernel, nameAt: NameAt): SchedulerState | undefined {
  const { memory, symbols } = kernel;
  const ops = symbols.address("scx_ops");
  if (ops === undefined) return undefined;
  const read = readOps(kernel, ops);
  if (read.opsName === "") return undefined;
  const exit = symbols.address("scx_exit_info");
  const events = symbols.address("event_stats_cpu");
  return {
    ...read,
    ...unknown,
    isLoaded: true,
    level: 0,
    place: "root",
    parent: undefined,
    cgroupPath: undefined,
    bypassDepth: globalDepth(kernel),
    exit:
      exit === undefined
        ? undefined
        : readExit(kernel, memory.pointer(exit.hi, exit.lo, 0, "scx_exit_info"), nameAt),
    events: events === undefined ? [] : readEvents(kernel, events),
  };
}

/** `atomic_t scx_bypass_depth`, `int` since 6.19; before 6.14 `scx_ops_bypass_depth`. */
function globalDepth({ memory, symbols }: GuestKernel): number | undefined {
  const at = symbols.address("scx_bypass_depth") ?? symbols.address("scx_ops_bypass_depth");
  return at === undefined ? undefined : memory.i32(at.hi, at.lo, 0, "scx_bypass_depth");
}

function readOps({ memory, btf }: GuestKernel, at: Pointer) {
  const offsets = OPS.resolve(btf);
  const ops = new StructAt(memory, at, "sched_ext_ops.");
  const flags = ops.u64(offsets.flags, "flags");
  const { sub_cgroup_id } = offsets;
  return {
    opsName: ops.inlineString(offsets.name, "name", NAME_BYTES),
    flags,
    flagNames: ScxNames.of(btf).opsFlags(flags),
    cgroupId: sub_cgroup_id === undefined ? undefined : ops.u64(sub_cgroup_id, "sub_cgroup_id"),
  };
}

function readExit({ memory, btf }: GuestKernel, at: Pointer, nameAt: NameAt): ExitState | undefined {
  if (isNull(at)) return undefined;
  const offsets = EXIT.resolve(btf);
  const info = new StructAt(memory, at, "scx_exit_info.");
  const kind = info.u32(offsets.kind, "kind");
  if (kind === 0) return undefined;
  const bt = info.pointer(offsets.bt, "bt");
  const count = Math.min(info.u32(offsets.bt_len, "bt_len"), MAX_FRAMES);
  const backtrace: string[] = [];
  for (let n = 0; n < count && !isNull(bt); n++)
    backtrace.push(nameAt(memory.pointer(bt.hi, bt.lo, 8 * n, `scx_exit_info.bt[${n}]`)));
  return {
    kind,
    kindName: ScxNames.of(btf).exitKind(kind),
    code: BigInt.asIntN(64, info.u64(offsets.exit_code, "exit_code")),
    reason: info.string(offsets.reason, "reason", MAX_MESSAGE_BYTES),
    message: info.string(offsets.msg, "msg", MAX_MESSAGE_BYTES),
    cpu: offsets.exit_cpu === undefined ? undefined : info.i32(offsets.exit_cpu, "exit_cpu"),
    backtrace,
    dump: info.string(offsets.dump, "dump", MAX_DUMP_BYTES),
  };
}

/** The per-CPU `struct scx_event_stats`: in `pcpu` since bcb7c2305682 (6.18, updates of 6.17), in `event_stats_cpu` before. */
function eventsAt(
  sched: StructAt,
  { pcpu, events }: { readonly pcpu: number | undefined; readonly events: number | undefined },
  { btf }: GuestKernel,
): Pointer | undefined {
  if (events !== undefined) return sched.pointer(events, "event_stats_cpu");
  if (pcpu === undefined) return undefined;
  return add(sched.pointer(pcpu, "pcpu"), PCPU.resolve(btf).event_stats);
}

/** `scx_read_events()`: every member is a s64. */
function readEvents({ memory, btf, cpus }: GuestKernel, at: Pointer): { name: string; count: bigint }[] {
  const id = btf.find("scx_event_stats", BTF_KIND.STRUCT);
  if (id === undefined) return [];
  return [...btf.members(id)].map(({ name, bitOffset }) => {
    let count = 0n;
    for (const area of cpus.areas) {
      const { hi, lo } = perCpuAddress(at, area);
      count += BigInt.asIntN(64, memory.u64(hi, lo, bitOffset / 8, `event_stats_cpu.${name}`));
    }
    return { name, count };
  });
}
