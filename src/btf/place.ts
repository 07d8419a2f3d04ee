/** Finds parts of a value by a path that a user writes: `pid`, `in[0].tag`. Errors name the step of the path that failed. */
import { KtstrError } from "../errors.ts";
import { similarWords } from "../similar-words.ts";
import type { Btf } from "./btf.ts";
import { type Shape, shapeOf } from "./shape.ts";

/** The location and type of a part, relative to the start of the value. */
export interface Place {
  readonly shape: Shape;
  /** As declared: typedefs and modifiers are not stripped. */
  readonly typeId: number;
  /** For a bit-field, the byte that holds its first bit. */
  readonly byteOffset: number;
  /** The first bit within that byte. */
  readonly bitOffset: number;
  /** Width of a bit-field in bits; 0 if the part is not a bit-field and has the size of its shape. */
  readonly bitSize: number;
  /** The part is in a flexible array, so whether its bytes exist depends on the value. */
  readonly flexible: boolean;
}

/** A path does not resolve. `at` is the offset of the failed step in the path. */
export class PathError extends KtstrError {
  readonly at: number;

  constructor(at: number, problem: string, hint = "") {
    super(problem, { hint });
    this.at = at;
  }
}

const STEP = /^(?:\.?([^.[\]\s]+)|\[\s*(\d+)\s*\])/;

/**
 * Follows a path from a type. In a section, the path starts with the name of a variable. Throws `PathError` if the path
 * does not resolve and `FormatError` if the type is hostile.
 */
export function findPlace(btf: Btf, typeId: number, path: string): Place {
  let place: Place = {
    shape: shapeOf(btf, typeId),
    typeId,
    byteOffset: 0,
    bitOffset: 0,
    bitSize: 0,
    flexible: false,
  };
  let at = 0;
  if (place.shape.kind === "section") {
    const variable = variableOf(place.shape.variables, path);
    at = variable.name.length;
    place = { ...place, shape: variable.shape, typeId: variable.typeId, byteOffset: variable.offset };
  }
  while (at < path.length) {
    const step = STEP.exec(path.slice(at));
    if (step === null)
      throw new PathError(at, `${JSON.stringify(path.slice(at))} is neither a member nor an index`);
    const [whole, name, index] = step;
    const nameAt = at + (whole.startsWith(".") ? 1 : 0);
    place =
      name === undefined
        ? elementPlace(btf, place, Number(index), path.slice(0, at), at)
        : memberPlace(btf, place, name, path.slice(0, at), nameAt);
    at += whole.length;
  }
  return place;
}

function variableOf<T extends { readonly name: string }>(variables: readonly T[], path: string): T {
  const variable = findVariable(variables, path);
  if (variable !== undefined) return variable;
  const wanted = firstName(path);
  const names = variables.map(({ name }) => name);
  throw new PathError(0, `there is no variable ${JSON.stringify(wanted)}`, hintOf(wanted, names));
}

/** Returns the variable that a path starts with. The longest match wins: names of function-local statics contain a dot. */
export function findVariable<T extends { readonly name: string }>(
  variables: readonly T[],
  path: string,
): T | undefined {
  const fitting = variables.filter(
    ({ name }) => path === name || path.startsWith(`${name}.`) || path.startsWith(`${name}[`),
  );
  return fitting.sort((a, b) => b.name.length - a.name.length)[0];
}

/** The part of a path before its first `.` or `[`. */
export const firstName = (path: string): string => /^[^.[]*/.exec(path)?.[0] ?? path;

function memberPlace(btf: Btf, from: Place, name: string, before: string, at: number): Place {
  if (from.shape.kind !== "struct")
    throw new PathError(at, `${pathText(before)} is ${describeType(from)}: it has no members`);
  const found = btf.member(from.shape.id, name);
  if (found === undefined) {
    const kind = from.shape.union ? "union" : "struct";
    const tag = from.shape.name === "" ? `${kind} of ${pathText(before)}` : `${kind} ${from.shape.name}`;
    throw new PathError(
      at,
      `there is no member ${JSON.stringify(name)} in ${tag}`,
      hintOf(name, memberNames(from.shape)),
    );
  }
  return {
    shape: shapeOf(btf, found.typeId),
    typeId: found.typeId,
    byteOffset: from.byteOffset + found.byteOffset,
    bitOffset: found.bitOffset,
    bitSize: found.bitSize,
    flexible: from.flexible,
  };
}

function elementPlace(btf: Btf, from: Place, index: number, before: string, at: number): Place {
  const { shape } = from;
  if (shape.kind !== "array")
    throw new PathError(at, `${pathText(before)} is ${describeType(from)}, not an array`);
  const flexible = shape.count === 0 && shape.element.size > 0;
  if (!flexible && !(index < shape.count))
    throw new PathError(at, `${pathText(before)} has ${shape.count} elements: there is no [${index}]`);
  const byteOffset = from.byteOffset + index * shape.element.size;
  if (!Number.isSafeInteger(byteOffset)) throw new PathError(at, `there is no [${index}]`);
  const { elementTypeId } = btf.array(shape.id);
  return {
    ...from,
    shape: shape.element,
    typeId: elementTypeId,
    byteOffset,
    flexible: from.flexible || flexible,
  };
}

const pathText = (path: string): string => (path === "" ? "the value" : path);

/** Returns the kind of a type in words, for messages. */
export function describeType({ shape, bitSize }: Pick<Place, "shape" | "bitSize">): string {
  if (bitSize > 0) return "a bit-field";
  switch (shape.kind) {
    case "struct":
      return shape.union ? "a union" : "a struct";
    case "array":
      return shape.text ? "text" : "an array";
    case "int":
      return shape.bool ? "a bool" : "an integer";
    case "enum":
      return "an enum";
    case "pointer":
      return "a pointer";
    case "float":
      return "a float";
    default:
      return "a type of unknown size";
  }
}

const MAX_NAMES = 4096;

/** Returns the names of a struct's members, including the members of its anonymous members. */
export function memberNames(shape: Shape): string[] {
  const names: string[] = [];
  const pending: { shape: Shape; depth: number }[] = [{ shape, depth: 0 }];
  for (let next = pending.pop(); next !== undefined && names.length < MAX_NAMES; next = pending.pop()) {
    if (next.shape.kind !== "struct") continue;
    for (const member of next.shape.members) {
      if (member.name !== "") names.push(member.name);
      else if (next.depth < 16) pending.push({ shape: member.shape, depth: next.depth + 1 });
    }
  }
  return names;
}

/** Returns a hint for a name that does not exist: similar names, or the first of the existing names. */
export function hintOf(wanted: string, names: readonly string[]): string {
  const near = similarWords(wanted, names);
  if (near.length > 0) return `did you mean ${near.join(" or ")}?`;
  if (names.length === 0) return "";
  const shown = names.slice(0, 8).join(", ");
  return names.length > 8 ? `there are ${shown} and ${names.length - 8} more` : `there are: ${shown}`;
}
