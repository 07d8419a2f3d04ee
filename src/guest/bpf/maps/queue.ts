/** Reads `struct bpf_queue_stack`: a circular buffer of values between `tail` and `head`, for queues and stacks. */
import { place, struct, u32 } from "../../../btf/struct.ts";
import type { ContentRecord } from "../../../state.ts";
import { MapType } from "../../../uapi/names.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { Account, CorruptMap, type GuestMap, type Records } from "./walk.ts";

const QUEUE_STACK = struct("bpf_queue_stack", { head: u32, tail: u32, size: u32, elements: place });

/** Walks the values in the order in which pops return them. Throws `GuestFault` and `CorruptMap`. */
export function queueRecords(kernel: GuestKernel, map: GuestMap): Records {
  const { memory } = kernel;
  const { hi, lo } = map.at;
  const { id, type, valueSize, maxEntries } = map.info;
  const offsets = QUEUE_STACK.resolve(kernel.btf);
  const head = memory.u32(hi, lo, offsets.head, `map ${id}.head`);
  const tail = memory.u32(hi, lo, offsets.tail, `map ${id}.tail`);
  const size = memory.u32(hi, lo, offsets.size, `map ${id}.size`);
  if (size !== maxEntries + 1 || head >= size || tail >= size)
    throw new CorruptMap(`map ${id}: head ${head} and tail ${tail} do not fit its ${size} slots`);
  const count = (head - tail + size) % size;
  const account = new Account();
  const records: ContentRecord[] = [];
  for (let n = 0; n < count && account.stopped === ""; n++) {
    // __queue_map_get takes the value at the tail, __stack_map_get the one before the head.
    const index = type === MapType.queue ? (tail + n) % size : (head - 1 - n + size) % size;
    const at = memory.locate(hi, lo, offsets.elements + index * valueSize, valueSize);
    if (at < 0) account.skip("not-present");
    else {
      account.seen();
      records.push({ value: memory.bytes.slice(at, at + valueSize) });
    }
  }
  return { records, end: account.end };
}
