/** Maps and programs without a known holder. They may have been leaked, or their holder is of a kind that is not searched. */
import type { AttachmentAccessor, PinAccessor } from "../attachments.ts";
import { readU32 } from "../btf/integer.ts";
import { KtstrError } from "../errors.ts";
import type { BpfState, MapInfo } from "../state.ts";
import { printable } from "../text.ts";
import { MapType } from "../uapi/names.ts";
import { mapHolders } from "./map-holders.ts";
import { type ProgPlaces, progPlaces } from "./prog-places.ts";

type State = BpfState & Partial<AttachmentAccessor & PinAccessor>;
type FullState = BpfState & AttachmentAccessor & PinAccessor;

/**
 * Returns at most one sentence for maps and one for programs; none if some holders cannot be read. `state` must hold all maps
 * open. `known`: attachments of programs, if already read.
 */
export function findOrphans(state: State, known?: ProgPlaces): string[] {
  if (!hasPinsAndNetworks(state)) return [];
  try {
    const processes = state.holders();
    if (!processes.ok || processes.value.hidden !== undefined) return [];
    const { holders, problems } = mapHolders(state);
    if (problems.length > 0) return [];
    const maps = state.maps().filter((map) => !holders.has(map.id) && !isRegistered(state, map));
    return [
      ...sentence("map", maps),
      ...sentence("program", programsWithoutHolder(state, processes.value.prog, known)),
    ];
  } catch (error) {
    if (error instanceof KtstrError) return [];
    throw error;
  }
}

/** Whether the state can list pins and networks. The states of some tests cannot. */
export function hasPinsAndNetworks(state: State): state is FullState {
  return state.pinnedPaths !== undefined && state.networks !== undefined;
}

function programsWithoutHolder(
  state: FullState,
  descriptors: ReadonlyMap<number, unknown>,
  known: ProgPlaces | undefined,
): { readonly id: number; readonly name: Uint8Array }[] {
  const { places, problems } = known ?? progPlaces(state);
  if (problems.length > 0) return [];
  const held = new Set([...descriptors.keys(), ...places.keys(), ...state.pinnedPaths("program").keys()]);
  for (const { progId, details } of state.links()) {
    held.add(progId);
    // The link of an extension holds the program that it extends.
    if (typeof details["target_obj_id"] === "number") held.add(details["target_obj_id"]);
  }
  for (const map of state.maps()) if (HAVE_PROGS.includes(map.type)) addDeviceProgs(state, map, held);
  return state
    .progs()
    .filter(({ id }) => !held.has(id))
    .map(({ id, fullName }) => ({ id, name: fullName }));
}

/** `enum bpf_struct_ops_state`: the operations are registered, so the kernel keeps the map. */
const BPF_STRUCT_OPS_STATE_INUSE = 1;
/** Offset of the state in `struct bpf_struct_ops_common_value`, after a reference count of 4 bytes. */
const STATE_AT = 4;

function isRegistered(state: BpfState, map: MapInfo): boolean {
  if (map.type !== MapType.struct_ops) return false;
  const read = state.readValue(map, STATE_AT, 4);
  return !read.ok || readU32(read.value, 0) === BPF_STRUCT_OPS_STATE_INUSE;
}

/** Types of maps whose values may have a program. */
const HAVE_PROGS: readonly number[] = [MapType.devmap, MapType.devmap_hash, MapType.cpumap];
/** Offset of the program's id in `struct bpf_devmap_val` and `struct bpf_cpumap_val`. */
const PROG_AT = 4;

function addDeviceProgs(state: BpfState, map: MapInfo, held: Set<number>): void {
  if (map.valueSize < PROG_AT + 4) return;
  const contents = state.contents(map);
  if (contents.kind !== "entries") return;
  using cursor = contents.cursor;
  while (cursor.next())
    if (cursor.valueMissing === "") held.add(readU32(cursor.valueBytes, cursor.valueOffset + PROG_AT));
}

/** Limit on named objects. */
const MAX_NAMED = 20;

function sentence(
  what: string,
  lost: readonly { readonly id: number; readonly name: Uint8Array }[],
): string[] {
  if (lost.length === 0) return [];
  const names = lost.slice(0, MAX_NAMED).map(({ id, name }) => `${id} (${printable(name)})`);
  const list = names.join(", ") + (lost.length > MAX_NAMED ? ", ..." : "");
  return [
    lost.length === 1
      ? `no holder found for ${what} ${list}`
      : `no holder found for ${lost.length} ${what}s: ${list}`,
  ];
}
