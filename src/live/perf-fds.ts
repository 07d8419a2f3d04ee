/** Lists programs on perf events and raw tracepoints: `BPF_TASK_FD_QUERY` of every descriptor of every process. */
import { PERF_KINDS, type PerfAttachment } from "../attachments.ts";
import { KtstrError } from "../errors.ts";
import { FD_QUERY_ATTR } from "../uapi/bpf.ts";
import { EPERM } from "../uapi/errno.ts";
import { cutAtNul } from "../uapi/layout.ts";
import { Attr } from "./attr.ts";
import { pinned } from "./objects.ts";
import { bpfError, type Sys } from "./sys.ts";

/** PATH_MAX: the file of a uprobe may be this long. */
const NAME_BYTES = 4096;

/**
 * A descriptor without a program gives an error and is left out. Throws `SyscallError` without CAP_SYS_ADMIN, because the
 * kernel then rejects every query, and `KtstrError` if /proc is not mounted.
 */
export function queryDescriptors(sys: Sys): PerfAttachment[] {
  const all: PerfAttachment[] = [];
  const numbers = (path: string): number[] =>
    sys
      .readDirectory(path)
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .sort((a, b) => a - b);
  const name = pinned(NAME_BYTES);
  let isAnswered = false;
  let refused = "";
  const pids = numbers("/proc");
  if (pids.length === 0)
    throw new KtstrError("descriptors are queried one by one, and /proc, which lists them, is not mounted", {
      hint: "`mount -t proc proc /proc` mounts it",
    });
  for (const pid of pids)
    for (const fd of numbers(`/proc/${pid}/fd`)) {
      const attr = new Attr(FD_QUERY_ATTR, { pid, fd, buf_len: NAME_BYTES }).point("buf", name);
      name.fill(0);
      const done = sys.bpf("BPF_TASK_FD_QUERY", attr);
      if (done === -EPERM) refused = `descriptor ${fd} of process ${pid}`;
      else isAnswered = true;
      const kind = PERF_KINDS[attr.get("fd_type")];
      if (done < 0 || kind === undefined) continue;
      const view = new DataView(attr.bytes.buffer);
      all.push({
        ...{ pid, fd, progId: attr.get("prog_id"), kind, name: cutAtNul(name).slice() },
        offset: view.getBigUint64(FD_QUERY_ATTR.fields.probe_offset.offset, true),
        address: view.getBigUint64(FD_QUERY_ATTR.fields.probe_addr.offset, true),
      });
    }
  if (refused !== "" && !isAnswered) throw bpfError("BPF_TASK_FD_QUERY", refused, -EPERM);
  return all;
}
