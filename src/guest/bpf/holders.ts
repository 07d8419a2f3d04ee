/** Which processes hold BPF objects open: `task_struct.files` -> `struct fdtable` -> `struct file` of every thread. */
import { place, ptr, struct, u32 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { HeldKind, Holder, Holders } from "../../state.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { StructAt } from "../kernel/struct-at.ts";
import { tasks } from "../kernel/tasks.ts";
import { isNull, type Pointer } from "../memory/pointer.ts";

const TASK = struct("task_struct", { files: ptr, group_leader: ptr, comm: place });
const FILES = struct("files_struct", { fdt: ptr });
const FDTABLE = struct("fdtable", { max_fds: u32, fd: ptr });
const FILE = struct("file", { f_op: ptr, private_data: ptr });
const MAP = struct("bpf_map", { id: u32 });
const PROG = struct("bpf_prog", { aux: ptr });
const PROG_AUX = struct("bpf_prog_aux", { id: u32 });
const LINK = struct("bpf_link", { id: u32 });
const BTF = struct("btf", { id: u32 });

/** kernel/bpf/syscall.c and btf.c: the operations of a descriptor tell what its `private_data` is. */
const OPERATIONS: Readonly<Record<string, HeldKind>> = {
  bpf_map_fops: "map",
  bpf_prog_fops: "prog",
  bpf_link_fops: "link",
  /** Since 6.11: links that can be polled. */
  bpf_link_fops_poll: "link",
  btf_fops: "btf",
};

const TASK_COMM_LEN = 16;
const POINTER_BYTES = 8;
/** fs/file.c: `sysctl_nr_open` is a million unless it is raised; more is not believed. */
const MAX_FDS = 2 ** 24;
/** Of all tables together. */
const MAX_SLOTS = 2 ** 26;

/** As bpftool's pid_iter.bpf.c finds them: by process, once each, by ascending pid. Throws `KtstrError`. */
export function listHolders(kernel: GuestKernel): Holders {
  const walk = new HolderWalk(kernel);
  for (const { at: task, tgid } of tasks(kernel)) walk.visit(task, tgid);
  return walk.holders();
}

class HolderWalk {
  readonly #kernel: GuestKernel;
  readonly #kinds: ReadonlyMap<string, HeldKind>;
  readonly #found: Record<HeldKind, Map<number, Map<number, Holder>>> = {
    ...{ map: new Map(), prog: new Map(), link: new Map(), btf: new Map() },
  };
  readonly #seen: Set<string> = new Set();
  #slots = 0;

  constructor(kernel: GuestKernel) {
    this.#kernel = kernel;
    const kinds = Object.entries(OPERATIONS).map(([name, kind]) => {
      const address = kernel.symbols.address(name);
      return address === undefined ? undefined : ([keyOf(address), kind] as const);
    });
    this.#kinds = new Map(kinds.filter((one) => one !== undefined));
    if (this.#kinds.size === 0)
      throw new KtstrError("find who holds BPF objects: the kernel has no bpf_map_fops");
  }

  /** Threads share their process's files; what cannot be read of one is left out. */
  visit(task: StructAt, pid: number): void {
    const { memory, btf } = this.#kernel;
    const layout = TASK.resolve(btf);
    try {
      const files = task.pointer(layout.files, "files");
      const key = `${pid} ${keyOf(files)}`;
      if (isNull(files) || this.#seen.has(key)) return;
      this.#seen.add(key);
      const table = new StructAt(memory, files, "files_struct.").follow(FILES.resolve(btf).fdt, "fdt");
      const { max_fds, fd } = FDTABLE.resolve(btf);
      const count = Math.min(table.u32(max_fds, "max_fds"), MAX_FDS);
      const slots = table.pointer(fd, "fd");
      let comm: Uint8Array | undefined;
      for (let slot = 0; slot < count && this.#slots < MAX_SLOTS; slot++, this.#slots++) {
        const at = memory.locate(slots.hi, slots.lo, slot * POINTER_BYTES, POINTER_BYTES);
        if (at < 0) return;
        const [lo, hi] = [memory.view.getInt32(at, true), memory.view.getInt32(at + 4, true)];
        if (hi === 0 && lo === 0) continue;
        const held = this.#held(new StructAt(memory, { hi, lo }, "file."));
        if (held === undefined) continue;
        comm ??= this.#comm(task, layout);
        const holders = this.#found[held.kind].get(held.id) ?? new Map<number, Holder>();
        holders.set(pid, { pid, comm });
        this.#found[held.kind].set(held.id, holders);
      }
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
    }
  }

  #comm(task: StructAt, layout: { group_leader: number; comm: number }): Uint8Array {
    const leader = task.pointer(layout.group_leader, "group_leader");
    const { memory } = this.#kernel;
    return memory.cstring(leader.hi, leader.lo, layout.comm, TASK_COMM_LEN, "task_struct.comm");
  }

  #held(file: StructAt): { readonly kind: HeldKind; readonly id: number } | undefined {
    const { btf } = this.#kernel;
    const { f_op, private_data } = FILE.resolve(btf);
    const kind = this.#kinds.get(keyOf(file.pointer(f_op, "f_op")));
    if (kind === undefined) return undefined;
    const object = file.follow(private_data, "private_data");
    switch (kind) {
      case "map":
        return { kind, id: object.u32(MAP.resolve(btf).id, "id") };
      case "prog":
        return { kind, id: object.follow(PROG.resolve(btf).aux, "aux").u32(PROG_AUX.resolve(btf).id, "id") };
      case "link":
        return { kind, id: object.u32(LINK.resolve(btf).id, "id") };
      case "btf":
        return { kind, id: object.u32(BTF.resolve(btf).id, "id") };
    }
  }

  holders(): Holders {
    const sorted = (of: ReadonlyMap<number, ReadonlyMap<number, Holder>>): ReadonlyMap<number, Holder[]> =>
      new Map([...of].map(([id, holders]) => [id, [...holders.values()].sort((a, b) => a.pid - b.pid)]));
    const { map, prog, link, btf } = this.#found;
    return { map: sorted(map), prog: sorted(prog), link: sorted(link), btf: sorted(btf) };
  }
}

const keyOf = ({ hi, lo }: Pointer): string => `${hi | 0}:${lo | 0}`;
