/** Selects how a map's values are printed: types, names of addresses, and followed pointers. */
import { hasPointers } from "../btf/pointers.ts";
import type { TextOptions } from "../btf/text.ts";
import type { BpfState, MapInfo } from "../state.ts";
import { printable } from "../text.ts";
import { MapType } from "../uapi/names.ts";
import type { ArenaSpace } from "./arena-space.ts";
import type { DumpStyle } from "./dump.ts";
import type { Follower } from "./follow.ts";
import { typesOf, withFallback } from "./typed.ts";

export interface StyleOptions {
  /** Number of pointers to follow; 0: none. */
  readonly follow: number;
  /** Print C types in front of global variables. */
  readonly declarations: boolean;
}

/** Reads only the data of the state that the map's types need. */
export function styleFor(state: BpfState, map: MapInfo, { follow, declarations }: StyleOptions): DumpStyle {
  if (map.type === MapType.arena) return arenaStyle(state, map, follow);
  const types = typesOf(state, map);
  const withTypes: TextOptions = { types: declarations };
  if (types === undefined) return {};
  const { btf, id } = types.value;
  if (!withFallback(false, () => hasPointers(btf, id))) return { types, text: withTypes };
  const isOps = map.type === MapType.struct_ops;
  // The value of a struct_ops map is a kernel struct without arena pointers, so programs are not searched for arenas.
  const arenas = isOps ? [] : arenasOf(state, map);
  const follower = followerOf(state, arenas, follow);
  const callee = isOps ? programNames(state) : undefined;
  return {
    types,
    text: { ...withTypes, ...pointerText(state, arenas), ...(callee && { callee }) },
    follower,
  };
}

function arenaStyle(state: BpfState, map: MapInfo, follow: number): DumpStyle {
  const { ArenaObjects } = require("./arena-objects.ts") as typeof import("./arena-objects.ts");
  const space = arenasOf(state, map).find((one) => one.map.id === map.id);
  if (space === undefined) return {};
  const arena = withFallback(undefined, () => new ArenaObjects(state, space, Math.max(1, follow)));
  return { text: pointerText(state, [space]), arena, follower: followerOf(state, [space], follow) };
}

// Most dumps need neither arenas nor a follower, so their code is loaded on first use.
function arenasOf(state: BpfState, map: MapInfo): ArenaSpace[] {
  const { arenasFor } = require("./arena-space.ts") as typeof import("./arena-space.ts");
  return arenasFor(state, map);
}

function followerOf(state: BpfState, arenas: readonly ArenaSpace[], depth: number): Follower | undefined {
  if (depth === 0) return undefined;
  const { Follower } = require("./follow.ts") as typeof import("./follow.ts");
  return new Follower(state, arenas, { depth });
}

/** Returns the options that name addresses: the arena that the map's programs use, and the kernel's symbols. */
function pointerText(state: BpfState, arenas: readonly ArenaSpace[]): TextOptions {
  const [arena] = arenas;
  const symbol = state.symbolAt?.bind(state);
  return {
    ...(arena !== undefined && { arena: { base: arena.base, size: arena.size } }),
    ...(symbol !== undefined && { symbol }),
  };
}

/** Ids are u32. */
const MAX_ID = 0xffff_ffffn;

/** Returns a function that names programs: a struct_ops value holds program ids in place of functions. */
function programNames(state: BpfState): (value: bigint) => string | undefined {
  return (value) => {
    if (value <= 0n || value > MAX_ID) return undefined;
    const prog = state.progById(Number(value));
    return prog === undefined ? undefined : printable(prog.fullName);
  };
}
