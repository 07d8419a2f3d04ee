/** Reads links of the running kernel: `struct bpf_link_info`, with the arms of `src/uapi/link.ts`. */
import type { Fd, PinnedBytes } from "../ffi.ts";
import { addressOf } from "../ffi.ts";
import type { LinkDetails, LinkInfo } from "../state.ts";
import { utf8 } from "../text.ts";
import { LINK_INFO } from "../uapi/bpf.ts";
import { cutAtNul, readU53 } from "../uapi/layout.ts";
import {
  CGROUP_ITER_ORDERS,
  ITER,
  KPROBE_MULTI,
  LINK_ARMS,
  type LinkField,
  MULTI_RETURN,
  PERF_EVENT_ARMS,
  PERF_EVENT_EVENT,
  PERF_EVENT_PROBE_TYPES,
  PERF_EVENT_RETURN_TYPES,
  PERF_EVENT_TYPE_OFFSET,
  UPROBE_MULTI,
} from "../uapi/link.ts";
import { ATTACH_TYPES, LinkType, nameOr } from "../uapi/names.ts";
import { perfEventConfig, perfEventType } from "../uapi/perf.ts";
import { CgroupPaths } from "./cgroups.ts";
import { symbolsAt } from "./kallsyms.ts";
import { forEachObject, LINKS, objectInfo, pinned } from "./objects.ts";
import type { Sys } from "./sys.ts";

const TEXT_BYTES = 4096;
/** Limit on addresses of one multi link. */
const MAX_MULTI = 65_536;

type Details = { -readonly [Key in keyof LinkDetails]: LinkDetails[Key] };

/** Reads a link in two calls: the first gives its type, the second passes the buffers that this type needs. */
export function readLinkInfo(sys: Sys, fd: Fd, object: string, cgroups: CgroupPaths): LinkInfo {
  const first = objectInfo(sys, fd, LINK_INFO, object);
  const type = first.getUint32(0, true);
  const arms = armsOf(type, first);
  const texts = new Map<LinkField, PinnedBytes>();
  let view = first;
  if (arms.some((field) => field.kind === "string")) {
    const into = pinned(LINK_INFO.size);
    const wanted = new DataView(into.buffer);
    for (const field of arms) {
      if (field.kind !== "string") continue;
      const text = pinned(TEXT_BYTES);
      texts.set(field, text);
      pointAt(wanted, field.offset, text);
      wanted.setUint32(field.lengthOffset ?? 0, TEXT_BYTES, true);
    }
    view = objectInfo(sys, fd, LINK_INFO, object, into);
  }
  const details: Details = {};
  if (type === LinkType.perf_event) showPerfEventKind(view, details);
  for (const field of arms) showField(sys, view, field, texts, details);
  if (type === LinkType.iter) showIterTarget(view, details);
  addCgroupPath(details, cgroups);
  if (type === LinkType.kprobe_multi) showKprobeMulti(sys, fd, object, view, details);
  if (type === LinkType.uprobe_multi) showUprobeMulti(sys, fd, object, view, details);
  return { id: view.getUint32(4, true), type, progId: view.getUint32(8, true), details };
}

export function collectLinks(sys: Sys, warn: (sentence: string) => void): LinkInfo[] {
  const links: LinkInfo[] = [];
  const cgroups = new CgroupPaths(sys);
  forEachObject(sys, LINKS, warn, (id, fd) => {
    using owned = fd;
    links.push(readLinkInfo(sys, owned, `link ${id}`, cgroups));
  });
  return links;
}

function addCgroupPath(details: Details, cgroups: CgroupPaths): void {
  const id = details["cgroup_id"];
  if ((typeof id !== "number" && typeof id !== "bigint") || id === 0) return;
  const path = cgroups.of(id);
  if (path !== undefined) details["cgroup_path"] = utf8(path);
}

function armsOf(type: number, view: DataView): readonly LinkField[] {
  if (type !== LinkType.perf_event) return LINK_ARMS[type] ?? [];
  return PERF_EVENT_ARMS[view.getUint32(PERF_EVENT_TYPE_OFFSET, true)] ?? [];
}

function pointAt(view: DataView, offset: number, bytes: PinnedBytes): void {
  const address = addressOf(bytes);
  view.setUint32(offset, address, true);
  view.setUint32(offset + 4, Math.floor(address / 2 ** 32), true);
}

/** Returns a u64 as a number if that is exact, else as a bigint. Both print the same digits. */
function u64(view: DataView, offset: number): number | bigint {
  return view.getUint32(offset + 4, true) < 2 ** 21 ? readU53(view, offset) : view.getBigUint64(offset, true);
}

function showField(
  sys: Sys,
  view: DataView,
  field: LinkField,
  texts: ReadonlyMap<LinkField, PinnedBytes>,
  details: Details,
): void {
  const { key, kind, offset } = field;
  switch (kind) {
    case "u32":
      details[key] = view.getUint32(offset, true);
      return;
    case "i32":
      details[key] = view.getInt32(offset, true);
      return;
    case "u64":
      details[key] = u64(view, offset);
      return;
    case "attach_type":
      details[key] = nameOr(ATTACH_TYPES, view.getUint32(offset, true));
      return;
    case "ifindex": {
      const index = view.getUint32(offset, true);
      const name = index === 0 ? undefined : sys.deviceName(index);
      // bpftool's words for a device that was removed, and for a device in another network namespace.
      const none = index === 0 ? "(detached)" : "(unknown)";
      details["devname"] = name === undefined ? none : utf8(cutAtNul(name));
      details[key] = index;
      return;
    }
    case "string":
      details[key] = utf8(cutAtNul(texts.get(field) ?? new Uint8Array()));
  }
}

/** Adds the keys that precede the fields of a perf_event link's arm: `retprobe` of a probe, or type and config of an event. */
function showPerfEventKind(view: DataView, details: Details): void {
  const kind = view.getUint32(PERF_EVENT_TYPE_OFFSET, true);
  if (PERF_EVENT_PROBE_TYPES.includes(kind)) details["retprobe"] = PERF_EVENT_RETURN_TYPES.includes(kind);
  if (kind !== PERF_EVENT_EVENT.kind) return;
  const type = view.getUint32(PERF_EVENT_EVENT.type, true);
  details["event_type"] = perfEventType(type);
  details["event_config"] = perfEventConfig(type, u64(view, PERF_EVENT_EVENT.config));
}

/** The arm of `iter` depends on the target (kernel/bpf/{map,task,cgroup}_iter.c, `fill_link_info`). */
function showIterTarget(view: DataView, details: Details): void {
  const target = details["target_name"];
  if (target === "bpf_map_elem" || target === "bpf_sk_storage_map") {
    details["map_id"] = view.getUint32(ITER.map_id, true);
  } else if (target === "task" || target === "task_file" || target === "task_vma") {
    const tid = view.getUint32(ITER.tid, true);
    const pid = view.getUint32(ITER.pid, true);
    if (tid > 0) details["tid"] = tid;
    else if (pid > 0) details["pid"] = pid;
  } else if (target === "cgroup") {
    details["cgroup_id"] = u64(view, ITER.cgroup_id);
    details["order"] = CGROUP_ITER_ORDERS[view.getUint32(ITER.order, true)] ?? "unknown";
  }
}

/** Returns an array of u64 that the kernel filled for a multi link. */
function u64Array(view: DataView, offset: number, count: number): PinnedBytes {
  const into = pinned(count * 8);
  pointAt(view, offset, into);
  return into;
}

function showKprobeMulti(sys: Sys, fd: Fd, object: string, view: DataView, details: Details): void {
  const count = Math.min(view.getUint32(KPROBE_MULTI.count, true), MAX_MULTI);
  details["retprobe"] = (view.getUint32(KPROBE_MULTI.flags, true) & MULTI_RETURN) !== 0;
  details["func_cnt"] = count;
  details["missed"] = u64(view, KPROBE_MULTI.missed);
  const into = pinned(LINK_INFO.size);
  const wanted = new DataView(into.buffer);
  const addresses = new DataView(u64Array(wanted, KPROBE_MULTI.addrs, count).buffer);
  const cookies = new DataView(u64Array(wanted, KPROBE_MULTI.cookies, count).buffer);
  wanted.setUint32(KPROBE_MULTI.count, count, true);
  objectInfo(sys, fd, LINK_INFO, object, into);
  const probes = Array.from({ length: count }, (_, index) => ({
    addr: addresses.getBigUint64(index * 8, true),
    cookie: u64(cookies, index * 8),
  })).sort((a, b) => (a.addr < b.addr ? -1 : Number(a.addr > b.addr)));
  const symbols = symbolsAt(
    sys,
    probes.map(({ addr }) => addr),
  );
  const funcs = probes.map(({ addr, cookie }): LinkDetails => {
    const symbol = symbols.get(addr);
    return symbol === undefined
      ? { addr, cookie }
      : { addr, func: symbol.name, module: symbol.module, cookie };
  });
  details["funcs"] = funcs;
}

function showUprobeMulti(sys: Sys, fd: Fd, object: string, view: DataView, details: Details): void {
  const count = Math.min(view.getUint32(UPROBE_MULTI.count, true), MAX_MULTI);
  details["retprobe"] = (view.getUint32(UPROBE_MULTI.flags, true) & MULTI_RETURN) !== 0;
  const into = pinned(LINK_INFO.size);
  const wanted = new DataView(into.buffer);
  const path = pinned(TEXT_BYTES);
  pointAt(wanted, UPROBE_MULTI.path, path);
  wanted.setUint32(UPROBE_MULTI.path_size, TEXT_BYTES, true);
  const offsets = new DataView(u64Array(wanted, UPROBE_MULTI.offsets, count).buffer);
  const references = new DataView(u64Array(wanted, UPROBE_MULTI.ref_ctr_offsets, count).buffer);
  const cookies = new DataView(u64Array(wanted, UPROBE_MULTI.cookies, count).buffer);
  wanted.setUint32(UPROBE_MULTI.count, count, true);
  objectInfo(sys, fd, LINK_INFO, object, into);
  details["path"] = utf8(cutAtNul(path));
  details["func_cnt"] = count;
  details["pid"] = view.getUint32(UPROBE_MULTI.pid, true);
  const funcs: LinkDetails[] = [];
  for (let index = 0; index < count; index++) {
    funcs.push({
      offset: u64(offsets, index * 8),
      ref_ctr_offset: u64(references, index * 8),
      cookie: u64(cookies, index * 8),
    });
  }
  details["funcs"] = funcs;
}
