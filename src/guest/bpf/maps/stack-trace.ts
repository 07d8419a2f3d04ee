/** Reads `struct bpf_stack_map`: a bucket per stack, which holds addresses, or build ids with file offsets. */
import { place, struct, u32 } from "../../../btf/struct.ts";
import type { EntryCursor } from "../../../state.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { CorruptMap, type GuestMap, IndexCursor, mostObjects, shapeOf } from "./walk.ts";

const STACK_MAP = struct("bpf_stack_map", { n_buckets: u32, buckets: place });
const BUCKET = struct("stack_map_bucket", { nr: u32, data: place });
const BUILD_ID = struct("bpf_stack_build_id", {});
const BPF_F_STACK_BUILD_ID = 1 << 5;

/** Walks the buckets in use, by id. Throws `GuestFault` and `CorruptMap`. */
export function stackTraceEntries(kernel: GuestKernel, map: GuestMap): EntryCursor {
  const { memory, btf } = kernel;
  const { hi, lo } = map.at;
  const { id, valueSize, flags } = map.info;
  const stacks = STACK_MAP.resolve(btf);
  const bucket = BUCKET.resolve(btf);
  const frameBytes = (flags & BPF_F_STACK_BUILD_ID) === 0 ? 8 : BUILD_ID.resolve(btf).sizeof;
  if (valueSize > mostObjects(kernel, 1))
    throw new CorruptMap(`map ${id}: the image cannot hold a value of ${valueSize} bytes`);
  const count = memory.u32(hi, lo, stacks.n_buckets, `map ${id}.n_buckets`);
  const value = new Uint8Array(valueSize);
  return new IndexCursor(kernel, shapeOf(map), { count, bytesEach: 8 }, (index, cursor) => {
    const slot = memory.locate(hi, lo, stacks.buckets + index * 8, 8);
    if (slot < 0) return cursor.account.skip("not-present");
    const bucketLo = memory.view.getInt32(slot, true);
    const bucketHi = memory.view.getInt32(slot + 4, true);
    if ((bucketHi | bucketLo) === 0) return "hole";
    const header = memory.locate(bucketHi, bucketLo, bucket.nr, 4);
    if (header < 0) return cursor.account.skip("not-present");
    // bpf_stackmap_extract: the stored frames, padded with zeros.
    const length = memory.view.getUint32(header, true) * frameBytes;
    if (length > valueSize) return cursor.account.skip("corrupt");
    const at = memory.locate(bucketHi, bucketLo, bucket.data, length);
    if (at < 0) return cursor.account.skip("not-present");
    value.set(memory.bytes.subarray(at, at + length));
    value.fill(0, length);
    cursor.valueBytes = value;
    return "value";
  });
}
