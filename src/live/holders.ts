/** Lists the processes that hold BPF objects open, from /proc/PID/fd and fdinfo. */
import type { HeldKind, Holder, Holders } from "../state.ts";
import { cutAtNul } from "../uapi/layout.ts";
import type { Sys } from "./sys.ts";

/** Object kind and id line of fdinfo by the name of the anonymous inode (kernel/bpf/syscall.c, btf.c). */
const KINDS: Readonly<Record<string, readonly [HeldKind, string]>> = {
  "anon_inode:bpf-map": ["map", "map_id"],
  "anon_inode:bpf-prog": ["prog", "prog_id"],
  "anon_inode:bpf-link": ["link", "link_id"],
  "anon_inode:bpf_link": ["link", "link_id"],
  "anon_inode:btf": ["btf", "btf_id"],
};
/** PID_MAX_LIMIT (include/linux/threads.h). */
const MAX_PROCESSES = 4 * 2 ** 20;

/**
 * Returns the holders by ascending pid, or undefined if /proc is not mounted. `hidden` counts processes whose descriptors
 * this user may not see.
 *
 * @public Loaded by maps.ts.
 */
export function listHolders(sys: Sys): { readonly holders: Holders; readonly hidden: number } | undefined {
  const found: Record<HeldKind, Map<number, Holder[]>> = {
    ...{ map: new Map(), prog: new Map(), link: new Map(), btf: new Map() },
  };
  let hidden = 0;
  const pids = sys.readDirectory("/proc").filter((name) => /^\d+$/.test(name));
  if (pids.length === 0) return undefined;
  for (const pid of pids
    .map(Number)
    .sort((a, b) => a - b)
    .slice(0, MAX_PROCESSES)) {
    // This process holds the objects only while it lists them.
    if (pid === process.pid) continue;
    const names = sys.readDirectory(`/proc/${pid}/fd`);
    // No descriptors and no exe link: a kernel thread, or a process of another user.
    if (names.length === 0 && sys.readLink(`/proc/${pid}/exe`) === undefined && !isKernelThread(sys, pid))
      hidden++;
    let comm: Uint8Array | undefined;
    for (const name of names) {
      const [kind, key] = KINDS[sys.readLink(`/proc/${pid}/fd/${name}`) ?? ""] ?? [];
      if (kind === undefined || key === undefined) continue;
      const id = idOf(sys.readFile(`/proc/${pid}/fdinfo/${name}`), key);
      if (id === undefined) continue;
      comm ??= commOf(sys, pid);
      const holders = found[kind].get(id) ?? [];
      if (holders.at(-1)?.pid !== pid) holders.push({ pid, comm });
      found[kind].set(id, holders);
    }
  }
  return { holders: found, hidden };
}

/** Kernel threads have no command line (proc_pid_cmdline(5)). */
function isKernelThread(sys: Sys, pid: number): boolean {
  return (sys.readFile(`/proc/${pid}/cmdline`)?.length ?? 0) === 0;
}

function idOf(fdInfo: Uint8Array | undefined, key: string): number | undefined {
  const found = new RegExp(`^${key}:\\s*(\\d+)$`, "m").exec(Buffer.from(fdInfo ?? []).toString("latin1"));
  return found === null ? undefined : Number(found[1]);
}

function commOf(sys: Sys, pid: number): Uint8Array {
  const comm = sys.readFile(`/proc/${pid}/comm`) ?? new Uint8Array();
  const end = comm.lastIndexOf(0x0a);
  return cutAtNul(end < 0 ? comm : comm.subarray(0, end));
}
