/**
 * Finds the parts of a value that the kernel does not show to user space: spin locks, timers, kernel pointers, list heads. A
 * lookup returns initial values there, which are zeros (include/linux/bpf.h, `copy_map_value` and
 * `check_and_init_map_value`), and so does ktstr. List heads are zeros too, although the kernel
 * returns pointers into a temporary buffer there.
 */
import { optional, place, ptr, struct, u32 } from "../../../btf/struct.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { isNull, type Pointer } from "../../memory/pointer.ts";
import type { GuestMap } from "./walk.ts";

/** `size` bytes at `offset` of each value. */
export interface SpecialField {
  readonly offset: number;
  readonly size: number;
}

const MAP_FIELDS = struct("bpf_map", {
  record: optional(ptr, "since 6.2"),
  off_arr: optional(ptr, "up to 6.1"),
});
const BTF_RECORD = struct("btf_record", { cnt: u32, fields: place });
const BTF_FIELD = struct("btf_field", { offset: u32, size: u32 });
const OFF_ARR = struct("bpf_map_off_arr", { cnt: u32, field_off: place, field_sz: place });

/** BTF_FIELDS_MAX and BPF_MAP_OFF_ARR_MAX are at most 11. */
const MAX_FIELDS = 64;

/** Sorted by offset. Fields outside the value are left out. Throws `GuestFault`. */
export function readSpecialFields(kernel: GuestKernel, map: GuestMap): readonly SpecialField[] {
  const { btf, memory } = kernel;
  const members = MAP_FIELDS.resolve(btf);
  const member = members.record ?? members.off_arr;
  if (member === undefined) return [];
  const at = memory.pointer(map.at.hi, map.at.lo, member, "bpf_map.record");
  if (isNull(at) || isErrorPointer(at)) return [];
  const fields = members.record === undefined ? fromOffArr(kernel, at) : fromRecord(kernel, at);
  return fields.filter(({ offset, size }) => size > 0 && offset + size <= map.info.valueSize);
}

/** IS_ERR: addresses in the last 4,095 bytes. */
const isErrorPointer = ({ hi, lo }: Pointer): boolean => hi === -1 && lo >= -4095 && lo < 0;

function fromRecord({ btf, memory }: GuestKernel, { hi, lo }: Pointer): SpecialField[] {
  const record = BTF_RECORD.resolve(btf);
  const field = BTF_FIELD.resolve(btf);
  const count = Math.min(memory.u32(hi, lo, record.cnt, "btf_record.cnt"), MAX_FIELDS);
  return Array.from({ length: count }, (_, index) => {
    const at = record.fields + index * field.sizeof;
    return {
      offset: memory.u32(hi, lo, at + field.offset, "btf_field.offset"),
      size: memory.u32(hi, lo, at + field.size, "btf_field.size"),
    };
  });
}

function fromOffArr({ btf, memory }: GuestKernel, { hi, lo }: Pointer): SpecialField[] {
  const offsets = OFF_ARR.resolve(btf);
  const count = Math.min(memory.u32(hi, lo, offsets.cnt, "bpf_map_off_arr.cnt"), MAX_FIELDS);
  return Array.from({ length: count }, (_, index) => ({
    offset: memory.u32(hi, lo, offsets.field_off + 4 * index, "bpf_map_off_arr.field_off"),
    size: memory.u8(hi, lo, offsets.field_sz + index, "bpf_map_off_arr.field_sz"),
  }));
}

/** Clears the parts of the fields that are in `bytes`. The value starts at `start`, which can be negative. */
export function clearFields(fields: readonly SpecialField[], bytes: Uint8Array, start: number): void {
  for (const { offset, size } of fields)
    bytes.fill(0, Math.max(0, start + offset), Math.max(0, start + offset + size));
}
