/** Maps of the running kernel: their attributes, and which of them are held open. */
import type { Fd } from "../ffi.ts";
import type { MapInfo } from "../state.ts";
import { MAP_INFO } from "../uapi/bpf.ts";
import { cutAtNul } from "../uapi/layout.ts";
import { readFdInfo } from "./fdinfo.ts";
import { forEachObject, MAPS, objectInfo, pinned } from "./objects.ts";
import type { Sys } from "./sys.ts";

const scratch = pinned(MAP_INFO.size);

/** `struct bpf_map_info` of a descriptor, and what only its fdinfo tells (memlock, frozen, owner). */
export function readMapInfo(sys: Sys, fd: Fd, object: string): MapInfo {
  scratch.fill(0);
  const view = objectInfo(sys, fd, MAP_INFO, object, scratch);
  const u32 = (name: keyof typeof MAP_INFO.fields): number =>
    view.getUint32(MAP_INFO.fields[name].offset, true);
  const { offset, size } = MAP_INFO.fields.name;
  const more = readFdInfo(sys, fd);
  return {
    id: u32("id"),
    type: u32("type"),
    keySize: u32("key_size"),
    valueSize: u32("value_size"),
    maxEntries: u32("max_entries"),
    flags: u32("map_flags"),
    name: cutAtNul(scratch.slice(offset, offset + size)),
    ifindex: u32("ifindex"),
    btfId: u32("btf_id"),
    btfKeyTypeId: u32("btf_key_type_id"),
    btfValueTypeId: u32("btf_value_type_id"),
    btfVmlinuxValueTypeId: u32("btf_vmlinux_value_type_id"),
    btfVmlinuxId: u32("btf_vmlinux_id"),
    mapExtra: view.getBigUint64(MAP_INFO.fields.map_extra.offset, true),
    frozen: more.get("frozen") === 1,
    memlockBytes: more.get("memlock"),
    ownerProgType: more.get("owner_prog_type"),
    ownerJited: more.has("owner_jited") ? more.get("owner_jited") === 1 : undefined,
    location: undefined,
  };
}

/** A map whose descriptor is held, so that it cannot go away while it is read. */
export interface HeldMap {
  readonly info: MapInfo;
  readonly fd: Fd;
}

/**
 * Every map, by ascending id. The descriptors of those that `keep` chooses go into `held`; the others are closed at
 * once.
 */
export function collectMaps(
  sys: Sys,
  keep: (info: MapInfo) => boolean,
  held: Map<number, HeldMap>,
  warn: (sentence: string) => void,
): MapInfo[] {
  const infos: MapInfo[] = [];
  forEachObject(sys, MAPS, warn, (id, fd) => {
    const info = readMapInfo(sys, fd, `map ${id}`);
    infos.push(info);
    if (keep(info) && !held.has(info.id)) held.set(info.id, { info, fd });
    else fd[Symbol.dispose]();
  });
  return infos;
}
