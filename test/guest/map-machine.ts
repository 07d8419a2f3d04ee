/** Maps on a machine built by hand: structs with offsets that no kernel has, and a kernel around them. */
import { Btf } from "../../src/btf/btf.ts";
import type { GuestMap } from "../../src/guest/bpf/maps/walk.ts";
import type { GuestKernel } from "../../src/guest/kernel/kernel.ts";
import { fromBigInt } from "../../src/guest/memory/pointer.ts";
import type { MapInfo } from "../../src/state.ts";
import { BtfWriter } from "../btf/support/encode.ts";
import { mapInfo } from "../report/support/map-info.ts";
import { Synthetic } from "./synthetic.ts";

/** Sizes, and offsets of members, in bytes. */
export const MAP_BYTES = 64;
export const HTAB = { buckets: 80, elems: 88, n_buckets: 96, size: 104 } as const;
export const BUCKET = { first: 8, size: 24 } as const;
export const ELEM = { node: 0, hash: 20, key: 32 } as const;
export const ARRAY = { value: 72 } as const;
export const TRIE = { root: 72, data_size: 88, max_prefixlen: 96, size: 104 } as const;
export const TRIE_NODE = { prefixlen: 0, flags: 4, child: 8, data: 24 } as const;
export const QUEUE = { head: 76, tail: 68, size: 72, elements: 80 } as const;
export const RINGBUF_MAP = { rb: 72 } as const;
export const RINGBUF = { mask: 8, consumer: 4096, producer: 8192, data: 12_288 } as const;
export const STORAGE_MAP = { buckets: 72, log: 84 } as const;
export const STORAGE_BUCKET = { first: 8, size: 16 } as const;
export const SELEM = { node: 16, storage: 32, smap: 48, data: 56 } as const;
export const STORAGE_OWNER = 24;
export const TASK = { pid: 4, tgid: 12, comm: 16 } as const;
export const ARENA = { user: 72, vm: 64, rt: 88 } as const;
export const VM = { addr: 8, size: 24 } as const;
export const RANGE = { node: 0, start: 32, last: 28 } as const;

type Members = Parameters<BtfWriter["struct"]>[2];

function mapTypes(): Btf {
  const w = new BtfWriter();
  const u8 = w.int("unsigned char", 1);
  const u32 = w.int("unsigned int", 4);
  const u64 = w.int("unsigned long", 8);
  const pointer = w.pointer(0);
  const flexible = w.array(u8, 0, u32);
  const struct = (name: string, size: number, members: Members): number =>
    w.struct(
      name,
      size,
      members.map(([member, type, at]) => [member, type, at * 8]),
    );
  struct("bpf_map", MAP_BYTES, [["record", pointer, 8]]);
  struct("bpf_htab", HTAB.size, [
    ["buckets", pointer, HTAB.buckets],
    ["elems", pointer, HTAB.elems],
    ["n_buckets", u32, HTAB.n_buckets],
  ]);
  const head = struct("hlist_nulls_head", 8, [["first", pointer, 0]]);
  struct("bucket", BUCKET.size, [["head", head, BUCKET.first]]);
  const node = struct("hlist_nulls_node", 16, [["next", pointer, 0]]);
  struct("htab_elem", ELEM.key, [
    ["hash_node", node, ELEM.node],
    ["hash", u32, ELEM.hash],
    ["key", flexible, ELEM.key],
  ]);
  struct("bpf_array", ARRAY.value, [
    ["value", flexible, ARRAY.value],
    ["pptrs", flexible, ARRAY.value],
  ]);
  struct("lpm_trie", TRIE.size, [
    ["root", pointer, TRIE.root],
    ["data_size", u64, TRIE.data_size],
    ["max_prefixlen", u64, TRIE.max_prefixlen],
  ]);
  struct("lpm_trie_node", TRIE_NODE.data, [
    ["child", w.array(pointer, 2, u32), TRIE_NODE.child],
    ["prefixlen", u32, TRIE_NODE.prefixlen],
    ["flags", u32, TRIE_NODE.flags],
    ["data", flexible, TRIE_NODE.data],
  ]);
  struct("bpf_queue_stack", QUEUE.elements, [
    ["head", u32, QUEUE.head],
    ["tail", u32, QUEUE.tail],
    ["size", u32, QUEUE.size],
    ["elements", flexible, QUEUE.elements],
  ]);
  struct("bpf_ringbuf_map", 80, [["rb", pointer, RINGBUF_MAP.rb]]);
  struct("bpf_ringbuf", RINGBUF.data, [
    ["mask", u64, RINGBUF.mask],
    ["consumer_pos", u64, RINGBUF.consumer],
    ["producer_pos", u64, RINGBUF.producer],
    ["data", flexible, RINGBUF.data],
  ]);
  storageTypes(w, struct, { u32, u64, pointer, flexible, u8 });
  return Btf.parse(w.bytes(), { name: "synthetic" });
}

function storageTypes(
  w: BtfWriter,
  struct: (name: string, size: number, members: Members) => number,
  {
    u32,
    u64,
    pointer,
    flexible,
    u8,
  }: Readonly<Record<"u8" | "u32" | "u64" | "pointer" | "flexible", number>>,
): void {
  struct("bpf_local_storage_map", 88, [
    ["buckets", pointer, STORAGE_MAP.buckets],
    ["bucket_log", u32, STORAGE_MAP.log],
  ]);
  const list = struct("hlist_head", 8, [["first", pointer, 0]]);
  struct("bpf_local_storage_map_bucket", STORAGE_BUCKET.size, [["list", list, STORAGE_BUCKET.first]]);
  const node = struct("hlist_node", 16, [
    ["next", pointer, 0],
    ["pprev", pointer, 8],
  ]);
  const data = struct("bpf_local_storage_data", 8, [
    ["smap", pointer, 0],
    ["data", flexible, 8],
  ]);
  struct("bpf_local_storage_elem", SELEM.data, [
    ["map_node", node, SELEM.node],
    ["local_storage", pointer, SELEM.storage],
    ["sdata", data, SELEM.smap],
  ]);
  struct("bpf_local_storage", 32, [["owner", pointer, STORAGE_OWNER]]);
  struct("task_struct", 32, [
    ["pid", u32, TASK.pid],
    ["tgid", u32, TASK.tgid],
    ["comm", w.array(u8, 16, u32), TASK.comm],
  ]);
  const tree = struct("range_tree", 16, [["it_root", pointer, 0]]);
  struct("bpf_arena", 104, [
    ["user_vm_start", u64, ARENA.user],
    ["kern_vm", pointer, ARENA.vm],
    ["rt", tree, ARENA.rt],
  ]);
  struct("vm_struct", 32, [
    ["addr", pointer, VM.addr],
    ["size", u64, VM.size],
  ]);
  const rb = struct("rb_node", 24, [
    ["rb_right", pointer, 8],
    ["rb_left", pointer, 16],
  ]);
  struct("range_node", 40, [
    ["rn_rbnode", rb, RANGE.node],
    ["rn_start", u32, RANGE.start],
    ["rn_last", u32, RANGE.last],
  ]);
}

const TYPES = mapTypes();

const NO_SYMBOLS = { source: "synthetic", count: 0, address: () => undefined, nearest: () => undefined };

/** A map in memory. Physical addresses are numbers, direct-map addresses are bigints. */
export class MapMachine {
  readonly machine: Synthetic;
  readonly info: MapInfo;
  /** Physical address of the map. */
  readonly at: number;

  constructor(info: Partial<MapInfo>, sizeBytes: number = 4 << 20) {
    this.machine = new Synthetic({ sizeBytes });
    this.info = mapInfo({ maxEntries: 16, ...info });
    this.at = this.machine.allocate(4096);
  }

  get map(): GuestMap {
    return { info: this.info, at: fromBigInt(this.machine.direct(this.at)), isOffloaded: false };
  }

  get kernel(): GuestKernel {
    const { machine } = this;
    return {
      memory: machine.memory(),
      btf: TYPES,
      symbols: NO_SYMBOLS,
      cpus: { possible: [0], onlineCount: 1, areas: [{ cpu: 0, offset: { hi: 0, lo: 0 } }], missing: [] },
      info: {
        release: "synthetic",
        version: "",
        machine: "x86_64",
        possibleCpus: 1,
        onlineCpus: 1,
        pageSize: 4096,
        statsEnabled: undefined,
        bootTimeUnixNs: undefined,
        uptimeNs: undefined,
      },
      release: "synthetic",
      prstatus: [],
      warnings: [],
      explain: () => [],
      check: () => {},
      limitPages() {},
      [Symbol.dispose]: () => {},
    };
  }

  u32(physical: number, value: number): void {
    this.machine.writeU32(physical, value);
  }

  /** Converts a physical address to a pointer of the direct map; a bigint is returned unchanged. */
  pointer(physical: number, to: number | bigint): void {
    this.machine.writeU64(physical, typeof to === "bigint" ? to : this.machine.direct(to));
  }
}
