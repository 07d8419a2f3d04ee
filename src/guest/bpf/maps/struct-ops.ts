/** Reads `struct bpf_struct_ops_map`: one value, the struct from user space with program ids in it. */
import { at, optional, place, ptr, struct, u32, u64 } from "../../../btf/struct.ts";
import { type EntryCursor, found, type Read } from "../../../state.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { add, NULL, type Pointer } from "../../memory/pointer.ts";
import { attempt, CorruptMap, copyBytes, type GuestMap, IndexCursor, shapeOf } from "./walk.ts";

const STRUCT_OPS_MAP = struct("bpf_struct_ops_map", {
  uvalue: ptr,
  kvalue: place,
  btf: optional(ptr, "since 6.9"),
});

const VALUE = struct("bpf_struct_ops_value", {
  state: at(u32, "common.state", "state"),
  refcnt: at(u32, "common.refcnt.refs.counter", "refcnt.refs.counter"),
});

const MAP_COUNTS = struct("bpf_map", {
  refcnt: at(u64, "refcnt.counter"),
  usercnt: at(u64, "usercnt.counter"),
});

/** `enum bpf_struct_ops_state`: no value was set yet. */
const STATE_INIT = 0;

/**
 * Returns the result of a lookup of key 0 (kernel/bpf/bpf_struct_ops.c, `bpf_struct_ops_map_sys_lookup_elem`): `uvalue`, with
 * program ids, the state, and the number of references from other than user space.
 */
export function readStructOps(kernel: GuestKernel, map: GuestMap): Read<Uint8Array> {
  return attempt(() => {
    const { memory, btf } = kernel;
    const { hi, lo } = map.at;
    const { valueSize, id } = map.info;
    const offsets = STRUCT_OPS_MAP.resolve(btf);
    const value = VALUE.resolve(btf);
    const counts = MAP_COUNTS.resolve(btf);
    if (valueSize < Math.max(value.state, value.refcnt) + 4)
      throw new CorruptMap(`map ${id}: its value of ${valueSize} bytes has no room for its state`);
    const state = memory.u32(hi, lo, offsets.kvalue + value.state, `map ${id}.kvalue.state`);
    if (state === STATE_INIT) return found(new Uint8Array(valueSize));
    const uvalue = memory.pointer(hi, lo, offsets.uvalue, `map ${id}.uvalue`);
    const bytes = copyBytes(kernel, uvalue, 0, valueSize, `map ${id}.uvalue`);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const held =
      memory.u64(hi, lo, counts.refcnt, `map ${id}.refcnt`) -
      memory.u64(hi, lo, counts.usercnt, `map ${id}.usercnt`);
    view.setUint32(value.state, state, true);
    view.setInt32(value.refcnt, Number(BigInt.asIntN(32, held > 0n ? held : 0n)), true);
    return found(bytes);
  });
}

/** Returns `kvalue`, which the kernel itself uses. */
export const structOpsValue = ({ btf }: GuestKernel, { at }: GuestMap): Pointer =>
  add(at, STRUCT_OPS_MAP.resolve(btf).kvalue);

/** Returns the `struct btf` that describes the value; NULL if the kernel does not store it. Throws `GuestFault`. */
export function structOpsBtf({ btf, memory }: GuestKernel, map: Pointer, path: string): Pointer {
  const offset = STRUCT_OPS_MAP.resolve(btf).btf;
  return offset === undefined ? NULL : memory.pointer(map.hi, map.lo, offset, `${path}.btf`);
}

/** Walks its only entry. */
export function structOpsEntries(kernel: GuestKernel, map: GuestMap): EntryCursor {
  return new IndexCursor(kernel, shapeOf(map), { count: 1, bytesEach: 0 }, (_index, cursor) => {
    const value = readStructOps(kernel, map);
    if (!value.ok) return cursor.account.skip(value.why.reason);
    cursor.valueBytes = value.value;
    return "value";
  });
}
