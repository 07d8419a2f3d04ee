/** Which maps a command means. */
import { SyscallError, UsageError } from "../errors.ts";
import type { LiveState } from "../live/live.ts";
import type { MapInfo } from "../state.ts";
import { ENOENT } from "../uapi/errno.ts";
import { choose, type Selector, type SelectorKind } from "./select.ts";
import type { MapSource } from "./source.ts";

export const MAP_KINDS: readonly SelectorKind[] = ["id", "name", "pinned"];

/** At least one. Throws `KtstrError`, `UsageError`. */
export async function selectMaps(source: MapSource, selector: Selector): Promise<readonly MapInfo[]> {
  const { live } = source;
  if (selector.kind === "id" && live !== undefined) {
    const map = oneById(live, selector.id);
    if (map !== undefined) return [map];
  }
  if (selector.kind !== "pinned") return choose(source.state.maps(), selector, "map");
  if (live === undefined) throw new UsageError("pinned paths exist only on a running kernel");
  const { openPinned } = await import("../live/pinned.ts");
  return [live.adopt(openPinned(selector.path, "map"), selector.path)];
}

/** Opened by its id, as the other maps are nobody's question. What is not there is for the listing to say. */
function oneById(live: Pick<LiveState, "map">, id: number): MapInfo | undefined {
  try {
    return live.map(id);
  } catch (error) {
    if (error instanceof SyscallError && error.errno === ENOENT) return undefined;
    throw error;
  }
}
