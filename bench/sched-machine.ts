/** Builds the memory of a frozen machine with a sched_ext scheduler, and as many CPUs and waiting tasks as a case needs. */
import { closeSync, ftruncateSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Btf } from "../src/btf/btf.ts";
import { Mapping, mmap, PROT_READ, PROT_WRITE } from "../src/ffi.ts";
import { BTF_KIND } from "../src/uapi/btf.ts";
import { SyntheticKernel } from "../test/guest/machine.ts";

/** Distance from one CPU's copy of a per-CPU object to the next. */
const STRIDE = 0x4000;
const HZ_1000 = { mult: 1_000_000 << 8, shift: 8 };
const JIFFIES = 4_300_000_000n;
const QUEUED = 1;
const ENABLED = 4 << 8;
const USER_QUEUES = 16;
const BUCKETS = 64;
/**
 * `task_struct_cachep` of the lab's Debian 7.3: slabs of 32 KiB (`oo` 0x30003: order 3, 3 objects), each object
 * 9,024 bytes. The types have 6,144 of them: `struct fpu` follows, whose size the kernel computes at boot
 * (arch/x86/kernel/fpu/init.c, fpu__init_task_struct_size). A task's other memory (stack, `mm_struct`) is not read.
 */
const TASK_OBJECT_BYTES = 9024;
const TASKS_PER_SLAB = 3;
const SLAB_BYTES = 32 * 1024;
/** Every second task is on a CPU's local queue, the others on queues of the scheduler. */
const isLocal = (task: number): boolean => task % 2 === 0;

/** Writes the machine to `folder`, with the types of a kernel that has sched_ext, and returns its path. */
export function makeSchedMachine(folder: string, typesPath: string, cpus: number, tasks: number): string {
  const path = join(folder, `sched-${cpus}-${tasks}`);
  const types = new Uint8Array(readFileSync(typesPath));
  const btf = Btf.parse(types);
  const sizeOf = (name: string): number => btf.sizeOf(typeOf(btf, name));
  const taskBytes = Math.ceil(SLAB_BYTES / TASKS_PER_SLAB) + 64 * Math.ceil(sizeOf("signal_struct") / 64);
  const size = 2 ** 21 * Math.ceil((tasks * taskBytes + cpus * 2 * STRIDE + 64 * 2 ** 20) / 2 ** 21);
  const fd = openSync(path, "w+");
  ftruncateSync(fd, size);
  const mapping = mmap({ fd, offset: 0, length: size, protection: PROT_READ | PROT_WRITE });
  closeSync(fd);
  if (!(mapping instanceof Mapping)) throw new Error(`mmap ${path}: errno ${-mapping}`);
  using _ = mapping;
  new SchedMachine(new Uint8Array(mapping.buffer), types, btf, cpus).fill(tasks);
  return path;
}

function typeOf(btf: Btf, name: string): number {
  const id = btf.find(name, BTF_KIND.STRUCT);
  if (id === undefined) throw new Error(`the types have no struct ${name}`);
  return id;
}

/** A struct in the machine: its type, and its physical and virtual address. */
interface At {
  readonly type: string;
  readonly at: number;
  readonly address: bigint;
}

class SchedMachine {
  readonly #kernel: SyntheticKernel;
  readonly #btf: Btf;
  readonly #cpus: number;
  /** Physical address of the slabs of all tasks. */
  #slabs = 0;

  constructor(bytes: Uint8Array<ArrayBuffer>, types: Uint8Array, btf: Btf, cpus: number) {
    this.#btf = btf;
    this.#cpus = cpus;
    const place = (type: string, member: string): number => btf.member(typeOf(btf, type), member)!.byteOffset;
    const resource = Object.fromEntries(
      ["start", "end", "name", "sibling", "child"].map((name) => [name, place("resource", name)]),
    ) as { start: number; end: number; name: number; sibling: number; child: number };
    this.#kernel = new SyntheticKernel({
      bytes,
      types: {
        bytes: types,
        idrBytes: btf.sizeOf(typeOf(btf, "idr")),
        cpumaskBytes: btf.sizeOf(typeOf(btf, "cpumask")),
        resource: { ...resource, size: btf.sizeOf(typeOf(btf, "resource")) },
      },
      perCpuOffsets: Array.from({ length: cpus }, (_, cpu) => BigInt(cpu * STRIDE)),
      variables: {
        runqueues: cpus * STRIDE,
        jiffies: 8,
        clocksource_jiffies: btf.sizeOf(typeOf(btf, "clocksource")),
        scx_enable_state_var: 4,
        scx_root: 8,
        scx_watchdog_timestamp: 8,
        nr_node_ids: 4,
        ext_sched_class: 256,
        idle_sched_class: 256,
        init_task: btf.sizeOf(typeOf(btf, "task_struct")),
      },
    });
  }

  fill(count: number): void {
    const { machine } = this.#kernel;
    this.#u64(this.#variable("jiffies", "list_head"), "next", JIFFIES);
    const clock = this.#variable("clocksource_jiffies", "clocksource");
    this.#u32(clock, "mult", HZ_1000.mult);
    this.#u32(clock, "shift", HZ_1000.shift);
    machine.writeU32(this.#kernel.physicalOf("scx_enable_state_var"), 1);
    machine.writeU32(this.#kernel.physicalOf("nr_node_ids"), 1);
    machine.writeU64(this.#kernel.physicalOf("scx_watchdog_timestamp"), JIFFIES - 1000n);
    const idle = this.#new("task_struct");
    this.#text(idle, "comm", "swapper");
    this.#u64(idle, "sched_class", this.#kernel.addressOf("idle_sched_class"));
    const mask = this.#allMask();
    const { sched, queues } = this.#scheduler();
    const rqs = Array.from({ length: this.#cpus }, (_, cpu) => this.#runQueue(cpu, idle, mask));
    const init = this.#variable("init_task", "task_struct");
    const processes = this.#list(init, "tasks");
    const runnable = rqs.map((rq) => this.#list(rq, "scx.runnable_list"));
    const local = rqs.map((rq) => this.#list(rq, "scx.local_dsq.list"));
    const user = queues.map((queue) => this.#list(queue, "list"));
    const slabBytes = SLAB_BYTES * Math.ceil(count / TASKS_PER_SLAB);
    this.#slabs = machine.allocate(slabBytes, SLAB_BYTES);
    // A hole in the file would not count as resident when its neighbours are read.
    for (let at = 0; at < slabBytes; at += 4096) machine.writeU64(this.#slabs + at, 0n);
    for (let n = 0; n < count; n++) {
      const cpu = n % this.#cpus;
      const queue = isLocal(n) ? undefined : queues[(n >>> 1) % queues.length]!;
      const task = this.#task(n, cpu, sched);
      processes.add(task, "tasks");
      runnable[cpu]!.add(task, "scx.runnable_node");
      (queue === undefined ? local[cpu]! : user[queues.indexOf(queue)]!).add(task, "scx.dsq_list.node");
      // `nr` is the number of tasks so far.
      const [dsq, nr] = queue === undefined ? [rqs[cpu]!, "scx.local_dsq.nr"] : [queue, "nr"];
      const nrAt = dsq.at + this.#offset(dsq.type, nr);
      machine.writeU32(nrAt, Number(machine.readU64(nrAt) & 0xffff_ffffn) + 1);
      const place = queue?.address ?? rqs[cpu]!.address + BigInt(this.#offset("rq", "scx.local_dsq"));
      this.#u64(task, "scx.dsq", place);
    }
  }

  #task(n: number, cpu: number, sched: At): At {
    const { machine } = this.#kernel;
    const task = this.#newTask(n);
    const signal = this.#new("signal_struct");
    this.#text(task, "comm", `waiter-${n}`);
    this.#u32(task, "pid", 1000 + n);
    this.#u32(task, "tgid", 1000 + n);
    this.#u64(task, "sched_class", this.#kernel.addressOf("ext_sched_class"));
    const mask = this.#offset("task_struct", "cpus_mask");
    machine.write(task.at + mask, this.#maskBytes());
    this.#u64(task, "cpus_ptr", task.address + BigInt(mask));
    this.#u64(task, "signal", signal.address);
    this.#list(signal, "thread_head").add(task, "thread_node");
    this.#u32(task, "thread_info.cpu", cpu);
    this.#u32(task, "scx.flags", QUEUED | ENABLED);
    this.#u32(task, "scx.weight", 100);
    this.#u64(task, "scx.runnable_at", JIFFIES - BigInt(n % 5000));
    this.#u64(task, "scx.slice", 20_000_000n);
    if (this.#has("task_struct", "scx.sched")) this.#u64(task, "scx.sched", sched.address);
    return task;
  }

  #newTask(n: number): At {
    const slab = this.#slabs + SLAB_BYTES * Math.floor(n / TASKS_PER_SLAB);
    const at = slab + (n % TASKS_PER_SLAB) * TASK_OBJECT_BYTES;
    return { type: "task_struct", at, address: this.#kernel.machine.direct(at) };
  }

  #runQueue(cpu: number, idle: At, mask: bigint): At {
    const rq: At = {
      type: "rq",
      at: this.#kernel.physicalOf("runqueues") + cpu * STRIDE,
      address: this.#kernel.addressOf("runqueues") + BigInt(cpu * STRIDE),
    };
    this.#u64(rq, "curr", idle.address);
    this.#u64(rq, "scx.local_dsq.id", 0x8000_0000_0000_0002n);
    for (const name of ["kick", "kick_if_idle", "preempt", "wait", "sync"]) {
      const member = `scx.cpus_to_${name}`;
      // All of the CPU's masks point to the same mask, which has all CPUs.
      if (this.#has("rq", member)) this.#u64(rq, member, mask);
    }
    return rq;
  }

  #scheduler(): { readonly sched: At; readonly queues: readonly At[] } {
    const { machine } = this.#kernel;
    const sched = this.#new("scx_sched");
    machine.writeU64(this.#kernel.physicalOf("scx_root"), sched.address);
    this.#text(sched, "ops.name", "bench");
    const perCpu = machine.allocate(this.#cpus * STRIDE, 4096);
    this.#u64(sched, "pcpu", machine.direct(perCpu));
    for (let cpu = 0; cpu < this.#cpus; cpu++) {
      const at = perCpu + cpu * STRIDE;
      const area: At = { type: "scx_sched_pcpu", at, address: machine.direct(at) };
      if (!this.#has("scx_sched_pcpu", "bypass_dsq")) continue;
      this.#u64(area, "bypass_dsq.id", 0x8000_0000_0000_0003n);
      this.#list(area, "bypass_dsq.list");
    }
    const table = machine.allocate(this.#size("bucket_table") + 8 * BUCKETS, 64);
    const buckets: At = { type: "bucket_table", at: table, address: machine.direct(table) };
    this.#u32(buckets, "size", BUCKETS);
    this.#u64(sched, "dsq_hash.tbl", buckets.address);
    const first = table + this.#offset("bucket_table", "buckets");
    for (let bucket = 0; bucket < BUCKETS; bucket++) machine.writeU64(first + 8 * bucket, 1n);
    const queues = Array.from({ length: USER_QUEUES }, (_, n) => {
      const queue = this.#new("scx_dispatch_q");
      this.#u64(queue, "id", BigInt(0x1000 + n));
      this.#u64(queue, "hash_node", 1n);
      machine.writeU64(first + 8 * n, queue.address + BigInt(this.#offset("scx_dispatch_q", "hash_node")));
      return queue;
    });
    return { sched, queues };
  }

  /** Allocates a mask of all CPUs. Returns its virtual address. */
  #allMask(): bigint {
    const { machine } = this.#kernel;
    const at = machine.allocate(this.#size("cpumask"), 64);
    machine.write(at, this.#maskBytes());
    return machine.direct(at);
  }

  #maskBytes(): Uint8Array {
    return new Uint8Array(this.#cpus / 8).fill(0xff);
  }

  /** Makes an empty list of a `struct list_head`. `add` appends an object by its own `struct list_head`. */
  #list(head: At, member: string): { add(object: At, node: string): void } {
    const { machine } = this.#kernel;
    const offset = this.#offset(head.type, member);
    const start = head.address + BigInt(offset);
    let lastAt = head.at + offset;
    let last = start;
    machine.writeU64(lastAt, start);
    machine.writeU64(lastAt + 8, start);
    return {
      add: (object, node) => {
        const inside = this.#offset(object.type, node);
        const address = object.address + BigInt(inside);
        machine.writeU64(lastAt, address);
        machine.writeU64(object.at + inside, start);
        machine.writeU64(object.at + inside + 8, last);
        machine.writeU64(head.at + offset + 8, address);
        lastAt = object.at + inside;
        last = address;
      },
    };
  }

  #new(type: string): At {
    const { machine } = this.#kernel;
    const at = machine.allocate(this.#size(type), 64);
    return { type, at, address: machine.direct(at) };
  }

  #variable(name: string, type: string): At {
    return { type, at: this.#kernel.physicalOf(name), address: this.#kernel.addressOf(name) };
  }

  #has(type: string, member: string): boolean {
    return this.#btf.member(typeOf(this.#btf, type), member) !== undefined;
  }

  #size(type: string): number {
    return this.#btf.sizeOf(typeOf(this.#btf, type));
  }

  #offset(type: string, member: string): number {
    const found = this.#btf.member(typeOf(this.#btf, type), member);
    if (found === undefined) throw new Error(`struct ${type} has no ${member}`);
    return found.byteOffset;
  }

  #u64({ type, at }: At, member: string, value: bigint): void {
    this.#kernel.machine.writeU64(at + this.#offset(type, member), value);
  }

  #u32({ type, at }: At, member: string, value: number): void {
    this.#kernel.machine.writeU32(at + this.#offset(type, member), value >>> 0);
  }

  #text({ type, at }: At, member: string, text: string): void {
    this.#kernel.machine.write(at + this.#offset(type, member), new TextEncoder().encode(text));
  }
}
