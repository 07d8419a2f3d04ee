/**
 * Finds the active sched_ext scheduler from programs, maps and links. It uses only the `BpfState` interface, so it works for
 * a live kernel and a memory image.
 */
import type { Btf } from "./btf/btf.ts";
import type { ActiveScheduler, BpfState, MapInfo, ProgInfo } from "./state.ts";
import { BTF_KIND } from "./uapi/btf.ts";
import { cutAtNul } from "./uapi/layout.ts";
import { LinkType, MapType, ProgType } from "./uapi/names.ts";

/** Name suffixes that libbpf gives to the maps with an object's global variables. */
const SECTIONS = [".bss", ".data", ".rodata"] as const;

/**
 * Structs with a scheduler's operations. Since 7.2 there is a variant that numbers CPUs by topology. The value of a
 * struct_ops map is the kernel's wrapper around one of them (`struct bpf_struct_ops_sched_ext_ops`).
 */
const OPS_TYPES = ["sched_ext_ops", "sched_ext_ops_cid"] as const;

/** `enum bpf_struct_ops_state`: INIT 0, INUSE 1, TOBEFREE 2, READY 3. */
const STATE_INUSE = 1;
const STATE_READY = 3;

/** The kernel's own state of sched_ext, as far as it is known. */
export interface SchedExtState {
  /** `/sys/kernel/sched_ext/state` or `scx_enable_state_var`: "enabled"; "" if unknown. */
  readonly state: string;
  /** `/sys/kernel/sched_ext/root/ops`: the name in `struct sched_ext_ops`; "" if unknown. */
  readonly opsName: string;
}

type Source = Pick<BpfState, "maps" | "progs" | "links" | "readValue" | "kernelBtf">;

/** A loaded `struct sched_ext_ops` with its programs. */
interface Candidate {
  readonly opsName: string;
  readonly progs: readonly ProgInfo[];
  /** A struct_ops link holds it, or it is in use without a link. */
  readonly attached: boolean;
  readonly mapId: number;
}

/**
 * Returns the attached scheduler, or undefined if none is attached or it cannot be determined. Several schedulers can be
 * loaded, and processes can hold the maps of earlier ones. The attached one has a struct_ops map that is in use, or that is
 * ready and has a link. If the kernel gives the name of the scheduler, the name must match.
 */
export function findActiveScheduler(source: Source, kernel: SchedExtState): ActiveScheduler | undefined {
  const kernelBtf = source.kernelBtf();
  if (!kernelBtf.ok) return undefined;
  if (kernel.state !== "" && kernel.state === "disabled") return undefined;
  const attached = candidates(source, kernelBtf.value).filter((candidate) => candidate.attached);
  const named = attached.filter(({ opsName }) => kernel.opsName !== "" && opsName === kernel.opsName);
  // Use the newest map: the kernel runs one scheduler at a time, and the map of a stale link is older.
  const chosen = (named.length > 0 ? named : attached).sort((a, b) => b.mapId - a.mapId)[0];
  if (chosen === undefined) return undefined;
  const mapIds = mapsOf(chosen);
  const used = source.maps().filter((map) => mapIds.has(map.id));
  return {
    opsName: chosen.opsName,
    objectPrefix: objectPrefix(used) ?? chosen.opsName,
    mapIds: [...mapIds].sort((a, b) => a - b),
    progIds: chosen.progs.map((prog) => prog.id).sort((a, b) => a - b),
    state: kernel.state,
  };
}

/** Returns the ids of the maps of a scheduler that need not be attached. Empty if its struct_ops map does not exist. */
export function schedulerMaps(source: Source, structOpsId: number): ReadonlySet<number> {
  const kernelBtf = source.kernelBtf();
  if (!kernelBtf.ok) return new Set();
  const chosen = candidates(source, kernelBtf.value).find(({ mapId }) => mapId === structOpsId);
  return chosen === undefined ? new Set() : mapsOf(chosen);
}

function mapsOf({ mapId, progs }: Candidate): ReadonlySet<number> {
  return new Set([mapId, ...progs.flatMap((prog) => prog.mapIds)]);
}

/** Returns the prefix before `.bss`, `.data` or `.rodata` in the name of a map of global variables. Never empty. */
export function objectPrefix(maps: readonly MapInfo[]): string | undefined {
  for (const suffix of SECTIONS) {
    for (const map of maps) {
      const name = Buffer.from(map.name).toString("utf8");
      if (map.type === MapType.array && name.endsWith(suffix) && name.length > suffix.length) {
        return name.slice(0, -suffix.length);
      }
    }
  }
  return undefined;
}

function candidates(source: Source, btf: Btf): Candidate[] {
  const types = new Map<number, number>();
  for (const name of OPS_TYPES) {
    const valueType = btf.find(`bpf_struct_ops_${name}`, BTF_KIND.STRUCT);
    const opsType = btf.find(name, BTF_KIND.STRUCT);
    if (valueType !== undefined && opsType !== undefined) types.set(valueType, opsType);
  }
  if (types.size === 0) return [];
  const progs = source.progs({ type: ProgType.struct_ops });
  const links = source.links().filter(({ type }) => type === LinkType.struct_ops);
  const linked = new Set(links.map(({ details }) => details["map_id"]));
  const result: Candidate[] = [];
  for (const map of source.maps()) {
    const valueType = map.btfVmlinuxValueTypeId;
    const opsType = types.get(valueType);
    if (map.type !== MapType.struct_ops || opsType === undefined) continue;
    const value = source.readValue(map, 0, map.valueSize);
    if (!value.ok) continue;
    const view = new DataView(value.value.buffer, value.value.byteOffset, value.value.length);
    const state = stateOf(btf, valueType, view);
    const ids = programIds(btf, valueType, opsType, view);
    result.push({
      mapId: map.id,
      opsName: opsNameOf(btf, valueType, value.value),
      progs: progs.filter((prog) => ids.has(prog.id)),
      attached: state === STATE_INUSE || (state === STATE_READY && linked.has(map.id)),
    });
  }
  return result;
}

/** Returns the `enum bpf_struct_ops_state` of a value: `common.state` since 6.9, `state` before. -1 if it has none. */
function stateOf(btf: Btf, valueType: number, view: DataView): number {
  const place = btf.member(valueType, "common.state") ?? btf.member(valueType, "state");
  return place === undefined || place.byteOffset + 4 > view.byteLength
    ? -1
    : view.getUint32(place.byteOffset, true);
}

function opsNameOf(btf: Btf, valueType: number, value: Uint8Array): string {
  const place = btf.member(valueType, "data.name");
  if (place === undefined) return "";
  const size = btf.sizeOf(place.typeId);
  const bytes = value.subarray(place.byteOffset, Math.min(place.byteOffset + size, value.length));
  return Buffer.from(cutAtNul(bytes)).toString("utf8");
}

/**
 * Returns the program ids in the function pointers. The value that user space reads has each callback's program id instead of
 * its address (kernel/bpf/bpf_struct_ops.c, `bpf_struct_ops_map_update_elem`).
 */
function programIds(btf: Btf, valueType: number, opsType: number, view: DataView): Set<number> {
  const data = btf.member(valueType, "data");
  const ids = new Set<number>();
  if (data === undefined) return ids;
  for (const member of btf.members(opsType)) {
    const offset = data.byteOffset + member.bitOffset / 8;
    if (btf.kind(btf.resolve(member.typeId)) !== BTF_KIND.PTR || offset + 8 > view.byteLength) continue;
    const id = view.getUint32(offset, true);
    if (id !== 0 && view.getUint32(offset + 4, true) === 0) ids.add(id);
  }
  return ids;
}
