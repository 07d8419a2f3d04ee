/** Objects in an arena's pages: global variables stored there, and the objects that global pointers reach. */
import type { Btf } from "../btf/btf.ts";
import { declaration } from "../btf/declare.ts";
import { pointersIn } from "../btf/pointers.ts";
import { shapeOf } from "../btf/shape.ts";
import type { BpfState, MapInfo } from "../state.ts";
import { BTF_KIND } from "../uapi/btf.ts";
import type { ArenaSpace } from "./arena-space.ts";
import { Follower } from "./follow.ts";
import { isSection, variablesOf } from "./globals.ts";
import { type TypeRef, withFallback } from "./typed.ts";

export interface ArenaObject {
  /** Offset in its page, in bytes. */
  readonly offset: number;
  /** Name of the variable, then `*name` of each variable that points to it. Empty for objects that are further away. */
  readonly names: readonly string[];
  /** Whether it is a global variable stored in the arena. */
  readonly isVariable: boolean;
  readonly typeText: string;
  readonly type: TypeRef;
  readonly bytes: Uint8Array;
}

/** Section into which libbpf puts variables declared in the arena. */
const ARENA_SECTION = ".addr_space.1";

export class ArenaObjects {
  readonly #byPage = new Map<number, ArenaObject[]>();
  readonly #space: ArenaSpace;
  readonly #known = new Map<string, ArenaObject & { names: string[]; isVariable: boolean }>();

  /** `depth`: limit on the number of pointers between a variable and an object. */
  constructor(state: BpfState, space: ArenaSpace, depth: number) {
    this.#space = space;
    const follower = new Follower(state, [], { depth, only: space });
    for (const btf of programTypes(state, space.map)) {
      const globals = withFallback(undefined, () => globalsInArena(btf, space));
      if (globals !== undefined) this.#addGlobals(globals, follower);
    }
    for (const map of sectionMaps(state, space.map))
      for (const { name, type, bytes } of variablesOf(state, map) ?? [])
        this.#addTargets(follower, name, type, bytes);
    for (const objects of this.#byPage.values()) objects.sort((a, b) => a.offset - b.offset);
  }

  /** Returns the objects of one page, by ascending offset. */
  on(pageIndex: number): readonly ArenaObject[] {
    return this.#byPage.get(pageIndex) ?? [];
  }

  #addGlobals({ btf, sectionId, offset, bytes }: ArenaGlobals, follower: Follower): void {
    for (const variable of btf.sectionVars(sectionId)) {
      if (btf.kind(variable.typeId) !== BTF_KIND.VAR || variable.offset + variable.size > bytes.length)
        continue;
      const type = { btf, id: btf.referenced(variable.typeId) };
      const name = btf.typeName(variable.typeId);
      const value = bytes.subarray(variable.offset, variable.offset + variable.size);
      this.#add(offset + variable.offset, name, typeText(type), type, value);
      this.#addTargets(follower, name, type, value);
    }
  }

  #addTargets(follower: Follower, name: string, type: TypeRef, bytes: Uint8Array): void {
    for (const target of follower.follow(type, bytes).targets)
      this.#add(
        target.offset,
        target.depth === 1 ? `*${name}` : "",
        target.typeText,
        target.type,
        target.bytes,
      );
  }

  #add(offset: number, name: string, text: string, type: TypeRef, bytes: Uint8Array): void {
    const isVariable = name !== "" && !name.startsWith("*");
    const identity = `${offset} ${text}`;
    const known = this.#known.get(identity);
    if (known !== undefined) {
      if (name === "" || known.names.includes(name)) return;
      if (isVariable && !known.isVariable) known.names.unshift(name);
      else known.names.push(name);
      known.isVariable ||= isVariable;
      return;
    }
    const object = {
      offset: offset % this.#space.pageSize,
      names: name === "" ? [] : [name],
      isVariable,
      typeText: text,
      type,
      bytes,
    };
    this.#known.set(identity, object);
    const page = Math.floor(offset / this.#space.pageSize);
    const objects = this.#byPage.get(page) ?? [];
    objects.push(object);
    this.#byPage.set(page, objects);
  }
}

const typeText = ({ btf, id }: TypeRef): string => withFallback("", () => declaration(btf, id, ""));

/** Returns the BTF of every program that uses the arena, without duplicates. */
function programTypes(state: BpfState, arena: MapInfo): Btf[] {
  const ids = new Set<number>();
  for (const { mapIds, btfId } of state.progs()) if (btfId !== 0 && mapIds.includes(arena.id)) ids.add(btfId);
  return [...ids].flatMap((id) => {
    const btf = state.btf(id);
    return btf.ok ? [btf.value] : [];
  });
}

function sectionMaps(state: BpfState, arena: MapInfo): MapInfo[] {
  const ids = new Set<number>();
  const btfIds = new Set<number>();
  for (const { mapIds, btfId } of state.progs()) {
    if (!mapIds.includes(arena.id)) continue;
    for (const id of mapIds) ids.add(id);
    if (btfId !== 0) btfIds.add(btfId);
  }
  return state.maps().filter((map) => isSection(map) && (ids.has(map.id) || btfIds.has(map.btfId)));
}

interface ArenaGlobals {
  readonly btf: Btf;
  readonly sectionId: number;
  /** Offset in the arena, in bytes. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/**
 * Finds the arena's variables. libbpf puts them at the arena's start, and newer releases put them into its last pages
 * (tools/lib/bpf/libbpf.c, `arena_data_off`). If both places can be read, returns the one whose bytes are not all zero and whose
 * pointers all point into the arena, or undefined if both or neither qualify.
 */
function globalsInArena(btf: Btf, space: ArenaSpace): ArenaGlobals | undefined {
  const sectionId = btf.find(ARENA_SECTION, BTF_KIND.DATASEC);
  if (sectionId === undefined) return undefined;
  const size = Math.max(0, ...Array.from(btf.sectionVars(sectionId), (one) => one.offset + one.size));
  const atEnd = space.size - Math.ceil(size / space.pageSize) * space.pageSize;
  const candidates: ArenaGlobals[] = [];
  for (const offset of [0, atEnd]) {
    const bytes = size === 0 || size > space.size ? undefined : space.read(offset, size);
    if (bytes !== undefined) candidates.push({ btf, sectionId, offset, bytes });
  }
  if (candidates.length < 2) return candidates[0];
  const fitting = candidates.filter(
    ({ bytes }) =>
      bytes.some((byte) => byte !== 0) &&
      pointersIn(btf, shapeOf(btf, sectionId).id, bytes).every(
        ({ address }) => space.offsetOf(address, true) !== undefined,
      ),
  );
  return fitting.length === 1 ? fitting[0] : undefined;
}
