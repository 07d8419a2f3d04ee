/** Holders of maps: every reference that keeps a map alive, except the kernel's internal ones. */

import type { PinAccessor } from "../attachments.ts";
import { readU32 } from "../btf/integer.ts";
import type { BpfState, Holder, MapInfo } from "../state.ts";
import { printable, utf8 } from "../text.ts";
import type { Json } from "./json.ts";
import { idMeaning } from "./words.ts";

export interface MapHolders {
  readonly processes: readonly Holder[];
  readonly pins: readonly Uint8Array[];
  readonly progIds: readonly number[];
  readonly linkIds: readonly number[];
  /** Maps of maps that have this map as an element. */
  readonly outerMapIds: readonly number[];
}

/**
 * Returns holders by the map's id; maps without a known holder are absent. `problems`: sentences about data that could not be read.
 * Reads the elements of maps of maps, which `state` must hold open.
 */
export function mapHolders(state: BpfState & PinAccessor): {
  readonly holders: ReadonlyMap<number, MapHolders>;
  readonly problems: readonly string[];
} {
  type Growing = { -readonly [Key in keyof MapHolders]: MapHolders[Key][number][] };
  const holders = new Map<number, Growing>();
  const problems: string[] = [];
  const of = (id: number): Growing => {
    const known = holders.get(id) ?? { processes: [], pins: [], progIds: [], linkIds: [], outerMapIds: [] };
    holders.set(id, known);
    return known;
  };
  const processes = state.holders();
  if (processes.ok) for (const [id, list] of processes.value.map) of(id).processes.push(...list);
  else problems.push(`processes: ${processes.why.detail}`);
  for (const [id, paths] of state.pinnedPaths("map")) of(id).pins.push(...paths);
  for (const prog of state.progs()) for (const id of prog.mapIds) of(id).progIds.push(prog.id);
  for (const { id, details } of state.links())
    if (typeof details["map_id"] === "number") of(details["map_id"]).linkIds.push(id);
  for (const map of state.maps()) {
    if (!isMapOfMaps(map)) continue;
    const contents = state.contents(map);
    if (contents.kind !== "entries") {
      if (contents.kind === "unreadable") problems.push(`map ${map.id}: ${contents.why.detail}`);
      continue;
    }
    using cursor = contents.cursor;
    while (cursor.next()) {
      if (cursor.valueMissing !== "") continue;
      const inner = of(readU32(cursor.valueBytes, cursor.valueOffset));
      if (inner.outerMapIds.at(-1) !== map.id) inner.outerMapIds.push(map.id);
    }
  }
  return { holders, problems };
}

export function mapHoldersJson(held: MapHolders | undefined): { readonly [key: string]: Json } {
  return {
    holders: {
      pids: (held?.processes ?? []).map(({ pid, comm }) => ({ pid, comm: utf8(comm) })),
      pinned: (held?.pins ?? []).map(utf8),
      prog_ids: held?.progIds ?? [],
      link_ids: held?.linkIds ?? [],
      outer_map_ids: held?.outerMapIds ?? [],
    },
  };
}

/** Lines printed below a map. */
export function mapHoldersText(
  held: MapHolders | undefined,
  state: Pick<BpfState, "progById" | "mapById">,
): string {
  if (held === undefined) return "\n\tno holder found";
  const named = (what: string, id: number, name: Uint8Array | undefined): string =>
    `${what} ${id}${name === undefined || name.length === 0 ? "" : ` (${printable(name)})`}`;
  const parts = [
    ...held.processes.map(({ pid, comm }) => `process ${pid} (${printable(comm)})`),
    ...held.pins.map((path) => `pin ${printable(path)}`),
    ...held.progIds.map((id) => named("program", id, state.progById(id)?.fullName)),
    ...held.linkIds.map((id) => `link ${id}`),
    ...held.outerMapIds.map((id) => named("map", id, state.mapById(id)?.name)),
  ];
  return parts.map((part, index) => `\n\t${index === 0 ? "held by " : "        "}${part}`).join("");
}

/** Whether a map's elements are maps. */
export const isMapOfMaps = (map: MapInfo): boolean => idMeaning(map) === "inner_map_id";
