/**
 * Computes a map's memory usage like the kernel: `map->ops->map_mem_usage` of each type (since 6.4), and one formula for all
 * types before (kernel/bpf/syscall.c, `bpf_map_memory_footprint`). fdinfo calls it "memlock".
 */
import { at, i64, LayoutError, optional, ptr, struct, u8, u32, u64 } from "../../../btf/struct.ts";
import type { MapInfo } from "../../../state.ts";
import { BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, isPerCpuMap, MapType } from "../../../uapi/names.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { perCpuAddress } from "../../kernel/percpu.ts";
import { GuestFault } from "../../memory/fault.ts";
import { isNull } from "../../memory/pointer.ts";
import { type GuestMap, roundUp8 } from "./walk.ts";

/** Returns bytes; undefined if this type's usage is not known, or if a needed value is not in the image. */
export function memlockBytes(kernel: GuestKernel, map: GuestMap): number | undefined {
  try {
    const isOld = MAP_OPS.resolve(kernel.btf).map_mem_usage === undefined;
    const usage = isOld
      ? (charged(kernel, map) ?? footprint(kernel, map.info))
      : map.isOffloaded
        ? OFFLOADED_MAP.resolve(kernel.btf).sizeof
        : USAGE.get(map.info.type)?.(kernel, map);
    return usage !== undefined && Number.isSafeInteger(usage) && usage >= 0 ? usage : undefined;
  } catch (error) {
    if (error instanceof GuestFault || error instanceof LayoutError) return undefined;
    throw error;
  }
}

const MAP_OPS = struct("bpf_map_ops", { map_mem_usage: optional(ptr, "since 6.4") });

/** kernel/bpf/offload.c, `bpf_map_offload_map_mem_usage`: memory in the network card is not counted. */
const OFFLOADED_MAP = struct("bpf_offloaded_map", {});

type Usage = (kernel: GuestKernel, map: GuestMap) => number | undefined;

const pageBytes = ({ memory }: GuestKernel): number => 1 << memory.tables.mode.pageShift;
const pageAlign = (kernel: GuestKernel, size: number): number =>
  Math.ceil(size / pageBytes(kernel)) * pageBytes(kernel);

/** `IS_FD_MAP`: values are file descriptors in user space (include/linux/bpf.h). */
function holdsDescriptors(type: number): boolean {
  return (
    type === MapType.perf_event_array ||
    type === MapType.cgroup_array ||
    type === MapType.array_of_maps ||
    type === MapType.prog_array ||
    type === MapType.hash_of_maps
  );
}

/** `bpf_map.memory.pages`: pages charged to the user who created the map. */
function charged(kernel: GuestKernel, { at }: GuestMap): number | undefined {
  const { pages } = BPF_MAP.resolve(kernel.btf);
  if (pages === undefined) return undefined;
  return kernel.memory.u32(at.hi, at.lo, pages, "bpf_map.memory.pages") * pageBytes(kernel);
}

const BPF_MAP = struct("bpf_map", { pages: optional(at(u32, "memory.pages"), "until 5.10") });

function footprint(kernel: GuestKernel, { type, keySize, valueSize, maxEntries }: MapInfo): number {
  const value = isPerCpuMap(type)
    ? roundUp8(valueSize) * kernel.cpus.possible.length
    : holdsDescriptors(type)
      ? 4
      : valueSize;
  return pageAlign(kernel, maxEntries * roundUp8(keySize + value));
}

/** Reads a u32 member of the map. */
function member(kernel: GuestKernel, map: GuestMap, offset: number): number {
  return kernel.memory.u32(map.at.hi, map.at.lo, offset, `map ${map.info.id}`);
}

const BPF_ARRAY = struct("bpf_array", { elem_size: u32 });

/** kernel/bpf/arraymap.c, `array_map_mem_usage`: arrays of values, programs, maps, cgroups and events. */
const arrayUsage: Usage = (kernel, map) => {
  const { type, maxEntries, flags } = map.info;
  const { sizeof, elem_size } = BPF_ARRAY.resolve(kernel.btf);
  const each = member(kernel, map, elem_size);
  if (type === MapType.percpu_array)
    return sizeof + maxEntries * 8 + maxEntries * each * kernel.cpus.possible.length;
  if ((flags & BPF_F_MMAPABLE) === 0) return sizeof + maxEntries * each;
  return pageAlign(kernel, sizeof) + pageAlign(kernel, maxEntries * each);
};

const HTAB = struct("bpf_htab", {
  n_buckets: u32,
  elem_size: u32,
  use_percpu_counter: u8,
  extra_elems: ptr,
  count: at(u32, "count.counter"),
  pcount: at(i64, "pcount.count"),
  pcounters: at(ptr, "pcount.counters"),
});
const BUCKET = struct("bucket", {});

/** kernel/bpf/hashtab.c, `htab_map_mem_usage`. */
const htabUsage: Usage = (kernel, map) => {
  const { type, flags, valueSize, maxEntries } = map.info;
  const htab = HTAB.resolve(kernel.btf);
  const cpus = kernel.cpus.possible.length;
  const isPerCpu = isPerCpuMap(type);
  const isLru = type === MapType.lru_hash || type === MapType.lru_percpu_hash;
  const { hi, lo } = map.at;
  const elementBytes = member(kernel, map, htab.elem_size);
  const valueBytes = roundUp8(valueSize) * cpus;
  let usage = htab.sizeof + BUCKET.resolve(kernel.btf).sizeof * member(kernel, map, htab.n_buckets);
  // An int per CPU for each `map_locked`, which 6.15 removed from the struct and 7.0 from the sum. No type
  // shows which sum a kernel has.
  if (Number.parseInt(kernel.release, 10) < 7) usage += 4 * cpus * HASHTAB_MAP_LOCK_COUNT;
  if ((flags & BPF_F_NO_PREALLOC) === 0) {
    // htab_has_extra_elems: not for per-CPU and LRU tables, and since 7.0 not for hash of maps.
    const extra = kernel.memory.pointer(hi, lo, htab.extra_elems, `map ${map.info.id}.extra_elems`);
    const count = maxEntries + (isNull(extra) ? 0 : cpus);
    return usage + count * (elementBytes + (isPerCpu ? valueBytes : 0)) + (isPerCpu || isLru ? 0 : 8 * cpus);
  }
  const each = elementBytes + 8 + (isPerCpu ? 16 + valueBytes : 0);
  return usage + each * liveElements(kernel, map);
};

const HASHTAB_MAP_LOCK_COUNT = 8;

/** `percpu_counter_sum(&htab->pcount)`, or `htab->count`. */
function liveElements(kernel: GuestKernel, map: GuestMap): number {
  const { memory } = kernel;
  const htab = HTAB.resolve(kernel.btf);
  const { hi, lo } = map.at;
  const path = `map ${map.info.id}.pcount`;
  if (memory.u8(hi, lo, htab.use_percpu_counter, path) === 0) return member(kernel, map, htab.count);
  let sum = Number(BigInt.asIntN(64, memory.u64(hi, lo, htab.pcount, path)));
  const counters = memory.pointer(hi, lo, htab.pcounters, path);
  for (const area of kernel.cpus.areas) {
    const at = perCpuAddress(counters, area);
    sum += memory.i32(at.hi, at.lo, 0, `${path}.counters`);
  }
  return sum;
}

const STACK_MAP = struct("bpf_stack_map", { n_buckets: u32 });
const STACK_BUCKET = struct("stack_map_bucket", {});

const stackTraceUsage: Usage = (kernel, map) => {
  const { sizeof, n_buckets } = STACK_MAP.resolve(kernel.btf);
  const bucket = STACK_BUCKET.resolve(kernel.btf).sizeof;
  return sizeof + 8 * member(kernel, map, n_buckets) + map.info.maxEntries * (bucket + map.info.valueSize);
};

const TRIE = struct("lpm_trie", { n_entries: u64, data_size: u64 });
const TRIE_NODE = struct("lpm_trie_node", {});

const trieUsage: Usage = (kernel, map) => {
  const { n_entries, data_size } = TRIE.resolve(kernel.btf);
  const read = (offset: number): number =>
    Number(kernel.memory.u64(map.at.hi, map.at.lo, offset, `map ${map.info.id}`));
  return (TRIE_NODE.resolve(kernel.btf).sizeof + read(data_size) + map.info.valueSize) * read(n_entries);
};

const QUEUE_STACK = struct("bpf_queue_stack", {});

const queueStackUsage: Usage = (kernel, { info }) =>
  QUEUE_STACK.resolve(kernel.btf).sizeof + (info.maxEntries + 1) * info.valueSize;

const RINGBUF_MAP = struct("bpf_ringbuf_map", { rb: ptr });
const RINGBUF = struct("bpf_ringbuf", { nr_pages: u32, consumer_pos: u64 });
/** The consumer's page and the producer's. */
const RINGBUF_POS_PAGES = 2;

const ringbufUsage: Usage = (kernel, map) => {
  const { sizeof, rb } = RINGBUF_MAP.resolve(kernel.btf);
  const ring = RINGBUF.resolve(kernel.btf);
  const path = `map ${map.info.id}.rb`;
  const { hi, lo } = kernel.memory.pointer(map.at.hi, map.at.lo, rb, path);
  const page = pageBytes(kernel);
  const metaPages = Math.floor(ring.consumer_pos / page) + RINGBUF_POS_PAGES;
  const dataPages = Math.floor(map.info.maxEntries / page);
  return sizeof + kernel.memory.u32(hi, lo, ring.nr_pages, path) * page + (metaPages + 2 * dataPages) * 8;
};

const BLOOM = struct("bpf_bloom_filter", { bitset_mask: u32 });

const bloomUsage: Usage = (kernel, map) => {
  const { sizeof, bitset_mask } = BLOOM.resolve(kernel.btf);
  return sizeof + roundUp8(Math.ceil((member(kernel, map, bitset_mask) + 1) / 8));
};

const STRUCT_OPS_MAP = struct("bpf_struct_ops_map", { funcs_cnt: u32 });
const STRUCT_OPS_VALUE = struct("bpf_struct_ops_value", {});

/** `vt->size` is the map's value size (checked by `bpf_struct_ops_map_alloc`). */
const structOpsUsage: Usage = (kernel, map) => {
  const { sizeof, funcs_cnt } = STRUCT_OPS_MAP.resolve(kernel.btf);
  const value = STRUCT_OPS_VALUE.resolve(kernel.btf).sizeof;
  return sizeof - value + 2 * map.info.valueSize + 16 * member(kernel, map, funcs_cnt) + pageBytes(kernel);
};

const DTAB = struct("bpf_dtab", { items: u32, n_buckets: u32 });
const DTAB_NETDEV = struct("bpf_dtab_netdev", {});

const devUsage: Usage = (kernel, map) => {
  const { sizeof, items, n_buckets } = DTAB.resolve(kernel.btf);
  const slots = map.info.type === MapType.devmap_hash ? member(kernel, map, n_buckets) : map.info.maxEntries;
  return sizeof + 8 * slots + member(kernel, map, items) * DTAB_NETDEV.resolve(kernel.btf).sizeof;
};

const CPU_MAP = struct("bpf_cpu_map", {});
const XSK_MAP = struct("xsk_map", { count: at(u32, "count.counter") });
const XSK_NODE = struct("xsk_map_node", {});
const STAB = struct("bpf_stab", {});
const SHTAB = struct("bpf_shtab", { buckets_num: u32, elem_size: u32, count: at(u32, "count.counter") });
const SHTAB_BUCKET = struct("bpf_shtab_bucket", {});
const REUSEPORT = struct("reuseport_array", {});

const cpuUsage: Usage = (kernel, { info }) => CPU_MAP.resolve(kernel.btf).sizeof + 8 * info.maxEntries;

const xskUsage: Usage = (kernel, map) => {
  const { sizeof, count } = XSK_MAP.resolve(kernel.btf);
  return sizeof + 8 * map.info.maxEntries + member(kernel, map, count) * XSK_NODE.resolve(kernel.btf).sizeof;
};

const sockUsage: Usage = (kernel, { info }) => STAB.resolve(kernel.btf).sizeof + 8 * info.maxEntries;

const sockHashUsage: Usage = (kernel, map) => {
  const htab = SHTAB.resolve(kernel.btf);
  const buckets = member(kernel, map, htab.buckets_num) * SHTAB_BUCKET.resolve(kernel.btf).sizeof;
  return htab.sizeof + buckets + member(kernel, map, htab.count) * member(kernel, map, htab.elem_size);
};

const reuseportUsage: Usage = (kernel, { info }) =>
  REUSEPORT.resolve(kernel.btf).sizeof + 8 * info.maxEntries;

const LOCAL_STORAGE = struct("bpf_local_storage_map", { bucket_log: u32 });
const LOCAL_STORAGE_BUCKET = struct("bpf_local_storage_map_bucket", {});

const localStorageUsage: Usage = (kernel, map) => {
  const { sizeof, bucket_log } = LOCAL_STORAGE.resolve(kernel.btf);
  return sizeof + LOCAL_STORAGE_BUCKET.resolve(kernel.btf).sizeof * 2 ** member(kernel, map, bucket_log);
};

const CGROUP_STORAGE = struct("bpf_cgroup_storage_map", {});
const INSN_ARRAY = struct("bpf_insn_array", {});
const INSN_ARRAY_VALUE = struct("bpf_insn_array_value", {});

const insnArrayUsage: Usage = ({ btf }, { info }) =>
  INSN_ARRAY.resolve(btf).sizeof + info.maxEntries * (INSN_ARRAY_VALUE.resolve(btf).sizeof + 8);

const ARENA = struct("bpf_arena", { nr_pages: optional(u64, "since 7.3") });

/** kernel/bpf/arena.c, `arena_map_mem_usage`: 0 until 7.2; since 7.3 the arena's pages. */
const arenaUsage: Usage = (kernel, map) => {
  const { nr_pages } = ARENA.resolve(kernel.btf);
  if (nr_pages === undefined) return 0;
  const pages = kernel.memory.u64(map.at.hi, map.at.lo, nr_pages, `map ${map.info.id}.nr_pages`);
  return Number(pages) * pageBytes(kernel);
};

const RHTAB = struct("bpf_rhtab", { elem_size: u32, nelems: at(u32, "ht.nelems.counter") });

const rhtabUsage: Usage = (kernel, map) => {
  const { sizeof, elem_size, nelems } = RHTAB.resolve(kernel.btf);
  return sizeof + member(kernel, map, elem_size) * member(kernel, map, nelems);
};

const USAGE: ReadonlyMap<number, Usage> = new Map<number, Usage>([
  [MapType.hash, htabUsage],
  [MapType.array, arrayUsage],
  [MapType.prog_array, arrayUsage],
  [MapType.perf_event_array, arrayUsage],
  [MapType.percpu_hash, htabUsage],
  [MapType.percpu_array, arrayUsage],
  [MapType.stack_trace, stackTraceUsage],
  [MapType.cgroup_array, arrayUsage],
  [MapType.lru_hash, htabUsage],
  [MapType.lru_percpu_hash, htabUsage],
  [MapType.lpm_trie, trieUsage],
  [MapType.array_of_maps, arrayUsage],
  [MapType.hash_of_maps, htabUsage],
  [MapType.devmap, devUsage],
  [MapType.sockmap, sockUsage],
  [MapType.cpumap, cpuUsage],
  [MapType.xskmap, xskUsage],
  [MapType.sockhash, sockHashUsage],
  [MapType.cgroup_storage, ({ btf }) => CGROUP_STORAGE.resolve(btf).sizeof],
  [MapType.reuseport_sockarray, reuseportUsage],
  [MapType.percpu_cgroup_storage, ({ btf }) => CGROUP_STORAGE.resolve(btf).sizeof],
  [MapType.queue, queueStackUsage],
  [MapType.stack, queueStackUsage],
  [MapType.sk_storage, localStorageUsage],
  [MapType.devmap_hash, devUsage],
  [MapType.struct_ops, structOpsUsage],
  [MapType.ringbuf, ringbufUsage],
  [MapType.inode_storage, localStorageUsage],
  [MapType.task_storage, localStorageUsage],
  [MapType.bloom_filter, bloomUsage],
  [MapType.user_ringbuf, ringbufUsage],
  [MapType.cgrp_storage, localStorageUsage],
  [MapType.arena, arenaUsage],
  [MapType.insn_array, insnArrayUsage],
  [MapType.rhash, rhtabUsage],
]);
