/** What a map of the guest holds, whatever its kind. */
import { type EntryCursor, found, type MapContents, type Read, unreadable } from "../../state.ts";
import { MapType } from "../../uapi/names.ts";
import type { GuestKernel } from "../kernel.ts";
import { arenaPages } from "./arena.ts";
import { arrayEntries, percpuArrayEntries } from "./array.ts";
import { hashEntries as openHash } from "./hash.ts";
import { structOpsEntries } from "./struct-ops.ts";
import { attempt, type GuestMap } from "./walk.ts";

type Opener = (kernel: GuestKernel, map: GuestMap) => EntryCursor;

/** Kinds with keys. */
const ENTRIES: ReadonlyMap<number, Opener> = new Map<number, Opener>([
  [MapType.array, arrayEntries],
  [MapType.percpu_array, percpuArrayEntries],
  [MapType.hash, openHash],
  [MapType.lru_hash, openHash],
  [MapType.percpu_hash, openHash],
  [MapType.lru_percpu_hash, openHash],
  [MapType.hash_of_maps, openHash],
  [MapType.struct_ops, structOpsEntries],
]);

/** Everything: what a dump prints. */
export function readContents(kernel: GuestKernel, map: GuestMap): MapContents {
  if (map.info.type === MapType.arena) {
    const pages = arenaPages(kernel, map);
    return pages.ok ? { kind: "arena", arena: pages.value } : { kind: "unreadable", why: pages.why };
  }
  const cursor = openEntries(kernel, map);
  return cursor.ok ? { kind: "entries", cursor: cursor.value } : { kind: "unreadable", why: cursor.why };
}

function openEntries(kernel: GuestKernel, map: GuestMap): Read<EntryCursor> {
  const open = ENTRIES.get(map.info.type);
  if (open === undefined)
    return unreadable("unsupported", `maps of type ${map.info.type} are newer than this program`);
  return attempt(() => found(open(kernel, map)));
}
