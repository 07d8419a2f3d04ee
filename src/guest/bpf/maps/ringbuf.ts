/** Reads `struct bpf_ringbuf`: records between the consumer's and the producer's position. */
import { optional, place, ptr, struct, u8, u64 } from "../../../btf/struct.ts";
import type { ContentRecord } from "../../../state.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import type { Pointer } from "../../memory/pointer.ts";
import { Account, CorruptMap, type GuestMap, mostObjects, type Records } from "./walk.ts";

const RINGBUF_MAP = struct("bpf_ringbuf_map", { rb: ptr });
const RINGBUF = struct("bpf_ringbuf", {
  mask: u64,
  consumer_pos: u64,
  producer_pos: u64,
  overwrite_mode: optional(u8, "since 6.19"),
  overwrite_pos: optional(u64, "since 6.19"),
  data: place,
});

/** The flags in a record's length, and the size of its header (include/uapi/linux/bpf.h). */
const BUSY = 0x8000_0000 | 0;
const DISCARDED = 0x4000_0000;
const LENGTH_MASK = 0x3fff_ffff;
const HEADER_BYTES = 8;

/** Walks the records that were not consumed yet, oldest first. Throws `GuestFault` and `CorruptMap`. */
export function ringbufRecords(kernel: GuestKernel, map: GuestMap): Records {
  const { memory } = kernel;
  const { id } = map.info;
  const offsets = RINGBUF.resolve(kernel.btf);
  const ring = memory.pointer(map.at.hi, map.at.lo, RINGBUF_MAP.resolve(kernel.btf).rb, `map ${id}.rb`);
  const read = (offset: number, name: string): number =>
    Number(memory.u64(ring.hi, ring.lo, offset, `map ${id}.rb.${name}`));
  const size = read(offsets.mask, "mask") + 1;
  const producer = read(offsets.producer_pos, "producer_pos");
  const position = Math.max(read(offsets.consumer_pos, "consumer_pos"), overwritten(kernel, ring, read));
  if (!Number.isInteger(Math.log2(size)) || size > mostObjects(kernel, 1) || producer - position > size)
    throw new CorruptMap(
      `map ${id}: positions ${position} and ${producer} do not fit a ring of ${size} bytes`,
    );
  return readRecords(kernel, ring, { size, producer, position });
}

/** In overwrite mode, records before `overwrite_pos` are lost, regardless of the consumer's position. */
function overwritten(
  { memory, btf }: GuestKernel,
  ring: Pointer,
  read: (offset: number, name: string) => number,
): number {
  const { overwrite_mode, overwrite_pos } = RINGBUF.resolve(btf);
  if (overwrite_mode === undefined || overwrite_pos === undefined) return 0;
  if (memory.u8(ring.hi, ring.lo, overwrite_mode, "overwrite_mode") === 0) return 0;
  return read(overwrite_pos, "overwrite_pos");
}

interface Span {
  readonly size: number;
  readonly position: number;
  readonly producer: number;
}

/** The data pages are mapped twice in succession, so that a record at the end of the ring is contiguous. */
function readRecords(
  { memory, btf }: GuestKernel,
  ring: Pointer,
  { size, position, producer }: Span,
): Records {
  const { data } = RINGBUF.resolve(btf);
  const account = new Account();
  const records: ContentRecord[] = [];
  while (position < producer) {
    const offset = data + (position % size);
    const headerAt = memory.locate(ring.hi, ring.lo, offset, HEADER_BYTES);
    if (headerAt < 0) {
      account.skip("not-present");
      account.stopped = "stopped: a record's header is not in the image, so the next record cannot be found";
      break;
    }
    const header = memory.view.getInt32(headerAt, true);
    const length = header & LENGTH_MASK;
    if (length + HEADER_BYTES > producer - position) {
      account.stopped = "stopped: a record extends past the producer position";
      break;
    }
    const at = memory.locate(ring.hi, ring.lo, offset + HEADER_BYTES, length);
    if (at < 0) account.skip("not-present");
    else {
      const value = memory.bytes.slice(at, at + length);
      const note = (header & BUSY) !== 0 ? "busy" : (header & DISCARDED) !== 0 ? "discarded" : undefined;
      records.push(note === undefined ? { value } : { value, note });
    }
    position += Math.ceil((length + HEADER_BYTES) / 8) * 8;
  }
  return { records, end: account.end };
}
