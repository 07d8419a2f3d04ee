/** Reads dispatch queues: `struct scx_dispatch_q` of every kind. */
import { at, optional, place, ptr, struct, u32, u64 } from "../../btf/struct.ts";
import { KtstrError } from "../../errors.ts";
import type { QueueState, TaskState } from "../../sched-state.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { listOf } from "../kernel/list.ts";
import { perCpuAddress } from "../kernel/percpu.ts";
import { add, isNull, type Pointer } from "../memory/pointer.ts";
import { ENTITY_LIST, type ScxTasks } from "./scx-task.ts";

const DSQ = struct("scx_dispatch_q", {
  list: place,
  priq: at(ptr, "priq.rb_node"),
  nr: u32,
  id: u64,
  hash_node: place,
});
const SCHED = struct("scx_sched", {
  dsq_hash: at(ptr, "dsq_hash.tbl"),
  global_dsqs: optional(ptr, "6.16 to 7.0"),
  pnode: optional(ptr, "since 7.1"),
  pcpu: optional(ptr, "since 6.17"),
});
const RHASHTABLE = struct("rhashtable", { tbl: ptr });
const BUCKET_TABLE = struct("bucket_table", { size: u32, nest: u32, future_tbl: ptr, buckets: place });
const PNODE = struct("scx_sched_pnode", { global_dsq: place });
const PCPU = struct("scx_sched_pcpu", { bypass_dsq: optional(place, "since 7.1") });

/** `SCX_DSQ_LNODE_ITER_CURSOR`: the list entry is a BPF iterator's position, not a task. */
const CURSOR = 1;
/** MAX_NUMNODES with the largest CONFIG_NODES_SHIFT. */
const MAX_NODES = 1024;
/** Schedulers create a few queues per CPU or per cgroup; a larger table is damaged. */
const MAX_BUCKETS = 1 << 20;
const MAX_QUEUES = 1 << 16;
const MAX_TABLES = 8;

type OnFault = (error: unknown) => void;
type Place = Pick<QueueState, "kind" | "cpu" | "node">;

/** Reads the queue at a `struct scx_dispatch_q *`. Throws `GuestFault`. */
export function readQueue(
  kernel: GuestKernel,
  tasks: ScxTasks,
  queue: Pointer,
  { kind, cpu, node }: Place,
  onFault: OnFault,
): QueueState {
  const { memory, btf } = kernel;
  const { hi, lo } = queue;
  const dsq = DSQ.resolve(btf);
  const entity = ENTITY_LIST.resolve(btf);
  const found: TaskState[] = [];
  const head = add(queue, dsq.list);
  for (const task of listOf(kernel, head, entity.dsqList, "dsq.list", onFault)) {
    try {
      const flags = memory.u32(task.hi, task.lo, entity.dsqListFlags, "scx.dsq_list.flags");
      if ((flags & CURSOR) === 0) found.push(tasks.at(task));
    } catch (error) {
      onFault(error);
    }
  }
  return {
    id: memory.u64(hi, lo, dsq.id, "dsq.id"),
    kind,
    cpu,
    node,
    length: memory.u32(hi, lo, dsq.nr, "dsq.nr"),
    isByVtime: !isNull(memory.pointer(hi, lo, dsq.priq, "dsq.priq.rb_node")),
    tasks: found,
  };
}

/** Yields the queues of a `struct scx_sched *`: global ones per node, user-created ones, and bypass queues per CPU. */
export function* schedulerQueues(
  kernel: GuestKernel,
  sched: Pointer,
  tasks: ScxTasks,
  onFault: OnFault,
): Generator<QueueState> {
  const { memory, btf, cpus } = kernel;
  const offsets = SCHED.resolve(btf);
  const read = (queue: Pointer, where: Place): QueueState => readQueue(kernel, tasks, queue, where, onFault);
  const globals = offsets.pnode ?? offsets.global_dsqs;
  if (globals !== undefined) {
    const array = memory.pointer(sched.hi, sched.lo, globals, "scx_sched.pnode");
    const inside = offsets.pnode === undefined ? 0 : PNODE.resolve(btf).global_dsq;
    yield* globalQueues(kernel, array, inside, read);
  }
  const table = memory.pointer(sched.hi, sched.lo, offsets.dsq_hash, "scx_sched.dsq_hash.tbl");
  yield* userQueues(kernel, table, read);
  const inside = PCPU.resolveIfPresent(btf)?.bypass_dsq;
  if (offsets.pcpu === undefined || inside === undefined) return;
  const pcpu = memory.pointer(sched.hi, sched.lo, offsets.pcpu, "scx_sched.pcpu");
  for (const area of cpus.areas)
    yield read(add(perCpuAddress(pcpu, area), inside), { kind: "bypass", cpu: area.cpu, node: undefined });
}

/** Yields the queues of kernels before 6.16: the globals `global_dsqs` and `dsq_hash`. */
export function* oldQueues(kernel: GuestKernel, tasks: ScxTasks, onFault: OnFault): Generator<QueueState> {
  const { memory, btf, symbols } = kernel;
  const read = (queue: Pointer, where: Place): QueueState => readQueue(kernel, tasks, queue, where, onFault);
  const globals = symbols.address("global_dsqs");
  if (globals !== undefined)
    yield* globalQueues(kernel, memory.pointer(globals.hi, globals.lo, 0, "global_dsqs"), 0, read);
  const hash = symbols.address("dsq_hash");
  if (hash === undefined) return;
  const table = memory.pointer(hash.hi, hash.lo, RHASHTABLE.resolve(btf).tbl, "dsq_hash.tbl");
  yield* userQueues(kernel, table, read);
}

type ReadQueue = (queue: Pointer, where: Place) => QueueState;

/** Yields the queues of an array of pointers with `nr_node_ids` entries. */
function* globalQueues({ memory, symbols }: GuestKernel, array: Pointer, inside: number, read: ReadQueue) {
  if (isNull(array)) return;
  const ids = symbols.address("nr_node_ids");
  const count = ids === undefined ? 1 : memory.u32(ids.hi, ids.lo, 0, "nr_node_ids");
  for (let node = 0; node < Math.min(count, MAX_NODES); node++) {
    const one = memory.pointer(array.hi, array.lo, 8 * node, `global_dsqs[${node}]`);
    if (!isNull(one)) yield read(add(one, inside), { kind: "global", cpu: undefined, node });
  }
}

/** Like `rhashtable_walk`: yields every queue of `dsq_hash`. The low bit of a bucket's pointer is a lock. */
function* userQueues({ memory, btf }: GuestKernel, first: Pointer, read: ReadQueue) {
  const offsets = BUCKET_TABLE.resolve(btf);
  const { hash_node } = DSQ.resolve(btf);
  let table = first;
  let left = MAX_QUEUES;
  for (let number = 0; number < MAX_TABLES && !isNull(table); number++) {
    const { hi, lo } = table;
    const size = memory.u32(hi, lo, offsets.size, "dsq_hash.tbl.size");
    if (memory.u32(hi, lo, offsets.nest, "dsq_hash.tbl.nest") !== 0)
      throw new KtstrError("dsq_hash: its bucket table is nested, which is not supported");
    for (let bucket = 0; bucket < Math.min(size, MAX_BUCKETS); bucket++) {
      const at = offsets.buckets + 8 * bucket;
      let node = memory.pointer(hi, lo, at, `dsq_hash.tbl.buckets[${bucket}]`);
      node = { hi: node.hi, lo: node.lo & ~1 };
      // An odd pointer is the `nulls` marker that ends a chain.
      while (!isNull(node) && (node.lo & 1) === 0) {
        if (left-- === 0) throw new KtstrError("dsq_hash: it has too many queues, or a chain is a cycle");
        yield read(add(node, -hash_node), { kind: "user", cpu: undefined, node: undefined });
        node = memory.pointer(node.hi, node.lo, 0, "rhash_head.next");
      }
    }
    table = memory.pointer(hi, lo, offsets.future_tbl, "dsq_hash.tbl.future_tbl");
  }
}
