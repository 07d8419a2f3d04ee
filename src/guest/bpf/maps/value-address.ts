/** Finds the address of a map's values, for the types that store them in one region. */
import { place, ptr, struct } from "../../../btf/struct.ts";
import { MapType } from "../../../uapi/names.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { GuestFault } from "../../memory/fault.ts";
import { add, type Pointer, toBigInt } from "../../memory/pointer.ts";
import { arenaStart } from "./arena.ts";
import { arrayValues } from "./array.ts";
import { structOpsValue } from "./struct-ops.ts";
import type { GuestMap } from "./walk.ts";

const QUEUE_STACK = struct("bpf_queue_stack", { elements: place });
const RINGBUF_MAP = struct("bpf_ringbuf_map", { rb: ptr });
const RINGBUF = struct("bpf_ringbuf", { data: place });

/** Undefined if they are not in one region, or if the image does not have the pointers to it. */
export function valueAddress(kernel: GuestKernel, map: GuestMap): bigint | undefined {
  try {
    const start = region(kernel, map);
    return start === undefined ? undefined : toBigInt(start.hi, start.lo);
  } catch (error) {
    if (error instanceof GuestFault) return undefined;
    throw error;
  }
}

function region(kernel: GuestKernel, map: GuestMap): Pointer | undefined {
  const { btf, memory } = kernel;
  if (map.isOffloaded) return undefined;
  switch (map.info.type) {
    case MapType.array:
      return arrayValues(kernel, map);
    case MapType.struct_ops:
      return structOpsValue(kernel, map);
    case MapType.queue:
    case MapType.stack:
      return add(map.at, QUEUE_STACK.resolve(btf).elements);
    case MapType.ringbuf:
    case MapType.user_ringbuf: {
      const rb = memory.pointer(map.at.hi, map.at.lo, RINGBUF_MAP.resolve(btf).rb, "bpf_ringbuf_map.rb");
      return add(rb, RINGBUF.resolve(btf).data);
    }
    case MapType.arena:
      return arenaStart(kernel, map)?.kernel;
    default:
      return undefined;
  }
}
