/** What the commands that read a map's contents share: which map is meant, and which others it takes. */
import { KtstrError, UsageError } from "../errors.ts";
import { isSection } from "../report/globals.ts";
import type { MapInfo } from "../state.ts";
import { MapType } from "../uapi/names.ts";
import { MAP_KINDS, selectMaps } from "./map-select.ts";
import { matches, parseSelector, type Selector } from "./select.ts";
import type { Source } from "./source.ts";

/** Takes `id N`, `name NAME` or `pinned PATH` off the front of the words. Throws `UsageError`. */
export function takeMapSelector(words: string[], what: string): Selector {
  const selector = parseSelector(words.splice(0, 2), MAP_KINDS, "map");
  if (selector.kind === "all") throw new UsageError(`${what}: which map? id N, name NAME or pinned PATH`);
  return selector;
}

/** Maps to hold open: the ones that are meant, and what their pointers and types may lead to. */
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
