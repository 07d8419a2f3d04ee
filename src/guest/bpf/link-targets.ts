/**
 * Reads the targets of links, one reader per type. Each does the same as the kernel's `fill_link_info` of that type, with
 * bpftool's names.
 */
import { at, bytes, i32, optional, place, ptr, struct, u8, u32, u64 } from "../../btf/struct.ts";
import type { LinkDetails } from "../../state.ts";
import { utf8 } from "../../text.ts";
import { CGROUP_ITER_ORDERS } from "../../uapi/link.ts";
import { ATTACH_TYPES, nameOr } from "../../uapi/names.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { exact, type StructAt } from "../kernel/struct-at.ts";
import { GuestFault } from "../memory/fault.ts";
import { kernfsPath } from "./maps/storage-owner.ts";
import { IFNAMSIZ } from "./offload.ts";

/** A `struct bpf_link`, and its own attach type if this kernel stores it there. */
export interface LinkAt {
  readonly kernel: GuestKernel;
  readonly link: StructAt;
  readonly attachType: number | undefined;
}

/** Throws `GuestFault`, or `LayoutError` if this kernel has no such link. */
export type LinkReader = (link: LinkAt) => LinkDetails;

const UNTIL_6_16 = optional(u32, "until 6.16, then in bpf_link");
/** Limit: names of tracepoints, iterators and devices are much shorter. */
const MAX_NAME_BYTES = 256;

/** Returns the attach type's name, from the link or, before 6.17, from the enclosing struct. */
function attachTypeOf({ attachType }: LinkAt, outer: StructAt, offset: number | undefined): string | number {
  const value = offset === undefined ? (attachType ?? 0) : outer.u32(offset, "attach_type");
  return nameOr(ATTACH_TYPES, value);
}

const RAW_TP = struct("bpf_raw_tp_link", { link: place, btp: ptr, cookie: optional(u64, "since 6.10") });
const RAW_EVENT_MAP = struct("bpf_raw_event_map", { tp: ptr });
const TRACEPOINT = struct("tracepoint", { name: ptr });

/** Returns the tracepoint of the `struct bpf_raw_tp_link` that contains a link. Throws `GuestFault`. */
export function rawTracepointName({ btf }: GuestKernel, link: StructAt): string {
  const layout = RAW_TP.resolve(btf);
  const outer = link.outer(layout.link, "bpf_raw_tp_link");
  const tp = outer.follow(layout.btp, "btp").follow(RAW_EVENT_MAP.resolve(btf).tp, "tp");
  return tp.string(TRACEPOINT.resolve(btf).name, "name", MAX_NAME_BYTES);
}

export const readRawTracepoint: LinkReader = ({ kernel, link }) => {
  const layout = RAW_TP.resolve(kernel.btf);
  const outer = link.outer(layout.link, "bpf_raw_tp_link");
  return {
    tp_name: rawTracepointName(kernel, link),
    cookie: layout.cookie === undefined ? 0 : exact(outer.u64(layout.cookie, "cookie")),
  };
};

const TRACING = struct("bpf_tracing_link", {
  link: at(place, "link.link", "link"),
  trampoline: ptr,
  attach_type: UNTIL_6_16,
  cookie: at(optional(u64, "since 6.0"), "link.node.cookie", "link.cookie"),
});
const TRAMPOLINE = struct("bpf_trampoline", { key: u64 });

/** include/linux/bpf_verifier.h, `bpf_trampoline_compute_key`: bits 63:32 are the object's id, bits 30:0 the type's id. */
const KEY_TYPE_MASK = 0x7fff_ffffn;

export const readTracing: LinkReader = (context) => {
  const { btf } = context.kernel;
  const layout = TRACING.resolve(btf);
  const outer = context.link.outer(layout.link, "bpf_tracing_link");
  const key = outer.follow(layout.trampoline, "trampoline").u64(TRAMPOLINE.resolve(btf).key, "key");
  return {
    attach_type: attachTypeOf(context, outer, layout.attach_type),
    target_obj_id: Number(key >> 32n),
    target_btf_id: Number(key & KEY_TYPE_MASK),
    cookie: layout.cookie === undefined ? 0 : exact(outer.u64(layout.cookie, "cookie")),
  };
};

const CGROUP_LINK = struct("bpf_cgroup_link", {
  link: place,
  cgroup: ptr,
  type: UNTIL_6_16,
});
const CGROUP = struct("cgroup", { kn: ptr });
const KERNFS_NODE = struct("kernfs_node", { id: u64 });

/** The id is 0 for NULL: the link outlived its cgroup. The path is omitted if it cannot be read. */
function cgroupDetails(kernel: GuestKernel, cgroup: StructAt): LinkDetails {
  if (cgroup.isNull) return { cgroup_id: 0 };
  const { btf } = kernel;
  const node = cgroup.follow(CGROUP.resolve(btf).kn, "kn");
  const id = exact(node.u64(KERNFS_NODE.resolve(btf).id, "id"));
  const path = pathOfNode(kernel, node);
  return path === undefined ? { cgroup_id: id } : { cgroup_id: id, cgroup_path: path };
}

function pathOfNode(kernel: GuestKernel, node: StructAt): string | undefined {
  try {
    return utf8(kernfsPath(kernel, node.at));
  } catch (error) {
    if (error instanceof GuestFault) return undefined;
    throw error;
  }
}

export const readCgroup: LinkReader = (context) => {
  const layout = CGROUP_LINK.resolve(context.kernel.btf);
  const outer = context.link.outer(layout.link, "bpf_cgroup_link");
  return {
    ...cgroupDetails(context.kernel, outer.follow(layout.cgroup, "cgroup")),
    attach_type: attachTypeOf(context, outer, layout.type),
  };
};

const ITER_LINK = struct("bpf_iter_link", {
  link: place,
  tinfo: ptr,
  map: at(ptr, "aux.map"),
  start: optional(at(ptr, "aux.cgroup.start"), "since 6.1"),
  order: optional(at(u32, "aux.cgroup.order"), "since 6.1"),
  taskType: optional(at(u32, "aux.task.type"), "since 6.1"),
  pid: optional(at(u32, "aux.task.pid"), "since 6.1"),
});
const ITER_TARGET = struct("bpf_iter_target_info", { reg_info: ptr });
const ITER_REG = struct("bpf_iter_reg", { target: ptr });
const MAP = struct("bpf_map", { id: u32 });

/** include/linux/bpf.h: `enum bpf_iter_task_type`; 0 means all tasks. */
const TASK_ITER_TID = 1;
const TASK_ITER_TGID = 2;

export const readIter: LinkReader = ({ kernel, link }) => {
  const { btf } = kernel;
  const layout = ITER_LINK.resolve(btf);
  const outer = link.outer(layout.link, "bpf_iter_link");
  const reg = outer.follow(layout.tinfo, "tinfo").follow(ITER_TARGET.resolve(btf).reg_info, "reg_info");
  const target = reg.string(ITER_REG.resolve(btf).target, "target", MAX_NAME_BYTES);
  switch (target) {
    case "bpf_map_elem":
    case "bpf_sk_storage_map":
      return { target_name: target, map_id: mapId(kernel, outer.follow(layout.map, "aux.map")) };
    case "task":
    case "task_file":
    case "task_vma": {
      if (layout.pid === undefined || layout.taskType === undefined) return { target_name: target };
      const pid = outer.u32(layout.pid, "aux.task.pid");
      const type = outer.u32(layout.taskType, "aux.task.type");
      if (pid === 0 || (type !== TASK_ITER_TID && type !== TASK_ITER_TGID)) return { target_name: target };
      return type === TASK_ITER_TID ? { target_name: target, tid: pid } : { target_name: target, pid };
    }
    case "cgroup":
      if (layout.start === undefined || layout.order === undefined) return { target_name: target };
      return {
        target_name: target,
        ...cgroupDetails(kernel, outer.follow(layout.start, "aux.cgroup.start")),
        order: CGROUP_ITER_ORDERS[outer.u32(layout.order, "aux.cgroup.order")] ?? "unknown",
      };
    default:
      return { target_name: target };
  }
};

function mapId({ btf }: GuestKernel, map: StructAt): number {
  return map.isNull ? 0 : map.u32(MAP.resolve(btf).id, "id");
}

const STRUCT_OPS = struct("bpf_struct_ops_link", { link: place, map: ptr });

/** Links of struct_ops maps, since 6.4. */
export const readStructOps: LinkReader = ({ kernel, link }) => {
  const layout = STRUCT_OPS.resolve(kernel.btf);
  return { map_id: mapId(kernel, link.outer(layout.link, "bpf_struct_ops_link").follow(layout.map, "map")) };
};

const SOCKMAP = struct("sockmap_link", { link: place, map: ptr, attach_type: UNTIL_6_16 });

export const readSockmap: LinkReader = (context) => {
  const layout = SOCKMAP.resolve(context.kernel.btf);
  const outer = context.link.outer(layout.link, "sockmap_link");
  return {
    map_id: mapId(context.kernel, outer.follow(layout.map, "map")),
    attach_type: attachTypeOf(context, outer, layout.attach_type),
  };
};

const NETNS = struct("bpf_netns_link", { link: place, net: ptr, type: UNTIL_6_16 });
const NET = struct("net", {
  inum: at(u32, "ns.inum"),
  count: at(i32, "ns.__ns_ref.refs.counter", "ns.count.refs.counter", "count.refs.counter"),
});

/** A namespace that is being destroyed has no number (kernel/bpf/net_namespace.c, `check_net`). */
export const readNetns: LinkReader = (context) => {
  const { btf } = context.kernel;
  const layout = NETNS.resolve(btf);
  const outer = context.link.outer(layout.link, "bpf_netns_link");
  const net = outer.follow(layout.net, "net");
  const { inum, count } = NET.resolve(btf);
  return {
    netns_ino: net.isNull || net.i32(count, "ns.count") === 0 ? 0 : net.u32(inum, "ns.inum"),
    attach_type: attachTypeOf(context, outer, layout.type),
  };
};

const NETFILTER = struct("bpf_nf_link", {
  link: place,
  pf: at(u8, "hook_ops.pf"),
  hooknum: at(u32, "hook_ops.hooknum"),
  priority: at(i32, "hook_ops.priority"),
  defrag_hook: optional(ptr, "since 6.6"),
});
/** `BPF_F_NETFILTER_IP_DEFRAG`. */
const IP_DEFRAG = 1;

export const readNetfilter: LinkReader = ({ kernel, link }) => {
  const layout = NETFILTER.resolve(kernel.btf);
  const outer = link.outer(layout.link, "bpf_nf_link");
  const defrag = layout.defrag_hook;
  return {
    pf: outer.u8(layout.pf, "hook_ops.pf"),
    hook: outer.u32(layout.hooknum, "hook_ops.hooknum"),
    prio: outer.i32(layout.priority, "hook_ops.priority"),
    flags: defrag !== undefined && !outer.follow(defrag, "defrag_hook").isNull ? IP_DEFRAG : 0,
  };
};

const NET_DEVICE = struct("net_device", { ifindex: i32, name: bytes(IFNAMSIZ) });

/** bpftool only knows names in its own network namespace; here every device has its name. */
function deviceDetails({ btf }: GuestKernel, device: StructAt): { devname: string; ifindex: number } {
  if (device.isNull) return { devname: "(detached)", ifindex: 0 };
  const layout = NET_DEVICE.resolve(btf);
  return {
    devname: device.inlineString(layout.name, "name", IFNAMSIZ),
    ifindex: device.i32(layout.ifindex, "ifindex"),
  };
}

const XDP = struct("bpf_xdp_link", { link: place, dev: ptr });

export const readXdp: LinkReader = ({ kernel, link }) => {
  const layout = XDP.resolve(kernel.btf);
  return deviceDetails(kernel, link.outer(layout.link, "bpf_xdp_link").follow(layout.dev, "dev"));
};

const TCX = struct("tcx_link", { link: place, dev: ptr, location: UNTIL_6_16 });
const NETKIT = struct("netkit_link", { link: place, dev: ptr, location: UNTIL_6_16 });

export const readTcx: LinkReader = (context) => readDeviceLink(context, TCX);
export const readNetkit: LinkReader = (context) => readDeviceLink(context, NETKIT);

function readDeviceLink(context: LinkAt, table: typeof TCX): LinkDetails {
  const layout = table.resolve(context.kernel.btf);
  const outer = context.link.outer(layout.link, table.name);
  return {
    ...deviceDetails(context.kernel, outer.follow(layout.dev, "dev")),
    attach_type: attachTypeOf(context, outer, layout.location),
  };
}
