/** Maps and programs that are alive and held by nobody that can be found: what was forgotten, or is held where nobody looks. */
import type { AttachmentAccessor, PinAccessor } from "../attachments.ts";
import { readU32 } from "../btf/integer.ts";
import { KtstrError } from "../errors.ts";
import type { BpfState, MapInfo } from "../state.ts";
import { printable } from "../text.ts";
import { MapType } from "../uapi/names.ts";
import { mapHolders } from "./map-holders.ts";
import { type ProgPlaces, progPlaces } from "./prog-places.ts";

type State = BpfState & Partial<AttachmentAccessor & PinAccessor>;
type Asked = BpfState & AttachmentAccessor & PinAccessor;

/**
 * A sentence for maps and one for programs. None where not all holders can be asked: then nobody knows. `state` must hold
 * all maps open. `known`: what runs programs, where it was asked already.
 */
export function findOrphans(state: State, known?: ProgPlaces): string[] {
  if (!canBeAsked(state)) return [];
  try {
    const processes = state.holders();
    if (!processes.ok || processes.value.hidden !== undefined) return [];
    const { holders, untold } = mapHolders(state);
    if (untold.length > 0) return [];
    const maps = state.maps().filter((map) => !holders.has(map.id) && !isRegistered(state, map));
    return [
      ...sentence("map", maps),
      ...sentence("program", lostPrograms(state, processes.value.prog, known)),
    ];
  } catch (error) {
    if (error instanceof KtstrError) return [];
    throw error;
  }
}

/** A state of a test's may lack what only whole data paths answer. */
export function canBeAsked(state: State): state is Asked {
  return state.pinnedPaths !== undefined && state.networks !== undefined;
}

function lostPrograms(
  state: Asked,
  descriptors: ReadonlyMap<number, unknown>,
  known: ProgPlaces | undefined,
): { readonly id: number; readonly name: Uint8Array }[] {
  const { places, untold } = known ?? progPlaces(state);
  if (untold.length > 0) return [];
  const held = new Set([...descriptors.keys(), ...places.keys(), ...state.pinnedPaths("program").keys()]);
  for (const { progId, details } of state.links()) {
    held.add(progId);
    // An extension's link holds the program that it extends.
    if (typeof details["target_obj_id"] === "number") held.add(details["target_obj_id"]);
  }
  for (const map of state.maps()) if (HAVE_PROGS.includes(map.type)) addDeviceProgs(state, map, held);
  return state
    .progs()
    .filter(({ id }) => !held.has(id))
    .map(({ id, fullName }) => ({ id, name: fullName }));
}

/** `enum bpf_struct_ops_state`: the kernel calls the map's programs, and keeps the map. */
const BPF_STRUCT_OPS_STATE_INUSE = 1;
/** `struct bpf_struct_ops_common_value`: the state follows a reference count of 4 bytes. */
const STATE_AT = 4;

function isRegistered(state: BpfState, map: MapInfo): boolean {
  if (map.type !== MapType.struct_ops) return false;
  const read = state.readValue(map, STATE_AT, 4);
  return !read.ok || readU32(read.value, 0) === BPF_STRUCT_OPS_STATE_INUSE;
}

/** Their values may have a program besides a device or a queue's length. */
const HAVE_PROGS: readonly number[] = [MapType.devmap, MapType.devmap_hash, MapType.cpumap];
/** `struct bpf_devmap_val`, `struct bpf_cpumap_val`: the program's id follows 4 bytes. */
const PROG_AT = 4;

function addDeviceProgs(state: BpfState, map: MapInfo, held: Set<number>): void {
  if (map.valueSize < PROG_AT + 4) return;
  const contents = state.contents(map);
  if (contents.kind !== "entries") return;
  using cursor = contents.cursor;
  while (cursor.next())
    if (cursor.valueMissing === "") held.add(readU32(cursor.valueBytes, cursor.valueOffset + PROG_AT));
}

/** So many are named. */
const NAMED = 20;

function sentence(
  what: string,
  lost: readonly { readonly id: number; readonly name: Uint8Array }[],
): string[] {
  if (lost.length === 0) return [];
  const names = lost.slice(0, NAMED).map(({ id, name }) => `${id} (${printable(name)})`);
  const list = names.join(", ") + (lost.length > NAMED ? ", ..." : "");
  return [
    lost.length === 1
      ? `${what} ${list} is held by nobody that could be found`
      : `${lost.length} ${what}s are held by nobody that could be found: ${list}`,
  ];
}
