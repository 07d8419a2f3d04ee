/** Reads the other maps whose elements are in chains: devmap_hash, sockhash and rhash. */
import { at, place, ptr, struct, u32 } from "../../../btf/struct.ts";
import type { EntryCursor } from "../../../state.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { add, isNull } from "../../memory/pointer.ts";
import { ChainCursor } from "./chain-cursor.ts";
import type { BucketTable } from "./chain-layout.ts";
import { socketReader } from "./socket.ts";
import { readSpecialFields } from "./special-fields.ts";
import { MaskingReader } from "./value-reader.ts";
import { CorruptMap, type GuestMap, roundUp8 } from "./walk.ts";

const DTAB = struct("bpf_dtab", { dev_index_head: ptr, n_buckets: u32 });
const DTAB_NETDEV = struct("bpf_dtab_netdev", { index_hlist: place, idx: u32, val: place });
const HLIST_HEAD = struct("hlist_head", { first: ptr });

/** kernel/bpf/devmap.c: the low bits of an element's index select its bucket. Throws `GuestFault`. */
export function devmapHashEntries(kernel: GuestKernel, map: GuestMap): EntryCursor {
  const { memory, btf } = kernel;
  const { hi, lo } = map.at;
  const dtab = DTAB.resolve(btf);
  const head = HLIST_HEAD.resolve(btf);
  const element = DTAB_NETDEV.resolve(btf);
  const table = {
    at: memory.pointer(hi, lo, dtab.dev_index_head, `map ${map.info.id}.dev_index_head`),
    count: bucketCount(memory.u32(hi, lo, dtab.n_buckets, `map ${map.info.id}.n_buckets`), map),
    bytesEach: head.sizeof,
    first: head.first,
  };
  return new ChainCursor(kernel, map, [table], {
    node: element.index_hlist,
    hash: element.idx,
    key: element.idx,
    value: element.val,
    reader: undefined,
    cpuCount: 0,
  });
}

const SHTAB = struct("bpf_shtab", { buckets: ptr, buckets_num: u32 });
const SHTAB_BUCKET = struct("bpf_shtab_bucket", { first: at(ptr, "head.first") });
const SHTAB_ELEM = struct("bpf_shtab_elem", { node: place, hash: u32, sk: ptr, key: place });

/** net/core/sock_map.c. Throws `GuestFault`. */
export function sockhashEntries(kernel: GuestKernel, map: GuestMap): EntryCursor {
  const { memory, btf } = kernel;
  const { hi, lo } = map.at;
  const htab = SHTAB.resolve(btf);
  const bucket = SHTAB_BUCKET.resolve(btf);
  const element = SHTAB_ELEM.resolve(btf);
  const table = {
    at: memory.pointer(hi, lo, htab.buckets, `map ${map.info.id}.buckets`),
    count: bucketCount(memory.u32(hi, lo, htab.buckets_num, `map ${map.info.id}.buckets_num`), map),
    bytesEach: bucket.sizeof,
    first: bucket.first,
  };
  return new ChainCursor(kernel, map, [table], {
    node: element.node,
    hash: element.hash,
    key: element.key,
    value: element.sk,
    reader: socketReader(kernel, map.info.valueSize),
    cpuCount: 0,
  });
}

function bucketCount(count: number, map: GuestMap): number {
  if (count !== 0 && (count & (count - 1)) === 0) return count;
  throw new CorruptMap(`map ${map.info.id}: it has ${count} buckets, which is not a power of two`);
}

const RHTAB = struct("bpf_rhtab", { tbl: at(ptr, "ht.tbl") });
const RHTAB_ELEM = struct("rhtab_elem", { node: place, data: place });
const BUCKET_TABLE = struct("bucket_table", { size: u32, nest: u32, future_tbl: ptr, buckets: place });

/** Limit: a growing table is moved to the next one, and a third is only created if that one is full too. */
const MAX_TABLES = 8;

/**
 * Walks a resizable hash table (since 7.2): `struct rhashtable` with elements of key and value, both rounded up to 8 bytes. The
 * low bit of a bucket's pointer is its lock. Throws `GuestFault` and `CorruptMap`.
 */
export function rhashEntries(kernel: GuestKernel, map: GuestMap): EntryCursor {
  const { memory, btf } = kernel;
  const { hi, lo } = map.at;
  const { id, keySize, valueSize } = map.info;
  const offsets = BUCKET_TABLE.resolve(btf);
  const element = RHTAB_ELEM.resolve(btf);
  const tables: BucketTable[] = [];
  let at = memory.pointer(hi, lo, RHTAB.resolve(btf).tbl, `map ${id}.ht.tbl`);
  while (!isNull(at) && tables.length < MAX_TABLES) {
    const count = memory.u32(at.hi, at.lo, offsets.size, `map ${id}.ht.tbl.size`);
    // The kernel nests the table if it has no contiguous memory for it. This is not supported.
    if (memory.u32(at.hi, at.lo, offsets.nest, `map ${id}.ht.tbl.nest`) !== 0)
      throw new CorruptMap(`map ${id}: its bucket table is nested, which is not supported`);
    tables.push({ at: add(at, offsets.buckets), count, bytesEach: 8, first: 0, hasLockBit: true });
    at = memory.pointer(at.hi, at.lo, offsets.future_tbl, `map ${id}.ht.tbl.future_tbl`);
  }
  const fields = readSpecialFields(kernel, map);
  return new ChainCursor(kernel, map, tables, {
    node: element.node,
    hash: -1,
    key: element.data,
    value: element.data + roundUp8(keySize),
    reader: fields.length === 0 ? undefined : new MaskingReader(valueSize, fields),
    cpuCount: 0,
  });
}
