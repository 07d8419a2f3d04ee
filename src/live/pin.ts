/** Finds a map by name and holds it open, so that it outlives the scheduler that owns it. */
import { KtstrError } from "../errors.ts";
import type { Fd } from "../ffi.ts";
import type { MapInfo } from "../state.ts";
import { printable } from "../text.ts";
import { ENOENT } from "../uapi/errno.ts";
import { BPF_OBJ_NAME_LEN } from "../uapi/names.ts";
import { readMapInfo } from "./maps.ts";
import { forEachObject, MAPS, openId } from "./objects.ts";
import { bpfError, realSys, type Sys } from "./sys.ts";

/** A map that stays alive until `fd` is closed, and the ids of the other maps with the same name. */
export interface PinnedMap extends Disposable {
  readonly info: MapInfo;
  readonly fd: Fd;
  readonly alsoNamed: readonly number[];
}

/** No map has the name. */
export class NoSuchMapError extends KtstrError {
  readonly seen: readonly MapInfo[];

  constructor(name: string, seen: readonly MapInfo[], unseen: readonly string[]) {
    const names = [...new Set(seen.map((map) => printable(map.name)))].filter((text) => text !== "");
    const listed = names.length === 0 ? "" : `: ${names.join(", ")}`;
    const count = `${seen.length} map${seen.length === 1 ? " was" : "s were"} seen`;
    const others = unseen.length === 0 ? "" : `; not seen: ${unseen.join("; ")}`;
    const usable = BPF_OBJ_NAME_LEN - 1;
    super(`no map is named ${JSON.stringify(name)}; ${count}${listed}${others}`, {
      hint:
        "usual causes: its program is not loaded yet; " +
        `the name is longer than the ${usable} usable characters of BPF_OBJ_NAME_LEN, so libbpf shortened it; ` +
        "or it was freed already",
    });
    this.seen = seen;
  }
}

/** The map was freed after it was listed and before it was opened. */
export class MapFreedError extends KtstrError {
  constructor(name: string, id: number) {
    super(`map ${id} (${JSON.stringify(name)}) was freed between the look-up and the open`, {
      hint: "its last reference was just dropped; try again, or pin it earlier",
    });
  }
}

/**
 * Holds the map with the lowest id whose name is equal byte by byte. The caller owns the descriptor. Throws
 * `NoSuchMapError`, `MapFreedError` or `SyscallError`.
 */
export function pinByName(name: string, sys: Sys = realSys): PinnedMap {
  const wanted = Buffer.from(name);
  const seen: MapInfo[] = [];
  const unseen: string[] = [];
  const warn = (sentence: string): void => void unseen.push(sentence);
  forEachObject(sys, MAPS, warn, (id, fd) => {
    using owned = fd;
    seen.push(readMapInfo(sys, owned, `map ${id}`));
  });
  // "" matches no map, although many maps have no name.
  const [first, ...others] = seen.filter((map) => wanted.length > 0 && wanted.equals(map.name));
  if (first === undefined) throw new NoSuchMapError(name, seen, unseen);
  const fd = openId(sys, MAPS, first.id);
  if (fd === -ENOENT) throw new MapFreedError(name, first.id);
  if (typeof fd === "number") throw bpfError(MAPS.fdById, `map ${first.id}`, fd);
  return {
    info: checkName(sys, fd, name, first.id),
    fd,
    alsoNamed: others.map((map) => map.id),
    [Symbol.dispose]: () => fd[Symbol.dispose](),
  };
}

/** Ids can be reused, so the name of the opened map is checked again. */
function checkName(sys: Sys, fd: Fd, name: string, id: number): MapInfo {
  try {
    const info = readMapInfo(sys, fd, `map ${id}`);
    if (Buffer.from(name).equals(info.name)) return info;
    throw new MapFreedError(name, id);
  } catch (error) {
    fd[Symbol.dispose]();
    throw error;
  }
}
