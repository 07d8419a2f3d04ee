import type { Btf } from "../btf/btf.ts";
import type { Fd } from "../ffi.ts";
import { type ArenaPages, type MapInfo, type Read, unreadable } from "../state.ts";
import type { Sys } from "./sys.ts";

export function readArena(_sys: Sys, _fd: Fd, _map: MapInfo, _btf: () => Btf): Read<ArenaPages> {
  return unreadable("unsupported", "not yet");
}
