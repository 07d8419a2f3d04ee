/** Finds the pointers in a value and the types that they point to. */
import { BTF_KIND, BTF_MAX_RESOLVE_DEPTH } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";
import { readInteger } from "./integer.ts";
import { isAlias } from "./kinds.ts";
import { type Shape, shapeOf } from "./shape.ts";
import { ValueWalk } from "./value-walk.ts";

export interface PointerAt {
  /** Never 0. */
  readonly address: bigint;
  /** Type id of the target, as declared. */
  readonly targetId: number;
  /** Names of the target's `BTF_KIND_TYPE_TAG`s: "kptr", "percpu_kptr", "address_space(1)". */
  readonly tags: readonly string[];
}

/** Maximum number of elements searched per array. */
const MAX_ELEMENTS = 65_536;

/**
 * Returns every pointer in a value that is not NULL and whose target type has a size, in the order of the value. Throws
 * `FormatError` if the type is hostile.
 */
export function pointersIn(btf: Btf, typeId: number, bytes: Uint8Array): PointerAt[] {
  const found: PointerAt[] = [];
  collect(new ValueWalk(btf, bytes), shapeOf(btf, typeId), 0, found);
  return found;
}

function collect(walk: ValueWalk, shape: Shape, at: number, found: PointerAt[]): void {
  walk.countPart();
  switch (shape.kind) {
    case "pointer": {
      if (shape.toFunction || !walk.has(at, 8)) return;
      const address = BigInt(readInteger(walk.bytes, at, 8, false));
      if (address === 0n || !pointsToData(walk.btf, shape.targetId)) return;
      found.push({ address, targetId: shape.targetId, tags: tagsOf(walk.btf, shape.targetId) });
      return;
    }
    case "struct":
      walk.enter();
      for (const member of shape.members)
        if (member.bitSize === 0) collect(walk, member.shape, at + (member.bitOffset >>> 3), found);
      walk.leave();
      return;
    case "array": {
      if (!containsPointer(walk.btf, shape.element)) return;
      walk.enter();
      for (let n = 0; n < Math.min(shape.count, MAX_ELEMENTS); n++)
        collect(walk, shape.element, at + n * shape.element.size, found);
      walk.leave();
      return;
    }
    case "variable":
      walk.enter();
      collect(walk, shape.shape, at, found);
      walk.leave();
      return;
    case "section":
      walk.enter();
      for (const variable of shape.variables) collect(walk, variable.shape, at + variable.offset, found);
      walk.leave();
      return;
  }
}

/** Returns whether a type contains pointers. Throws `FormatError` if the type is hostile. */
export function hasPointers(btf: Btf, typeId: number): boolean {
  return containsPointer(btf, shapeOf(btf, typeId));
}

const known = new WeakMap<Shape, boolean>();

function containsPointer(btf: Btf, shape: Shape): boolean {
  const before = known.get(shape);
  if (before !== undefined) return before;
  known.set(shape, false); // ends the recursion on a hostile type that contains itself
  const answer = partsOf(shape).some((part) => part.kind === "pointer" || containsPointer(btf, part));
  known.set(shape, answer);
  return answer;
}

function partsOf(shape: Shape): readonly Shape[] {
  switch (shape.kind) {
    case "pointer":
      return [shape];
    case "struct":
      return shape.members.map((member) => member.shape);
    case "section":
      return shape.variables.map((variable) => variable.shape);
    case "array":
      return [shape.element];
    case "variable":
      return [shape.shape];
    default:
      return [];
  }
}

/** Excludes void, functions and incomplete types. Also excludes char: it is text of unknown length. */
function pointsToData(btf: Btf, targetId: number): boolean {
  const shape = shapeOf(btf, targetId);
  return shape.size > 0 && shape.kind !== "none" && !(shape.kind === "int" && shape.size === 1);
}

function tagsOf(btf: Btf, typeId: number): string[] {
  const tags: string[] = [];
  let id = typeId;
  for (let depth = 0; depth < BTF_MAX_RESOLVE_DEPTH; depth++) {
    const kind = btf.kind(id);
    if (kind === BTF_KIND.TYPE_TAG) tags.push(btf.typeName(id));
    else if (!isAlias(kind)) break;
    id = btf.referenced(id);
  }
  return tags;
}
