/**
 * Map types whose values cannot be read in user space: a lookup of any key returns the same error. Perf events and cgroups have
 * no `map_fd_sys_lookup_elem` (kernel/bpf/arraymap.c), AF_XDP sockets return an error (net/xdp/xskmap.c). The contents are
 * described in words instead.
 */
import { at, i32, place, ptr, struct, u16, u32, u64 } from "../../../btf/struct.ts";
import type { EntryCursor } from "../../../state.ts";
import { printable } from "../../../text.ts";
import { ENOTSUPP, EOPNOTSUPP, strerror } from "../../../uapi/errno.ts";
import { MapType } from "../../../uapi/names.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { GuestFault } from "../../memory/fault.ts";
import { add, type Pointer } from "../../memory/pointer.ts";
import { readOwner } from "./storage-owner.ts";
import { type GuestMap, IndexCursor, shapeOf } from "./walk.ts";

const BPF_ARRAY = struct("bpf_array", { ptrs: place });
const XSK_MAP = struct("xsk_map", { xsk_map: place });
const EVENT_ENTRY = struct("bpf_event_entry", { event: ptr });
const PERF_EVENT = struct("perf_event", {
  cpu: i32,
  type: at(u32, "attr.type"),
  config: at(u64, "attr.config"),
});
const XDP_SOCK = struct("xdp_sock", { queue_id: u16 });

/** Walks the indexes, without values; `note` describes the contents. Throws `LayoutError`. */
export function withheldEntries(kernel: GuestKernel, map: GuestMap): EntryCursor {
  const { memory, btf } = kernel;
  const isXsk = map.info.type === MapType.xskmap;
  const why = strerror(isXsk ? EOPNOTSUPP : ENOTSUPP);
  const table = add(map.at, isXsk ? XSK_MAP.resolve(btf).xsk_map : BPF_ARRAY.resolve(btf).ptrs);
  const bounds = { count: map.info.maxEntries, bytesEach: 8 };
  return new IndexCursor(kernel, shapeOf(map), bounds, (index, cursor) => {
    cursor.valueMissing = why;
    const at = memory.locate(table.hi, table.lo, index * 8, 8);
    if (at < 0) return cursor.account.skip("not-present");
    const object = { hi: memory.view.getInt32(at + 4, true), lo: memory.view.getInt32(at, true) };
    if ((object.hi | object.lo) !== 0) cursor.note = describe(kernel, map.info.type, object);
    return "value";
  });
}

function describe(kernel: GuestKernel, type: number, object: Pointer): string {
  try {
    switch (type) {
      case MapType.cgroup_array:
        return describeCgroup(kernel, object);
      case MapType.perf_event_array:
        return describeEvent(kernel, object);
      default:
        return describeSocket(kernel, object);
    }
  } catch (error) {
    if (error instanceof GuestFault) return error.message;
    throw error;
  }
}

function describeCgroup(kernel: GuestKernel, object: Pointer): string {
  const owner = readOwner(kernel, MapType.cgrp_storage, object);
  return owner.kind === "cgroup" ? `cgroup ${owner.id} ${printable(owner.path)}` : "a cgroup";
}

function describeEvent({ memory, btf }: GuestKernel, { hi, lo }: Pointer): string {
  const event = memory.pointer(hi, lo, EVENT_ENTRY.resolve(btf).event, "bpf_event_entry.event");
  const offsets = PERF_EVENT.resolve(btf);
  const type = memory.u32(event.hi, event.lo, offsets.type, "perf_event.attr.type");
  const config = memory.u64(event.hi, event.lo, offsets.config, "perf_event.attr.config");
  const cpu = memory.i32(event.hi, event.lo, offsets.cpu, "perf_event.cpu");
  return `perf event of type ${type}, config ${config}, ${cpu < 0 ? "any CPU" : `CPU ${cpu}`}`;
}

function describeSocket({ memory, btf }: GuestKernel, { hi, lo }: Pointer): string {
  return `AF_XDP socket, queue ${memory.u16(hi, lo, XDP_SOCK.resolve(btf).queue_id, "xdp_sock.queue_id")}`;
}
