/** Selection of maps for the commands that read contents: the selected map, and the maps that it needs. */
import { KtstrError, UsageError } from "../errors.ts";
import { isSection } from "../report/globals.ts";
import type { MapInfo } from "../state.ts";
import { MapType } from "../uapi/names.ts";
import { MAP_KINDS, selectMaps } from "./map-select.ts";
import { matches, parseSelector, type Selector } from "./select.ts";
import type { Source } from "./source.ts";

/** Removes `id N`, `name NAME` or `pinned PATH` from the front of the words. Throws `UsageError`. */
export function takeMapSelector(words: string[], what: string): Selector {
  const selector = parseSelector(words.splice(0, 2), MAP_KINDS, "map");
  if (selector.kind === "all") throw new UsageError(`${what}: which map? id N, name NAME or pinned PATH`);
  return selector;
}

/** Returns a filter for the maps to hold open: the selected ones and those that their pointers and types need. */
export function neededFor(selector: Selector): (map: MapInfo) => boolean {
  return (map) => matches(selector, map) || map.type === MapType.arena || isSection(map);
}

export async function selectOneMap(source: Source, selector: Selector): Promise<MapInfo> {
  const maps = await selectMaps(source, selector);
  const [first] = maps;
  if (first !== undefined && maps.length === 1) return first;
  throw new KtstrError(`several maps match: ids ${maps.map(({ id }) => id).join(", ")}`, {
    hint: "choose one by `id N`",
  });
}
