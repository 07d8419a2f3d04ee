/** The member `pinned` of listed objects, for `--bpffs`. */
import type { PinnedKind } from "../attachments.ts";
import type { Json } from "../report/json.ts";
import { printable, utf8 } from "../text.ts";
import type { Context } from "./command.ts";
import type { MapSource } from "./source.ts";

/** The fields that `--bpffs` adds to an object, by id; empty without the option. */
export interface Pins {
  readonly json: (id: number) => { readonly [key: string]: Json };
  readonly text: (id: number) => string;
}

/** `isWanted` adds the pins without the option. Throws `KtstrError` if the mounts cannot be read. */
export function pinsFor(
  { options }: Context,
  { state }: Pick<MapSource, "state">,
  kind: PinnedKind,
  isWanted = false,
): Pins {
  if (!isWanted && options.own["bpffs"] !== true) return { json: () => ({}), text: () => "" };
  const paths = state.pinnedPaths(kind);
  return {
    json: (id) => ({ pinned: (paths.get(id) ?? []).map(utf8) }),
    text: (id) => (paths.get(id) ?? []).map((path) => `\n\tpinned ${printable(path)}`).join(""),
  };
}
