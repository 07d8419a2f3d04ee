/** Attachments of programs: links, cgroups, perf events, network devices, struct_ops maps and prog arrays. */
import type { AttachmentAccessor } from "../attachments.ts";
import { readU32 } from "../btf/integer.ts";
import { shapeOf } from "../btf/shape.ts";
import { KtstrError } from "../errors.ts";
import type { BpfState, MapInfo, ProgInfo } from "../state.ts";
import { printable, utf8 } from "../text.ts";
import { ATTACH_TYPES, LINK_TYPES, MAP_TYPES, MapType, nameOr } from "../uapi/names.ts";
import type { Json } from "./json.ts";
import { linkPlaces } from "./link-place.ts";
import { unlinkedPlaces } from "./net.ts";
import { perfJson, perfText } from "./perf.ts";
import { typesOf, withFallback } from "./typed.ts";
import { idMeaning } from "./words.ts";

/** One attachment of a program. */
export interface ProgPlace {
  readonly json: { readonly [key: string]: Json };
  /** "by link 12, at tracepoint sched_switch". */
  readonly text: string;
}

export interface ProgPlaces {
  /** By the program's id; programs without an attachment are absent. */
  readonly places: ReadonlyMap<number, readonly ProgPlace[]>;
  /** Sentences about data that could not be read. */
  readonly problems: readonly string[];
}

/** Whether a map's elements may be programs. */
export const isMapOfProgs = (map: MapInfo): boolean =>
  map.type === MapType.struct_ops || idMeaning(map) === "prog_id";

/** Finds the attachments of all programs. `state` must hold maps open for which `isMapOfProgs` is true. */
export function progPlaces(state: BpfState & AttachmentAccessor): ProgPlaces {
  const places = new Map<number, ProgPlace[]>();
  const problems: string[] = [];
  const add = (progId: number, place: ProgPlace): void => {
    const own = places.get(progId);
    if (own === undefined) places.set(progId, [place]);
    else own.push(place);
  };
  const attempt = (read: () => void): void => {
    try {
      read();
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
      problems.push(error.message);
    }
  };
  const placeOf = linkPlaces(state);
  for (const link of state.links()) {
    const where = placeOf(link);
    const type = nameOr(LINK_TYPES, link.type);
    if (link.progId !== 0)
      add(link.progId, {
        json: { by: "link", id: link.id, type, place: where },
        text: `by link ${link.id} (${type})${where === "" ? "" : ` ${where}`}`,
      });
  }
  attempt(() => {
    for (const { path, progs } of state.cgroups({ path: undefined, isTree: true, isEffective: false }))
      for (const { attachType, progId } of progs) {
        const type = nameOr(ATTACH_TYPES, attachType);
        add(progId, {
          json: { by: "cgroup", path: utf8(path), attach_type: type },
          text: `by cgroup ${printable(path)}, ${type}`,
        });
      }
  });
  attempt(() => {
    for (const one of state.perfAttachments())
      add(one.progId, {
        json: { by: "perf", ...(perfJson(one) as { readonly [key: string]: Json }), prog_id: undefined },
        text: `by ${perfText(one).replace(/^pid (\d+) {2}fd (\d+): prog_id \d+ {2}/, "descriptor $2 of process $1: ")}`,
      });
  });
  attempt(() => {
    for (const network of state.networks())
      for (const { progId, devname, kind } of unlinkedPlaces(network, state.links()))
        add(progId, {
          json: { by: "interface", devname: utf8(devname), kind, netns_ino: network.netnsIno },
          text: `by interface ${printable(devname)}, ${kind}`,
        });
  });
  for (const map of state.maps()) {
    if (map.type === MapType.struct_ops) addCallbacks(state, map, add, problems);
    else if (idMeaning(map) === "prog_id") addElements(state, map, add, problems);
  }
  return { places, problems };
}

/** Keys added to bpftool's: `attached`, and the program's maps with their names. */
export function progPlacesJson(
  state: BpfState,
  prog: ProgInfo,
  { places }: ProgPlaces,
): { readonly [key: string]: Json } {
  return {
    attached: (places.get(prog.id) ?? []).map(({ json }) => json),
    maps: prog.mapIds.map((id) => {
      const map = state.mapById(id);
      return { id, type: map && nameOr(MAP_TYPES, map.type), name: map && utf8(map.name) };
    }),
  };
}

/** Lines printed below a program. */
export function progPlacesText(state: BpfState, prog: ProgInfo, { places }: ProgPlaces): string {
  const all = (places.get(prog.id) ?? []).map(({ text }) => `\n\trun ${text}`);
  const maps = prog.mapIds.map((id) => {
    const map = state.mapById(id);
    return `\n\tuses map ${id}${map === undefined ? "" : ` (${printable(map.name)}), ${nameOr(MAP_TYPES, map.type)}`}`;
  });
  return (all.length === 0 ? "\n\tno attachment found" : all.join("")) + maps.join("");
}

type Add = (progId: number, place: ProgPlace) => void;

const titleOf = (map: MapInfo): string => `map ${map.id} (${printable(map.name)})`;

/** Adds the programs of a struct_ops value: members of its `data` hold program ids. */
function addCallbacks(state: BpfState, map: MapInfo, add: Add, problems: string[]): void {
  const types = typesOf(state, map);
  const read = state.readValue(map, 0, map.valueSize);
  if (!read.ok) problems.push(`map ${map.id}: ${read.why.detail}`);
  else if (types === undefined) problems.push(`map ${map.id}: its types cannot be read`);
  if (types === undefined || !read.ok) return;
  const { btf, id } = types.value;
  const bytes = read.value;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  withFallback(undefined, () => {
    const outer = shapeOf(btf, id);
    const data = outer.kind === "struct" ? outer.members.find(({ name }) => name === "data") : undefined;
    if (data?.shape.kind !== "struct") return;
    for (const { name, shape, bitOffset } of data.shape.members) {
      const at = (data.bitOffset + bitOffset) / 8;
      if (shape.kind !== "pointer" || !shape.toFunction || at + 8 > bytes.length) continue;
      const progId = view.getUint32(at, true);
      if (progId !== 0 && view.getUint32(at + 4, true) === 0)
        add(progId, {
          json: { by: "struct_ops", map_id: map.id, member: name },
          text: `by struct_ops ${titleOf(map)}, ${name}`,
        });
    }
  });
}

function addElements(state: BpfState, map: MapInfo, add: Add, problems: string[]): void {
  const contents = state.contents(map);
  if (contents.kind === "unreadable") problems.push(`map ${map.id}: ${contents.why.detail}`);
  if (contents.kind !== "entries") return;
  using cursor = contents.cursor;
  while (cursor.next()) {
    if (cursor.valueMissing !== "") continue;
    const key = readU32(cursor.keyBytes, cursor.keyOffset);
    add(readU32(cursor.valueBytes, cursor.valueOffset), {
      json: { by: "prog_array", map_id: map.id, key },
      text: `by prog_array ${titleOf(map)}, element ${key}`,
    });
  }
}
