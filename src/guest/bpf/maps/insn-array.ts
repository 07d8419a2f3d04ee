/** Reads `struct bpf_insn_array` (since 6.19): the final offsets of a program's instructions. */
import { place, struct } from "../../../btf/struct.ts";
import type { EntryCursor } from "../../../state.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { type GuestMap, IndexCursor, shapeOf } from "./walk.ts";

const INSN_ARRAY = struct("bpf_insn_array", { values: place });

/** Walks the array of `struct bpf_insn_array_value` by index. Throws `GuestFault`. */
export function insnArrayEntries(kernel: GuestKernel, map: GuestMap): EntryCursor {
  const { memory } = kernel;
  const { hi, lo } = map.at;
  const { valueSize, maxEntries } = map.info;
  const { values } = INSN_ARRAY.resolve(kernel.btf);
  const bounds = { count: maxEntries, bytesEach: valueSize };
  return new IndexCursor(kernel, shapeOf(map), bounds, (index, cursor) => {
    const at = memory.locate(hi, lo, values + index * valueSize, valueSize);
    if (at < 0) return cursor.account.skip("not-present");
    cursor.valueBytes = memory.bytes;
    cursor.valueOffset = at;
    return "value";
  });
}
