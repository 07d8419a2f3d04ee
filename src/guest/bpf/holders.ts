/** Finds the processes that hold BPF objects open, by their file descriptors. */
import { place, ptr, struct, u32 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import { found, type HeldKind, type Holder, type Holders, type Read, unreadable } from "../../state.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { forEachFile, type OpenFile } from "../kernel/open-files.ts";
import type { StructAt } from "../kernel/struct-at.ts";

const TASK = struct("task_struct", { group_leader: ptr, comm: place });
const MAP = struct("bpf_map", { id: u32 });
const PROG = struct("bpf_prog", { aux: ptr });
const PROG_AUX = struct("bpf_prog_aux", { id: u32 });
const LINK = struct("bpf_link", { id: u32 });
const BTF = struct("btf", { id: u32 });

/** kernel/bpf/syscall.c and btf.c: a file's operations give the type of its `private_data`. */
const OPERATIONS: Readonly<Record<string, HeldKind>> = {
  bpf_map_fops: "map",
  bpf_prog_fops: "prog",
  bpf_link_fops: "link",
  bpf_link_fops_poll: "link",
  btf_fops: "btf",
};

const TASK_COMM_LEN = 16;

/**
 * Lists each process once, by ascending pid, like bpftool's pid_iter.bpf.c. Returns `unsupported` if the kernel has no file
 * operations of BPF objects.
 */
export function readHolders(kernel: GuestKernel, files: () => readonly OpenFile[]): Read<Holders> {
  try {
    return found(listHolders(kernel, files()));
  } catch (error) {
    if (error instanceof KtstrError) return unreadable("unsupported", error.message);
    throw error;
  }
}

function listHolders(kernel: GuestKernel, files: readonly OpenFile[]): Holders {
  const held: Record<HeldKind, Map<number, Map<number, Holder>>> = {
    ...{ map: new Map(), prog: new Map(), link: new Map(), btf: new Map() },
  };
  const comms = new Map<number, Uint8Array>();
  forEachFile(kernel, files, OPERATIONS, ({ task, pid, object }, kind) => {
    const id = idOf(kernel, kind, object);
    const comm = comms.get(pid) ?? commOf(kernel, task);
    comms.set(pid, comm);
    const holders = held[kind].get(id) ?? new Map<number, Holder>();
    holders.set(pid, { pid, comm });
    held[kind].set(id, holders);
  });
  const sorted = (of: ReadonlyMap<number, ReadonlyMap<number, Holder>>): ReadonlyMap<number, Holder[]> =>
    new Map([...of].map(([id, holders]) => [id, [...holders.values()].sort((a, b) => a.pid - b.pid)]));
  return {
    map: sorted(held.map),
    prog: sorted(held.prog),
    link: sorted(held.link),
    btf: sorted(held.btf),
  };
}

function commOf({ btf, memory }: GuestKernel, task: StructAt): Uint8Array {
  const layout = TASK.resolve(btf);
  const leader = task.pointer(layout.group_leader, "group_leader");
  return memory.cstring(leader.hi, leader.lo, layout.comm, TASK_COMM_LEN, "task_struct.comm");
}

/** Returns the id of a `struct bpf_map`, `bpf_prog`, `bpf_link` or `btf`. Throws `GuestFault`. */
export function idOf({ btf }: GuestKernel, kind: HeldKind, object: StructAt): number {
  switch (kind) {
    case "map":
      return object.u32(MAP.resolve(btf).id, "id");
    case "prog":
      return object.follow(PROG.resolve(btf).aux, "aux").u32(PROG_AUX.resolve(btf).id, "id");
    case "link":
      return object.u32(LINK.resolve(btf).id, "id");
    case "btf":
      return object.u32(BTF.resolve(btf).id, "id");
  }
}
