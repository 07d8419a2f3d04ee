/**
 * The active sched_ext scheduler, told from programs and maps alone: written once over the interfaces, so a live
 * kernel and a memory image are asked the same way.
 */
import type { Btf } from "./btf/btf.ts";
import type { ActiveScheduler, BpfState, MapInfo, ProgInfo } from "./state.ts";
import { BTF_KIND } from "./uapi/btf.ts";
import { cutAtNul } from "./uapi/layout.ts";
import { LinkType, MapType, ProgType } from "./uapi/names.ts";

/** libbpf's names of the maps behind an object's global variables. */
const SECTIONS = [".bss", ".data", ".rodata"] as const;

/**
 * A scheduler's operations; since 7.2 also in a form that numbers CPUs by topology. In a struct_ops map the kernel wraps
 * `struct bpf_struct_ops_sched_ext_ops` around the first.
 */
const OPS_TYPES = ["sched_ext_ops", "sched_ext_ops_cid"] as const;

/** `enum bpf_struct_ops_state`: INIT 0, INUSE 1, TOBEFREE 2, READY 3. */
const STATE_INUSE = 1;
const STATE_READY = 3;

/** What the kernel itself says of sched_ext, where it can be asked. */
export interface SchedExtState {
  /** `/sys/kernel/sched_ext/state` or `scx_enable_state_var`: "enabled"; "" where not known. */
  readonly state: string;
  /** `/sys/kernel/sched_ext/root/ops`: the name in `struct sched_ext_ops`; "" where not known. */
  readonly opsName: string;
}

type Source = Pick<BpfState, "maps" | "progs" | "links" | "readValue" | "kernelBtf">;

/** One loaded `struct sched_ext_ops` with the programs that it calls. */
interface Candidate {
  readonly opsName: string;
  readonly progs: readonly ProgInfo[];
  /** Held by a struct_ops link, or in use without one. */
  readonly attached: boolean;
  readonly mapId: number;
}

/**
 * undefined: none is attached, or nothing tells which. Several schedulers may be loaded, and maps of a past one may
 * be held by somebody: the attached one is told by its struct_ops map (in use, or ready with a link), and where the
 * kernel names one, by that name.
 */
export function findActiveScheduler(source: Source, kernel: SchedExtState): ActiveScheduler | undefined {
  const kernelBtf = source.kernelBtf();
  if (!kernelBtf.ok) return undefined;
  if (kernel.state !== "" && kernel.state === "disabled") return undefined;
  const attached = candidates(source, kernelBtf.value).filter((candidate) => candidate.attached);
  const named = attached.filter(({ opsName }) => kernel.opsName !== "" && opsName === kernel.opsName);
  // The newest: the kernel runs one at a time, and a link that outlived its scheduler is older.
  const chosen = (named.length > 0 ? named : attached).sort((a, b) => b.mapId - a.mapId)[0];
  if (chosen === undefined) return undefined;
  const mapIds = new Set<number>([chosen.mapId]);
  for (const prog of chosen.progs) for (const id of prog.mapIds) mapIds.add(id);
  const used = source.maps().filter((map) => mapIds.has(map.id));
  return {
    opsName: chosen.opsName,
    objectPrefix: objectPrefix(used) ?? chosen.opsName,
    mapIds: [...mapIds].sort((a, b) => a - b),
    progIds: chosen.progs.map((prog) => prog.id).sort((a, b) => a - b),
    state: kernel.state,
  };
}

/** What stands before `.bss`, `.data` or `.rodata` in the name of a map of global variables; never empty. */
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

/** `common.state` since 6.9, `state` before. */
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
 * The ids behind the function pointers: user space is shown each callback's program id in its place
 * (kernel/bpf/bpf_struct_ops.c, `bpf_struct_ops_map_update_elem` stores it there).
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
