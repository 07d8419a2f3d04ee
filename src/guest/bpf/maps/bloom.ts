/** Reads `struct bpf_bloom_filter`, which stores the bits that values were hashed to, but not the values. */
import { place, struct, u32 } from "../../../btf/struct.ts";
import { type Unreadable, unreadable } from "../../../state.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { CorruptMap, type GuestMap, mostObjects } from "./walk.ts";

const BLOOM = struct("bpf_bloom_filter", { bitset_mask: u32, nr_hash_funcs: u32, bitset: place });
const CHUNK_BYTES = 4096;

/** Returns why there is nothing to list, and how many of the filter's bits are set. Throws `GuestFault` and `CorruptMap`. */
export function describeBloom(kernel: GuestKernel, map: GuestMap): Unreadable {
  const { memory } = kernel;
  const { hi, lo } = map.at;
  const { id } = map.info;
  const offsets = BLOOM.resolve(kernel.btf);
  const bits = memory.u32(hi, lo, offsets.bitset_mask, `map ${id}.bitset_mask`) + 1;
  const hashes = memory.u32(hi, lo, offsets.nr_hash_funcs, `map ${id}.nr_hash_funcs`);
  const size = Math.ceil(bits / 8);
  if (size > mostObjects(kernel, 1))
    throw new CorruptMap(`map ${id}: the image cannot hold a bit set of ${bits} bits`);
  let set = 0;
  for (let done = 0; done < size; done += CHUNK_BYTES) {
    const length = Math.min(CHUNK_BYTES, size - done);
    const at = memory.expect(hi, lo, offsets.bitset + done, length, `map ${id}.bitset`);
    for (let n = 0; n < length; n++) set += ONES[memory.bytes[at + n]!]!;
  }
  return unreadable(
    "unsupported",
    `a bloom filter does not store its values; ${set} of ${bits} bits are set (${hashes} hash functions)`,
  ).why;
}

/** Number of set bits of each byte value. */
const ONES: Uint8Array = Uint8Array.from({ length: 256 }, (_, byte) => {
  let count = 0;
  for (let rest = byte; rest !== 0; rest &= rest - 1) count++;
  return count;
});
