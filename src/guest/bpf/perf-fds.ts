/** Lists programs on perf events and raw tracepoints, by the processes' file descriptors. */
import type { PerfAttachment } from "../../attachments.ts";
import { ptr, struct, u32 } from "../../btf/struct.ts";
import { LinkType, ProgType } from "../../uapi/names.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { forEachFile, type OpenFile } from "../kernel/open-files.ts";
import { probeOf, tracepointName } from "./link-probes.ts";
import { rawTracepointName } from "./link-targets.ts";
import { progId, progType } from "./progs.ts";

const EVENT = struct("perf_event", { prog: ptr, tp_event: ptr });
const LINK = struct("bpf_link", { type: u32, prog: ptr });

const OPERATIONS: Readonly<Record<string, "event" | "link">> = {
  perf_fops: "event",
  bpf_link_fops: "link",
  bpf_link_fops_poll: "link",
};

/** Returns the results of `bpf_task_fd_query` (kernel/bpf/syscall.c) for each descriptor. Throws `KtstrError`. */
export function listPerfAttachments(kernel: GuestKernel, files: readonly OpenFile[]): PerfAttachment[] {
  const all: PerfAttachment[] = [];
  forEachFile(kernel, files, OPERATIONS, (file, kind) => {
    const found = kind === "link" ? ofLink(kernel, file) : ofEvent(kernel, file);
    if (found !== undefined) all.push({ pid: file.pid, fd: file.fd, ...found });
  });
  return all.sort((a, b) => a.pid - b.pid || a.fd - b.fd);
}

type Attached = Omit<PerfAttachment, "pid" | "fd"> | undefined;

function ofLink(kernel: GuestKernel, { object: link }: OpenFile): Attached {
  const layout = LINK.resolve(kernel.btf);
  if (link.u32(layout.type, "type") !== LinkType.raw_tracepoint) return undefined;
  return {
    progId: progId(kernel, link.pointer(layout.prog, "prog"), "bpf_link.prog"),
    kind: "raw_tracepoint",
    name: Buffer.from(rawTracepointName(kernel, link)),
    ...{ offset: 0n, address: 0n },
  };
}

/** Programs of type perf_event are not reported, as in the kernel (bpf_get_perf_event_info). */
function ofEvent(kernel: GuestKernel, { object: event }: OpenFile): Attached {
  const layout = EVENT.resolve(kernel.btf);
  const prog = event.follow(layout.prog, "prog");
  if (prog.isNull) return undefined;
  const type = progType(kernel, prog.at, "perf_event.prog");
  if (type === ProgType.perf_event) return undefined;
  const id = progId(kernel, prog.at, "perf_event.prog");
  const call = event.follow(layout.tp_event, "tp_event");
  if (type === ProgType.tracepoint)
    return {
      ...{ progId: id, kind: "tracepoint", name: Buffer.from(tracepointName(kernel, call)) },
      ...{ offset: 0n, address: 0n },
    };
  const probe = probeOf(kernel, call);
  const isUser = probe.kind === "uprobe";
  return {
    progId: id,
    kind: isUser ? (probe.isReturn ? "uretprobe" : "uprobe") : probe.isReturn ? "kretprobe" : "kprobe",
    name: Buffer.from(isUser ? probe.file : probe.symbol),
    offset: BigInt(probe.offset),
    address: isUser ? probe.refCtrOffset : probe.address,
  };
}
