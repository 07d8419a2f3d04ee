/** Selects the maps of a command. */
import type { MapInfo } from "../state.ts";
import { choose, type Selector, type SelectorKind } from "./select.ts";
import { onlyLiveError, openOne } from "./select-object.ts";
import type { MapSource } from "./source.ts";

export const MAP_KINDS: readonly SelectorKind[] = ["id", "name", "pinned"];

/** Returns at least one map. Throws `KtstrError` or `UsageError`. */
export async function selectMaps(source: MapSource, selector: Selector): Promise<readonly MapInfo[]> {
  const { live } = source;
  if (selector.kind === "id" && live !== undefined)
    return [openOne("map", selector.id, () => live.map(selector.id))];
  if (selector.kind !== "pinned") return choose(source.state.maps(), selector, "map");
  if (live === undefined) throw onlyLiveError();
  const { openPinned } = await import("../live/pinned.ts");
  return [live.adopt(openPinned(selector.path, "map"), selector.path)];
}
