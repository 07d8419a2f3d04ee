/** Phrases that several reports use. */
import type { MapContents, MapInfo, WalkEnd } from "../state.ts";
import { MapType, nameOr } from "../uapi/names.ts";

/** Returns a type's name, or "type N". */
export function typeText(names: readonly string[], type: number): string {
  const name = nameOr(names, type);
  return typeof name === "string" ? name : `type ${name}`;
}

/** Returns the reason why pages are missing; "" if none are. */
export function arenaIncomplete({ arena }: Extract<MapContents, { kind: "arena" }>): string {
  if (arena.missingPages) return `${arena.missingPages} more pages are allocated, but not in the image`;
  if (arena.truncated) return `only the first ${arena.pages.length} pages were read`;
  return arena.spanCapped ? "only the first 4 GiB of the arena were read" : "";
}

/** Returns the reason why a walk is not complete; "" if it is. */
export function incompleteReason(end: WalkEnd): string {
  if (end.stopped !== "") return end.stopped;
  if (end.complete) return "";
  return [...end.skipped].map(([reason, count]) => `${count} skipped (${reason})`).join(", ");
}

export function hexAddress(address: bigint): string {
  return `0x${address.toString(16)}`;
}

/** Returns the meaning of the map's values, if they are ids of maps or programs. */
export function idMeaning(map: MapInfo): "inner_map_id" | "prog_id" | undefined {
  if (map.type === MapType.array_of_maps || map.type === MapType.hash_of_maps) return "inner_map_id";
  return map.type === MapType.prog_array ? "prog_id" : undefined;
}
