/** Reads links to probes and perf events, one reader per type, like the kernel's `fill_link_info` and bpftool. */
import { at, i32, optional, place, ptr, struct, u32, u64 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { LinkDetails } from "../../state.ts";
import { MULTI_RETURN } from "../../uapi/link.ts";
import { ProgType } from "../../uapi/names.ts";
import { perfEventConfig, perfEventType } from "../../uapi/perf.ts";
import { namelessEnum } from "../kernel/enums.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { AddressNames } from "../kernel/names-at.ts";
import { pathOf } from "../kernel/paths.ts";
import { exact, type StructAt } from "../kernel/struct-at.ts";
import { fromBigInt } from "../memory/pointer.ts";
import type { LinkReader } from "./link-targets.ts";
import { progType } from "./progs.ts";

/** Limit on the name of a function or file. */
const MAX_NAME_BYTES = 4096;
/** Limit on the entries of a multi link that are shown. */
const MAX_MULTI = 65_536;

const PERF_LINK = struct("bpf_perf_link", { link: place, perf_file: ptr });
const FILE = struct("file", { private_data: ptr });
const PERF_EVENT = struct("perf_event", {
  prog: ptr,
  tp_event: ptr,
  bpf_cookie: u64,
  type: at(u32, "attr.type"),
  config: at(u64, "attr.config"),
});
const EVENT_CALL = struct("trace_event_call", { name: ptr, tp: ptr, flags: i32 });
const TRACEPOINT = struct("tracepoint", { name: ptr });
const PROBE_EVENT = struct("trace_probe_event", { call: place, probes: at(ptr, "probes.next") });
const PROBE = struct("trace_probe", { list: place });

/**
 * The link has an open perf event (`perf_file`), and the program's type gives its kind (kernel/bpf/syscall.c,
 * `bpf_perf_link_fill_link_info`; before 6.6 the kernel did not show it).
 */
export const readPerfEvent: LinkReader = ({ kernel, link }) => {
  const { btf } = kernel;
  const layout = PERF_LINK.resolve(btf);
  const file = link.outer(layout.link, "bpf_perf_link").follow(layout.perf_file, "perf_file");
  const event = file.follow(FILE.resolve(btf).private_data, "private_data");
  const members = PERF_EVENT.resolve(btf);
  const cookie = exact(event.u64(members.bpf_cookie, "bpf_cookie"));
  const prog = event.pointer(members.prog, "prog");
  const type = progType(kernel, prog, "perf_event.prog");
  if (type === ProgType.perf_event) return { ...readEvent(event, members), cookie };
  const call = event.follow(members.tp_event, "tp_event");
  if (type === ProgType.tracepoint) return { tracepoint: tracepointName(kernel, call), cookie };
  if (type === ProgType.kprobe) return readProbe(kernel, call, cookie);
  throw new KtstrError(`perf_event.prog->type: programs of type ${type} have no perf link`);
};

function readEvent(event: StructAt, members: { type: number; config: number }): LinkDetails {
  const type = event.u32(members.type, "attr.type");
  return {
    event_type: perfEventType(type),
    event_config: perfEventConfig(type, exact(event.u64(members.config, "attr.config"))),
  };
}

/** `TRACE_EVENT_FL_*` of include/linux/trace_events.h. The values differ between releases. */
function hasFlag({ btf }: GuestKernel, flags: number, name: "TRACEPOINT" | "KPROBE" | "UPROBE"): boolean {
  const values = namelessEnum(btf, "TRACE_EVENT_FL_CAP_ANY", "TRACE_EVENT_FL_FILTERED");
  const flag = values?.get(`TRACE_EVENT_FL_${name}`);
  if (flag === undefined) throw new KtstrError(`the kernel's BTF has no TRACE_EVENT_FL_${name}`);
  return (flags & flag) !== 0;
}

/** Returns the name of a tracepoint's `struct trace_event_call`: its tracepoint's, or its own for system calls. */
export function tracepointName(kernel: GuestKernel, call: StructAt): string {
  const members = EVENT_CALL.resolve(kernel.btf);
  if (!hasFlag(kernel, call.i32(members.flags, "flags"), "TRACEPOINT"))
    return call.string(members.name, "name", MAX_NAME_BYTES);
  return call.follow(members.tp, "tp").string(TRACEPOINT.resolve(kernel.btf).name, "name", MAX_NAME_BYTES);
}

/** `trace_probe_primary_from_call`: the first `struct trace_probe` of the enclosing `struct trace_probe_event`. */
function primaryProbe({ btf }: GuestKernel, call: StructAt): StructAt {
  const event = PROBE_EVENT.resolve(btf);
  const list = call.outer(event.call, "trace_probe_event").follow(event.probes, "probes");
  return list.outer(PROBE.resolve(btf).list, "trace_probe");
}

const TRACE_KPROBE = struct("trace_kprobe", {
  tp: place,
  symbol: ptr,
  addr: at(ptr, "rp.kp.addr"),
  offset: at(u32, "rp.kp.offset"),
  nmissed: at(u64, "rp.kp.nmissed"),
  handler: at(ptr, "rp.handler"),
  returnMissed: at(i32, "rp.nmissed"),
});
const TRACE_UPROBE = struct("trace_uprobe", {
  tp: place,
  filename: ptr,
  offset: u64,
  ref_ctr_offset: u64,
  ret_handler: at(ptr, "consumer.ret_handler"),
});

/** A `struct trace_kprobe` or `struct trace_uprobe`. */
export type Probe =
  | {
      readonly kind: "kprobe";
      readonly isReturn: boolean;
      readonly symbol: string;
      readonly address: bigint;
      readonly offset: number;
      readonly missed: bigint;
    }
  | {
      readonly kind: "uprobe";
      readonly isReturn: boolean;
      readonly file: string;
      readonly offset: bigint;
      readonly refCtrOffset: bigint;
    };

/** Returns the probe of a `struct trace_event_call`. Throws `KtstrError` if it has none. */
export function probeOf(kernel: GuestKernel, call: StructAt): Probe {
  const { btf } = kernel;
  const flags = call.i32(EVENT_CALL.resolve(btf).flags, "flags");
  const probe = primaryProbe(kernel, call);
  if (hasFlag(kernel, flags, "UPROBE")) {
    const members = TRACE_UPROBE.resolve(btf);
    const outer = probe.outer(members.tp, "trace_uprobe");
    return {
      kind: "uprobe",
      isReturn: !outer.follow(members.ret_handler, "consumer.ret_handler").isNull,
      file: outer.string(members.filename, "filename", MAX_NAME_BYTES),
      offset: outer.u64(members.offset, "offset"),
      refCtrOffset: outer.u64(members.ref_ctr_offset, "ref_ctr_offset"),
    };
  }
  if (!hasFlag(kernel, flags, "KPROBE"))
    throw new KtstrError(`trace_event_call.flags: 0x${flags.toString(16)} is neither a kprobe nor a uprobe`);
  const members = TRACE_KPROBE.resolve(btf);
  const outer = probe.outer(members.tp, "trace_kprobe");
  const isReturn = !outer.follow(members.handler, "rp.handler").isNull;
  const missed = outer.u64(members.nmissed, "rp.kp.nmissed");
  const missedReturns = isReturn ? BigInt(outer.i32(members.returnMissed, "rp.nmissed")) : 0n;
  return {
    kind: "kprobe",
    isReturn,
    symbol: outer.string(members.symbol, "symbol", MAX_NAME_BYTES),
    address: outer.u64(members.addr, "rp.kp.addr"),
    offset: outer.u32(members.offset, "rp.kp.offset"),
    missed: BigInt.asUintN(64, missed + missedReturns),
  };
}

function readProbe(kernel: GuestKernel, call: StructAt, cookie: number | bigint): LinkDetails {
  const probe = probeOf(kernel, call);
  if (probe.kind === "uprobe")
    return {
      retprobe: probe.isReturn,
      file: probe.file,
      offset: Number(BigInt.asUintN(32, probe.offset)),
      cookie,
      ref_ctr_offset: exact(probe.refCtrOffset),
    };
  return {
    retprobe: probe.isReturn,
    addr: exact(probe.address),
    func: probe.symbol,
    offset: probe.offset,
    missed: exact(probe.missed),
    cookie,
  };
}

const KPROBE_MULTI = struct("bpf_kprobe_multi_link", {
  link: place,
  addrs: ptr,
  cookies: ptr,
  cnt: u32,
  missed: at(u64, "fp.nmissed"),
  exit_handler: at(ptr, "fp.exit_handler"),
  flags: at(optional(u32, "since 6.3; in bpf_link since 6.17"), "flags", "link.flags"),
});

/** Reads an array of u64 that a link points to. */
function u64Array(outer: StructAt, offset: number, member: string, count: number): DataView {
  const list = outer.pointer(offset, member);
  const bytes = outer.memory.copy(list.hi, list.lo, 0, count * 8, member);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

export const readKprobeMulti: LinkReader = ({ kernel, link }) => {
  const members = KPROBE_MULTI.resolve(kernel.btf);
  const outer = link.outer(members.link, "bpf_kprobe_multi_link");
  const count = Math.min(outer.u32(members.cnt, "cnt"), MAX_MULTI);
  const isReturn =
    members.flags === undefined
      ? !outer.follow(members.exit_handler, "fp.exit_handler").isNull
      : (outer.u32(members.flags, "flags") & MULTI_RETURN) !== 0;
  const addresses = u64Array(outer, members.addrs, "bpf_kprobe_multi_link.addrs", count);
  const cookies = outer.follow(members.cookies, "cookies").isNull
    ? undefined
    : u64Array(outer, members.cookies, "bpf_kprobe_multi_link.cookies", count);
  const names = new AddressNames(kernel);
  const funcs: LinkDetails[] = [];
  for (let index = 0; index < count; index++) {
    const address = addresses.getBigUint64(index * 8, true);
    const cookie = cookies?.getBigUint64(index * 8, true) ?? 0n;
    funcs.push({ addr: exact(address), ...functionAt(names, address), cookie: exact(cookie) });
  }
  return {
    retprobe: isReturn,
    func_cnt: count,
    missed: exact(outer.u64(members.missed, "fp.nmissed")),
    funcs,
  };
};

/** x86-64 with CONFIG_X86_KERNEL_IBT: a function starts with `endbr64`, and its probe can be after that instruction. */
const ENDBR_BYTES = 4;

/** Returns the function at an address, as bpftool finds it. `module` is null for the kernel itself. */
function functionAt(names: AddressNames, address: bigint): LinkDetails {
  const found = names.find(fromBigInt(address));
  if (found === undefined || (found.offset !== 0 && found.offset !== ENDBR_BYTES)) return {};
  return { func: found.name, module: found.module === "" ? null : found.module };
}

const UPROBE_MULTI = struct("bpf_uprobe_multi_link", {
  link: place,
  mnt: at(ptr, "path.mnt"),
  dentry: at(ptr, "path.dentry"),
  cnt: u32,
  flags: at(u32, "flags", "link.flags"),
  uprobes: ptr,
  task: ptr,
});
const UPROBE = struct("bpf_uprobe", { offset: u64, ref_ctr_offset: u64, cookie: u64 });
const TASK = struct("task_struct", { pid: u32 });

/** Since 6.6. */
export const readUprobeMulti: LinkReader = ({ kernel, link }) => {
  const { btf } = kernel;
  const members = UPROBE_MULTI.resolve(btf);
  const outer = link.outer(members.link, "bpf_uprobe_multi_link");
  const count = Math.min(outer.u32(members.cnt, "cnt"), MAX_MULTI);
  const task = outer.follow(members.task, "task");
  const uprobe = UPROBE.resolve(btf);
  const list = outer.follow(members.uprobes, "uprobes");
  const funcs: LinkDetails[] = [];
  for (let index = 0; index < count; index++) {
    const at = index * uprobe.sizeof;
    funcs.push({
      offset: exact(list.u64(at + uprobe.offset, `[${index}].offset`)),
      ref_ctr_offset: exact(list.u64(at + uprobe.ref_ctr_offset, `[${index}].ref_ctr_offset`)),
      cookie: exact(list.u64(at + uprobe.cookie, `[${index}].cookie`)),
    });
  }
  return {
    retprobe: (outer.u32(members.flags, "flags") & MULTI_RETURN) !== 0,
    path: pathOf(
      kernel,
      outer.pointer(members.mnt, "path.mnt"),
      outer.pointer(members.dentry, "path.dentry"),
    ),
    func_cnt: count,
    pid: task.isNull ? 0 : task.u32(TASK.resolve(btf).pid, "pid"),
    funcs,
  };
};
