/** Finds ejected schedulers: their `struct scx_sched` exists until the loader closes the link. */
import type { Btf } from "../../btf/btf.ts";
import { at, bytes, ptr, struct, u32 } from "../../btf/struct.ts";
import { MapType } from "../../uapi/names.ts";
import { listMaps } from "../bpf/map-info.ts";
import { structOpsValue } from "../bpf/maps/struct-ops.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { StructAt } from "../kernel/struct-at.ts";
import { add, isNull, type Pointer } from "../memory/pointer.ts";

/** SCX_OPS_NAME_LEN. */
const NAME_BYTES = 128;
const OPS = struct("sched_ext_ops", { name: bytes(NAME_BYTES), priv: ptr });
const SCHED = struct("scx_sched", {
  name: at(bytes(NAME_BYTES), "ops.name"),
  exit_info: ptr,
  references: at(u32, "kobj.kref.refcount.refs.counter"),
});
const EXIT = struct("scx_exit_info", { kind: u32 });

/** The types of struct_ops values for sched_ext; the second since 7.2. Both have `priv` at the same offset. */
const VALUE_TYPES = ["bpf_struct_ops_sched_ext_ops", "bpf_struct_ops_sched_ext_ops_cid"];

export interface EjectedScheduler {
  /** `struct scx_sched *`. */
  readonly at: Pointer;
  /** Id of the struct_ops map with its operations. */
  readonly mapId: number;
}

/**
 * Returns the schedulers in `ops->priv` of struct_ops maps. `scx_root` is NULL after an ejection, but the last reference is
 * only dropped by `bpf_scx_unreg()` (kernel/sched/ext), when the link is closed. Only objects with exit information and with
 * the name of their map's operations are returned. Throws `GuestFault`.
 */
export function ejectedSchedulers(kernel: GuestKernel): EjectedScheduler[] {
  const { memory, btf } = kernel;
  const offsets = SCHED.resolveIfPresent(btf);
  if (offsets === undefined) return [];
  const ops = OPS.resolve(btf);
  const exit = EXIT.resolve(btf);
  return listMaps(kernel, () => {}).flatMap((map) => {
    if (map.info.type !== MapType.struct_ops) return [];
    const data = dataOffset(btf, map.info.btfVmlinuxValueTypeId);
    if (data === undefined) return [];
    const given = new StructAt(memory, add(structOpsValue(kernel, map), data), "sched_ext_ops.");
    const sched = given.follow(ops.priv, "priv");
    if (sched.isNull || sched.u32(offsets.references, "kobj.kref") === 0) return [];
    const name = sched.inlineString(offsets.name, "ops.name", NAME_BYTES);
    if (name === "" || name !== given.inlineString(ops.name, "name", NAME_BYTES)) return [];
    const info = sched.follow(offsets.exit_info, "exit_info");
    return isNull(info.at) || info.u32(exit.kind, "kind") === 0 ? [] : [{ at: sched.at, mapId: map.info.id }];
  });
}

/** Returns the offset of the operations in a value of this type; undefined if it is not a sched_ext type. */
function dataOffset(btf: Btf, typeId: number): number | undefined {
  if (!(typeId > 0 && typeId < btf.typeCount)) return undefined;
  if (!VALUE_TYPES.includes(Buffer.from(btf.nameBytes(typeId)).toString("latin1"))) return undefined;
  return btf.member(typeId, "data")?.byteOffset;
}
