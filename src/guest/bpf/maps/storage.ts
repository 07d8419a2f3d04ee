/**
 * Walks local storage of tasks, cgroups, inodes and sockets: `struct bpf_local_storage_map` has buckets of
 * `struct bpf_local_storage_elem`, each with a value and pointers to its owner (kernel/bpf/bpf_local_storage.c).
 */
import { at, place, ptr, struct, u32 } from "../../../btf/struct.ts";
import type { ContentRecord } from "../../../state.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { isNull, type Pointer, toBigInt } from "../../memory/pointer.ts";
import { clearFields, readSpecialFields, type SpecialField } from "./special-fields.ts";
import { readOwner } from "./storage-owner.ts";
import { Account, CorruptMap, type GuestMap, mostObjects, type Records } from "./walk.ts";

const MAP = struct("bpf_local_storage_map", { buckets: ptr, bucket_log: u32 });
const BUCKET = struct("bpf_local_storage_map_bucket", { first: at(ptr, "list.first") });
const ELEM = struct("bpf_local_storage_elem", {
  map_node: place,
  local_storage: ptr,
  smap: at(ptr, "sdata.smap"),
  data: at(place, "sdata.data"),
});
const STORAGE = struct("bpf_local_storage", { owner: ptr });
const HLIST_NODE = struct("hlist_node", { next: ptr });

/** BPF_LOCAL_STORAGE_MAX_VALUE_SIZE is below 64 KiB. */
const MAX_VALUE_BYTES = 65_536;

/** Walks the elements by bucket. Throws `GuestFault` and `CorruptMap`. */
export function storageRecords(kernel: GuestKernel, map: GuestMap): Records {
  const { memory, btf } = kernel;
  const { hi, lo } = map.at;
  const { id, valueSize } = map.info;
  const offsets = MAP.resolve(btf);
  const bucket = BUCKET.resolve(btf);
  const bucketLog = memory.u32(hi, lo, offsets.bucket_log, `map ${id}.bucket_log`);
  const buckets = memory.pointer(hi, lo, offsets.buckets, `map ${id}.buckets`);
  const count = 2 ** bucketLog;
  if (count > mostObjects(kernel, bucket.sizeof) || valueSize > MAX_VALUE_BYTES)
    throw new CorruptMap(
      `map ${id}: there cannot be 2^${bucketLog} buckets with values of ${valueSize} bytes`,
    );
  const walk = new StorageWalk(kernel, map);
  for (let n = 0; n < count && walk.account.stopped === ""; n++) {
    const at = memory.locate(buckets.hi, buckets.lo, n * bucket.sizeof + bucket.first, 8);
    if (at < 0) walk.account.skip("bucket not-present");
    else walk.chain({ hi: memory.view.getInt32(at + 4, true), lo: memory.view.getInt32(at, true) });
  }
  return { records: walk.records, end: walk.account.end };
}

class StorageWalk {
  readonly account: Account = new Account();
  readonly records: ContentRecord[] = [];
  readonly #kernel: GuestKernel;
  readonly #map: GuestMap;
  readonly #fields: readonly SpecialField[];
  readonly #seen: Set<bigint> = new Set();

  constructor(kernel: GuestKernel, map: GuestMap) {
    this.#kernel = kernel;
    this.#map = map;
    this.#fields = readSpecialFields(kernel, map);
  }

  /** Walks the elements of one bucket. If the list is a cycle, each element is visited once. */
  chain(first: Pointer): void {
    if (isNull(first)) return;
    const { memory, btf } = this.#kernel;
    const { map_node } = ELEM.resolve(btf);
    const { next } = HLIST_NODE.resolve(btf);
    let node = first;
    while (!isNull(node)) {
      const address = toBigInt(node.hi, node.lo);
      if (this.#seen.has(address)) {
        this.account.skip("cycle");
        return;
      }
      this.#seen.add(address);
      const at = memory.locate(node.hi, node.lo, next, 8);
      if (at < 0) {
        this.account.skip("not-present");
        return;
      }
      const following = { hi: memory.view.getInt32(at + 4, true), lo: memory.view.getInt32(at, true) };
      if (!this.#element(node, map_node)) return;
      node = following;
    }
  }

  /** Returns false if the element no longer belongs to this map. The elements after it then do not belong to it either. */
  #element({ hi, lo }: Pointer, mapNode: number): boolean {
    const { memory, btf } = this.#kernel;
    const elem = ELEM.resolve(btf);
    const { valueSize, type } = this.#map.info;
    const at = memory.locate(hi, lo, -mapNode, elem.data + valueSize);
    if (at < 0) {
      this.account.skip("not-present");
      return true;
    }
    const { view, bytes } = memory;
    if (!pointsTo(view, at + elem.smap, this.#map.at)) {
      this.account.skip("recycled");
      return false;
    }
    const value = bytes.slice(at + elem.data, at + elem.data + valueSize);
    clearFields(this.#fields, value, 0);
    const storageHi = view.getInt32(at + elem.local_storage + 4, true);
    const storageLo = view.getInt32(at + elem.local_storage, true);
    const ownerAt = memory.locate(storageHi, storageLo, STORAGE.resolve(btf).owner, 8);
    const owner =
      ownerAt < 0
        ? ({ kind: "unknown", why: memory.faultSentence("bpf_local_storage.owner") } as const)
        : readOwner(this.#kernel, type, {
            hi: memory.view.getInt32(ownerAt + 4, true),
            lo: memory.view.getInt32(ownerAt, true),
          });
    this.account.seen();
    this.records.push({ value, owner });
    return true;
  }
}

function pointsTo(view: DataView, at: number, { hi, lo }: Pointer): boolean {
  return view.getInt32(at, true) === lo && view.getInt32(at + 4, true) === hi;
}
