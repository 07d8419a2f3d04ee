/** Which maps a command means. */
import { UsageError } from "../errors.ts";
import type { MapInfo } from "../state.ts";
import { choose, type Selector, type SelectorKind } from "./select.ts";
import type { MapSource } from "./source.ts";

export const MAP_KINDS: readonly SelectorKind[] = ["id", "name", "pinned"];

/** At least one. Throws `KtstrError`, `UsageError`. */
export async function selectMaps(source: MapSource, selector: Selector): Promise<readonly MapInfo[]> {
  if (selector.kind !== "pinned") return choose(source.state.maps(), selector, "map");
  if (source.live === undefined) throw new UsageError("pinned paths exist only on a running kernel");
  const { openPinned } = await import("../live/pinned.ts");
  return [source.live.adopt(openPinned(selector.path, "map"), selector.path)];
}
