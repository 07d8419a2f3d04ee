/** Selects the programs, links and BTF objects of a command. On the running kernel a single object is opened directly. */

import type { PinnedKind } from "../attachments.ts";
import { SyscallError, UsageError } from "../errors.ts";
import type { Fd } from "../ffi.ts";
import type { BtfInfo, LinkInfo, ProgInfo } from "../state.ts";
import { ENOENT } from "../uapi/errno.ts";
import { choose, noSuchObject, type Selectable, type Selector } from "./select.ts";
import type { Source } from "./source.ts";

/** Returns at least one. Throws `KtstrError` or `UsageError`. */
export function selectProgs(source: Source, selector: Selector): Promise<readonly ProgInfo[]> {
  const { live, state } = source;
  return select(
    source,
    selector,
    "prog",
    "program",
    () => state.progs(),
    live && ((which, path) => live.prog(which, path)),
  );
}

export function selectLinks(source: Source, selector: Selector): Promise<readonly LinkInfo[]> {
  const { live, state } = source;
  return select(
    source,
    selector,
    "link",
    "link",
    () => state.links(),
    live && ((which, path) => live.link(which, path)),
  );
}

/** BTF objects cannot be pinned. */
export async function selectBtfs({ live, state }: Source, selector: Selector): Promise<readonly BtfInfo[]> {
  if (selector.kind === "id" && live !== undefined)
    return [openOne("btf", selector.id, () => live.btfInfo(selector.id))];
  return choose(state.btfs(), selector, "btf");
}

async function select<T extends Selectable>(
  { live }: Source,
  selector: Selector,
  noun: string,
  kind: PinnedKind,
  all: () => readonly T[],
  one: ((which: number | Fd, path?: string) => T) | undefined,
): Promise<readonly T[]> {
  if (selector.kind === "pinned") {
    if (live === undefined || one === undefined) throw onlyLiveError();
    const { openPinned } = await import("../live/pinned.ts");
    return [one(openPinned(selector.path, kind), selector.path)];
  }
  if (selector.kind === "id" && one !== undefined)
    return [openOne(noun, selector.id, () => one(selector.id))];
  return choose(all(), selector, noun);
}

export function onlyLiveError(): UsageError {
  return new UsageError("pinned paths exist only on a running kernel");
}

/** Opens one object of the running kernel by id. Throws `KtstrError` if there is none. */
export function openOne<T>(noun: string, id: number, open: () => T): T {
  try {
    return open();
  } catch (error) {
    if (error instanceof SyscallError && error.errno === ENOENT) throw noSuchObject(noun, `id ${id}`);
    throw error;
  }
}
