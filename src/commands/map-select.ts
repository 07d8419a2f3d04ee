/** Which maps a command means. */
import { KtstrError, UsageError } from "../errors.ts";
import { isSection } from "../report/globals.ts";
import type { MapInfo } from "../state.ts";
import { MapType } from "../uapi/names.ts";
import { choose, matches, parseSelector, type Selector, type SelectorKind } from "./select.ts";
import type { Source } from "./source.ts";

export const MAP_KINDS: readonly SelectorKind[] = ["id", "name", "pinned"];

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

/** At least one. Throws `KtstrError`, `UsageError`. */
export async function selectMaps(source: Source, selector: Selector): Promise<readonly MapInfo[]> {
  if (selector.kind !== "pinned") return choose(source.state.maps(), selector, "map");
  if (source.live === undefined) throw new UsageError("pinned paths exist only on a running kernel");
  const { openPinned } = await import("../live/pinned.ts");
  return [source.live.adopt(openPinned(selector.path, "map"), selector.path)];
}

export async function selectOneMap(source: Source, selector: Selector): Promise<MapInfo> {
  const maps = await selectMaps(source, selector);
  const [first] = maps;
  if (first !== undefined && maps.length === 1) return first;
  throw new KtstrError(`several maps match: ids ${maps.map(({ id }) => id).join(", ")}`, {
    hint: "choose one by `id N`",
  });
}
