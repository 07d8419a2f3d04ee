/** Lists links: `struct idr link_idr` -> every `struct bpf_link`, with the answers of `bpf_link_get_info_by_fd`. */
import { at, i64, optional, ptr, struct, u32 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { LinkDetails, LinkInfo } from "../../state.ts";
import { LinkType } from "../../uapi/names.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { listObjects, type Warn } from "../kernel/listing.ts";
import { StructAt } from "../kernel/struct-at.ts";
import { readKprobeMulti, readPerfEvent, readUprobeMulti } from "./link-probes.ts";
import {
  type LinkReader,
  readCgroup,
  readIter,
  readNetfilter,
  readNetkit,
  readNetns,
  readRawTracepoint,
  readSockmap,
  readStructOps,
  readTcx,
  readTracing,
  readXdp,
} from "./link-targets.ts";
import { progId } from "./progs.ts";

const LINK = struct("bpf_link", {
  refcnt: at(i64, "refcnt.counter"),
  id: u32,
  type: u32,
  prog: ptr,
  attach_type: optional(u32, "since 6.17; before, some of the structs around it have one"),
});

const READERS: Readonly<Record<number, LinkReader>> = {
  [LinkType.raw_tracepoint]: readRawTracepoint,
  [LinkType.tracing]: readTracing,
  [LinkType.cgroup]: readCgroup,
  [LinkType.iter]: readIter,
  [LinkType.netns]: readNetns,
  [LinkType.xdp]: readXdp,
  [LinkType.perf_event]: readPerfEvent,
  [LinkType.kprobe_multi]: readKprobeMulti,
  [LinkType.struct_ops]: readStructOps,
  [LinkType.netfilter]: readNetfilter,
  [LinkType.tcx]: readTcx,
  [LinkType.uprobe_multi]: readUprobeMulti,
  [LinkType.netkit]: readNetkit,
  [LinkType.sockmap]: readSockmap,
};

/**
 * Returns every link, by ascending id, with the attributes of its type under bpftool's names; `unreadable` says what could
 * not be read. The attributes are read lazily from the kernel that `open` returns. A link that is being created (its own id is
 * still 0) or freed is left out. Throws `LayoutError`.
 */
export function listLinks(kernel: GuestKernel, warn: Warn, open: () => GuestKernel): LinkInfo[] {
  const layout = LINK.resolve(kernel.btf);
  return listObjects(
    kernel,
    "link_idr",
    "link",
    (address, id) => {
      const link = new StructAt(kernel.memory, address, "bpf_link.");
      const own = link.u32(layout.id, "id");
      if (own === 0) return "not yet settled";
      if (own !== id) return "its id member differs";
      if (link.u64(layout.refcnt, "refcnt") === 0n) return "being freed";
      const type = link.u32(layout.type, "type");
      const attachType =
        layout.attach_type === undefined ? undefined : link.u32(layout.attach_type, "attach_type");
      const prog = progId(kernel, link.pointer(layout.prog, "prog"), "bpf_link.prog");
      let details: LinkDetails | undefined;
      return {
        id,
        type,
        progId: prog,
        get details(): LinkDetails {
          details ??= detailsOf(open(), link, type, attachType);
          return details;
        },
      };
    },
    warn,
  );
}

function detailsOf(
  kernel: GuestKernel,
  link: StructAt,
  type: number,
  attachType: number | undefined,
): LinkDetails {
  try {
    return READERS[type]?.({ kernel, link, attachType }) ?? {};
  } catch (error) {
    if (!(error instanceof KtstrError)) throw error;
    return { unreadable: error.message };
  }
}
