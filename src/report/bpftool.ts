/**
 * Objects as plain data with bpftool's keys in bpftool's order (tools/bpf/bpftool/{map,prog,link,btf}.c), followed by
 * keys of ktstr. The result is a superset, so scripts that read bpftool's JSON work with it.
 */
import type { BtfInfo, KernelInfo, LinkInfo, MapInfo, OffloadDevice, ProgInfo } from "../state.ts";
import { utf8 } from "../text.ts";
import { LINK_TYPES, LinkType, MAP_TYPES, MapType, nameOr, PROG_TYPES } from "../uapi/names.ts";
import type { StatsInterval } from "./interval.ts";
import type { Json } from "./json.ts";

export type JsonObject = { [key: string]: Json };

export function mapJson(map: MapInfo): JsonObject {
  return {
    ...mapHeaderJson(map),
    bytes_key: map.keySize,
    bytes_value: map.valueSize,
    max_entries: map.maxEntries,
    bytes_memlock: map.memlockBytes,
    ...ownerJson(map),
    frozen: map.frozen === undefined ? undefined : Number(map.frozen),
    btf_id: map.btfId === 0 ? undefined : map.btfId,
    // Keys of ktstr:
    btf_key_type_id: map.btfKeyTypeId === 0 ? undefined : map.btfKeyTypeId,
    btf_value_type_id: map.btfValueTypeId === 0 ? undefined : map.btfValueTypeId,
    btf_vmlinux_value_type_id: map.btfVmlinuxValueTypeId === 0 ? undefined : map.btfVmlinuxValueTypeId,
    btf_vmlinux_id: map.btfVmlinuxId === 0 ? undefined : map.btfVmlinuxId,
    map_extra: map.mapExtra === 0n ? undefined : map.mapExtra,
  };
}

/** Returns the keys that `map dump` of several maps prints before `elements`. */
export function mapHeaderJson(map: MapInfo): JsonObject {
  return {
    id: map.id,
    type: nameOr(MAP_TYPES, map.type),
    name: map.name.length === 0 ? undefined : nameText(map.name),
    // bpftool prints `map_flags` as a signed int.
    flags: map.flags | 0,
    dev: deviceJson(map.device),
  };
}

/** `print_dev_json` of tools/bpf/bpftool/common.c. */
function deviceJson(device: OffloadDevice | undefined): JsonObject | undefined {
  if (device === undefined) return undefined;
  const { ifindex, netnsDev, netnsIno, name } = device;
  return { ifindex, ns_dev: netnsDev, ns_inode: netnsIno, ifname: name && nameText(name) };
}

function ownerJson(map: MapInfo): JsonObject {
  if (map.type !== MapType.prog_array) return {};
  return {
    owner_prog_type: map.ownerProgType === undefined ? undefined : nameOr(PROG_TYPES, map.ownerProgType),
    owner_jited: map.ownerJited,
  };
}

export function progJson(prog: ProgInfo, kernel: KernelInfo, interval?: StatsInterval): JsonObject {
  return {
    ...progHeaderJson(prog),
    dev: deviceJson(prog.device),
    loaded_at: prog.loadTimeNs === 0n ? undefined : loadedAt(prog, kernel),
    uid: prog.loadTimeNs === 0n ? undefined : prog.createdByUid,
    // An orphaned program has lost its offload device. Its info cannot be read, so it is never listed here.
    orphaned: false,
    bytes_xlated: prog.translatedBytes,
    jited: prog.jited,
    bytes_jited: prog.jited ? prog.jitedBytes : undefined,
    bytes_memlock: prog.memlockBytes,
    map_ids: prog.mapIds.length === 0 ? undefined : prog.mapIds,
    btf_id: prog.btfId === 0 ? undefined : prog.btfId,
    // Keys of ktstr:
    verified_insns: prog.verifiedInsns,
    attach_btf_obj_id: prog.attachBtfObjId === 0 ? undefined : prog.attachBtfObjId,
    attach_btf_id: prog.attachBtfId === 0 ? undefined : prog.attachBtfId,
    load_time_ns: prog.loadTimeNs === 0n ? undefined : prog.loadTimeNs,
    interval: interval === undefined ? undefined : intervalJson(prog, interval),
    stats_unreadable: prog.stats.ok ? undefined : prog.stats.why.detail,
  };
}

/** Returns the keys that `prog dump` of several programs prints before `insns`. */
export function progHeaderJson(prog: ProgInfo): JsonObject {
  const stats = prog.stats.ok ? prog.stats.value : undefined;
  const ran = stats !== undefined && stats.runTimeNs > 0n;
  return {
    id: prog.id,
    type: nameOr(PROG_TYPES, prog.type),
    name: prog.fullName.length === 0 ? undefined : nameText(prog.fullName),
    tag: Buffer.from(prog.tag).toString("hex"),
    gpl_compatible: prog.gplCompatible,
    run_time_ns: ran ? stats.runTimeNs : undefined,
    run_cnt: ran ? stats.count : undefined,
    recursion_misses: stats !== undefined && stats.misses > 0n ? stats.misses : undefined,
  };
}

function intervalJson(prog: ProgInfo, interval: StatsInterval): JsonObject {
  const { count, runTimeNs, misses } = interval.of(prog);
  return {
    seconds: Number(interval.seconds.toFixed(3)),
    run_time_ns: runTimeNs,
    run_cnt: count,
    recursion_misses: misses,
  };
}

/** Returns the load time in Unix seconds; undefined if the boot time is not known. */
export function loadedAt(prog: ProgInfo, kernel: KernelInfo): bigint | undefined {
  if (kernel.bootTimeUnixNs === undefined) return undefined;
  return (kernel.bootTimeUnixNs + prog.loadTimeNs) / 1_000_000_000n;
}

/** Like bpftool, looks up the program's type for a tracing link, and prints it first. */
export function linkJson(link: LinkInfo, progType: (id: number) => number | undefined): JsonObject {
  const type = link.type === LinkType.tracing ? progType(link.progId) : undefined;
  return {
    id: link.id,
    type: nameOr(LINK_TYPES, link.type),
    prog_id: link.progId,
    prog_type: type === undefined ? undefined : nameOr(PROG_TYPES, type),
    ...link.details,
  };
}

/** Returns the keys of a BTF object, with the ids of the programs and maps that use it. */
export function btfJson(btf: BtfInfo, progs: readonly ProgInfo[], maps: readonly MapInfo[]): JsonObject {
  return {
    id: btf.id,
    size: btf.sizeBytes,
    prog_ids: progs.filter((prog) => prog.btfId === btf.id).map((prog) => prog.id),
    map_ids: maps.filter((map) => map.btfId === btf.id).map((map) => map.id),
    kernel: btf.kernel,
    name: btf.name.length === 0 ? undefined : nameText(btf.name),
  };
}

/**
 * Converts a name to text for JSON. Valid UTF-8 is kept (the printer escapes terminal control characters); an invalid
 * byte becomes U+FFFD.
 */
export function nameText(name: Uint8Array): string {
  return utf8(name);
}
