import { UsageError } from "../errors.ts";
import type { PinnedKind } from "../live/pinned.ts";
import type { Json } from "../report/json.ts";
import { printable, utf8 } from "../text.ts";
import type { Context } from "./command.ts";
import type { MapSource } from "./source.ts";

/** What `--bpffs` adds to an object, by its id; nothing where it was not given. */
export interface Pins {
  readonly json: (id: number) => { readonly [key: string]: Json };
  readonly text: (id: number) => string;
}

/** Throws `UsageError` where a frozen machine is read: paths are the running kernel's. */
export async function pinsFor(
  { options }: Context,
  { live }: Pick<MapSource, "live">,
  kind: PinnedKind,
): Promise<Pins> {
  if (options.own["bpffs"] !== true) return { json: () => ({}), text: () => "" };
  if (live === undefined) throw new UsageError("--bpffs: pinned paths exist only on a running kernel");
  const { pinnedPaths } = await import("../live/bpffs.ts");
  const paths = pinnedPaths(kind);
  return {
    json: (id) => ({ pinned: (paths.get(id) ?? []).map(utf8) }),
    text: (id) => (paths.get(id) ?? []).map((path) => `\n\tpinned ${printable(path)}`).join(""),
  };
}
