/** Lists maps and their attributes: `struct idr map_idr` -> every live `struct bpf_map`. */
import { at, bytes, optional, place, ptr, struct, u8, u32, u64 } from "../../btf/struct.ts";
import type { MapInfo } from "../../state.ts";
import { cutAtNul } from "../../uapi/layout.ts";
import { BPF_OBJ_NAME_LEN, MapType } from "../../uapi/names.ts";
import type { GuestKernel } from "../kernel/kernel.ts";
import { listObjects, type Warn } from "../kernel/listing.ts";
import { isNull, type Pointer, toBigInt } from "../memory/pointer.ts";
import { memlockBytes } from "./maps/memlock.ts";
import { structOpsBtf } from "./maps/struct-ops.ts";
import { valueAddress } from "./maps/value-address.ts";
import type { GuestMap } from "./maps/walk.ts";
import { readMapDevice } from "./offload.ts";

export type { GuestMap } from "./maps/walk.ts";

const BPF_MAP = struct("bpf_map", {
  ops: ptr,
  map_type: u32,
  key_size: u32,
  value_size: u32,
  max_entries: u32,
  map_extra: optional(u64, "since 5.16"),
  map_flags: u32,
  id: u32,
  btf_key_type_id: u32,
  btf_value_type_id: u32,
  btf_vmlinux_value_type_id: u32,
  btf: ptr,
  name: bytes(BPF_OBJ_NAME_LEN),
  frozen: u8,
  owner: optional(place, "since 5.18; before, bpf_array.aux->owner"),
  owner_type: optional(at(u32, "owner.type"), "up to 6.16, where owner is a struct"),
  owner_jited: optional(at(u8, "owner.jited"), "up to 6.16"),
});

const BPF_ARRAY = struct("bpf_array", { aux: ptr });
const BPF_ARRAY_AUX = struct("bpf_array_aux", { type: at(u32, "owner.type"), jited: at(u8, "owner.jited") });
const BPF_MAP_OWNER = struct("bpf_map_owner", { type: u32, jited: u8 });
const BTF_OBJECT = struct("btf", { id: u32 });

/** Returns every map, by ascending id. Maps that could not be read are counted in one warning. Throws `KtstrError`. */
export function listMaps(kernel: GuestKernel, warn: Warn): readonly GuestMap[] {
  const read = (at: Pointer, id: number): GuestMap | string => {
    const map = readMap(kernel, at, `map ${id}`);
    return map.info.id === id ? map : "recycled memory";
  };
  return listObjects(kernel, "map_idr", "map", read, warn);
}

/** Reads one `struct bpf_map`. Throws `GuestFault` if it is not in the image. */
export function readMap(kernel: GuestKernel, map: Pointer, path: string): GuestMap {
  const { memory } = kernel;
  const offsets = BPF_MAP.resolve(kernel.btf);
  const start = memory.expect(map.hi, map.lo, 0, offsets.sizeof, path);
  const { view } = memory;
  const u32At = (offset: number): number => view.getUint32(start + offset, true);
  const pointerAt = (offset: number): Pointer => ({
    hi: view.getInt32(start + offset + 4, true),
    lo: view.getInt32(start + offset, true),
  });
  const name = memory.bytes.slice(start + offsets.name, start + offsets.name + BPF_OBJ_NAME_LEN);
  const attributes = {
    id: u32At(offsets.id),
    type: u32At(offsets.map_type),
    keySize: u32At(offsets.key_size),
    valueSize: u32At(offsets.value_size),
    maxEntries: u32At(offsets.max_entries),
    flags: u32At(offsets.map_flags),
    name: cutAtNul(name),
    btfVmlinuxValueTypeId: u32At(offsets.btf_vmlinux_value_type_id),
    mapExtra: offsets.map_extra === undefined ? 0n : view.getBigUint64(start + offsets.map_extra, true),
    frozen: view.getUint8(start + offsets.frozen) !== 0,
  };
  const btf = pointerAt(offsets.btf);
  const ops = pointerAt(offsets.ops);
  const btfTypes = isNull(btf)
    ? { btfKeyTypeId: 0, btfValueTypeId: 0 }
    : { btfKeyTypeId: u32At(offsets.btf_key_type_id), btfValueTypeId: u32At(offsets.btf_value_type_id) };
  const owner = readOwner(kernel, map, attributes.type, path);
  const offloaded = isOffloaded(kernel, ops);
  const withoutMemlock: MapInfo = {
    ...attributes,
    ...btfTypes,
    ...owner,
    device: offloaded ? readMapDevice(kernel, map, path) : undefined,
    btfId: readBtfId(kernel, btf, `${path}.btf`),
    btfVmlinuxId: attributes.type === MapType.struct_ops ? readStructOpsBtfId(kernel, map, path) : 0,
    memlockBytes: undefined,
    location: undefined,
  };
  const guestMap: GuestMap = { info: withoutMemlock, at: map, isOffloaded: offloaded };
  const location = {
    address: toBigInt(map.hi, map.lo),
    physical: memory.physicalOf(map.hi, map.lo, path),
    valueAddress: valueAddress(kernel, guestMap),
  };
  const memlock = memlockBytes(kernel, guestMap);
  return { ...guestMap, info: { ...withoutMemlock, memlockBytes: memlock, location } };
}

/** `btf_obj_id()`; 0 if there is none. */
function readBtfId(kernel: GuestKernel, btf: Pointer, path: string): number {
  return isNull(btf) ? 0 : kernel.memory.u32(btf.hi, btf.lo, BTF_OBJECT.resolve(kernel.btf).id, path);
}

/** kernel/bpf/bpf_struct_ops.c, `bpf_map_struct_ops_info_fill`. */
function readStructOpsBtfId(kernel: GuestKernel, map: Pointer, path: string): number {
  return readBtfId(kernel, structOpsBtf(kernel, map, path), `${path}.btf`);
}

/** Returns the program type that a prog array accepts, which the kernel shows if it is set (`bpf_map_show_fdinfo`). */
function readOwner(
  kernel: GuestKernel,
  map: Pointer,
  mapType: number,
  path: string,
): Pick<MapInfo, "ownerProgType" | "ownerJited"> {
  const { memory } = kernel;
  const owner = ownerPlace(kernel, map, mapType, path);
  const ownerProgType =
    owner === undefined ? 0 : memory.u32(owner.at.hi, owner.at.lo, owner.type, `${path}.owner`);
  if (owner === undefined || ownerProgType === 0) return { ownerProgType: undefined, ownerJited: undefined };
  const { at: ownerAt, jited } = owner;
  return { ownerProgType, ownerJited: memory.u8(ownerAt.hi, ownerAt.lo, jited, `${path}.owner`) !== 0 };
}

/** Returns the struct with the owner, and its offset; undefined if the map has none. */
function ownerPlace(
  { memory, btf }: GuestKernel,
  map: Pointer,
  mapType: number,
  path: string,
): { readonly at: Pointer; readonly type: number; readonly jited: number } | undefined {
  const { owner, owner_type, owner_jited } = BPF_MAP.resolve(btf);
  if (owner_type !== undefined && owner_jited !== undefined)
    return { at: map, type: owner_type, jited: owner_jited };
  if (owner === undefined && mapType !== MapType.prog_array) return undefined;
  const offset = owner ?? BPF_ARRAY.resolve(btf).aux;
  const at = memory.pointer(map.hi, map.lo, offset, `${path}.owner`);
  const table = owner === undefined ? BPF_ARRAY_AUX : BPF_MAP_OWNER;
  return isNull(at) ? undefined : { at, ...table.resolve(btf) };
}

function isOffloaded({ symbols }: GuestKernel, ops: Pointer): boolean {
  const offloaded = symbols.address("bpf_map_offload_ops");
  return offloaded !== undefined && offloaded.hi === ops.hi && offloaded.lo === ops.lo;
}
