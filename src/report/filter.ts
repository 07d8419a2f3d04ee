/** Filter expressions over a map's elements, with members resolved in its BTF. */

import {
  describeType,
  findPlace,
  firstName,
  hintOf,
  memberNames,
  PathError,
  type Place,
} from "../btf/place.ts";
import { endOf, rawPlace, type Scalar, type ScalarReader, scalarReader } from "../btf/scalar.ts";
import { shapeOf } from "../btf/shape.ts";
import type { MapInfo } from "../state.ts";
import { compileExpression } from "./filter-compile.ts";
import type { Expression } from "./filter-parse.ts";
import type { MapTypes, TypeRef } from "./typed.ts";

/** An element's key and value. `valueOffset` is a separate argument, because a per-CPU element has several values. */
export interface ElementBytes {
  readonly keyBytes: Uint8Array;
  readonly keyOffset: number;
  readonly valueBytes: Uint8Array;
}

export type Predicate = (element: ElementBytes, valueOffset: number) => boolean;
export type ElementReader = (element: ElementBytes, valueOffset: number) => Scalar;

/** A member of the key or the value. */
export interface Member {
  readonly ofKey: boolean;
  readonly place: Place;
  readonly read: ElementReader;
}

/** The map in which an expression's members are resolved. */
export interface Scope {
  readonly map: Pick<MapInfo, "keySize" | "valueSize">;
  readonly types: MapTypes | undefined;
}

/** Throws `FilterError` if a member does not exist, or the operands cannot be compared. */
export function compileFilter(source: string, expression: Expression, scope: Scope): Predicate {
  return compileExpression(source, expression, {
    has: (path) => isMember(scope, path),
    find: (path) => {
      const { read, place } = compileMember(scope, path);
      return { read, place, isText: place.shape.kind === "array" && place.bitSize === 0 };
    },
  });
}

/** Finds a member by its path (grammar: `filter-parse.ts`). Throws `PathError`. */
export function compileMember({ map, types }: Scope, path: string): Member {
  const prefix = /^(key|value)(?=$|[.[])/.exec(path)?.[1];
  if (prefix !== undefined) {
    const ofKey = prefix === "key";
    const rest = path.slice(prefix.length).replace(/^\./, "");
    const skipped = path.length - rest.length;
    return memberOf(
      ofKey,
      placeIn(ofKey ? types?.key : types?.value, sizeOf(map, ofKey), rest, skipped, prefix),
      map,
    );
  }
  const first = firstName(path);
  const inKey = hasMember(types?.key, first);
  const inValue = hasMember(types?.value, first);
  if (inKey && inValue)
    throw new PathError(0, `both key and value have a member ${first}`, `write key.${path} or value.${path}`);
  if (!inKey && !inValue) {
    const names = [...namesOf(types?.value), ...namesOf(types?.key)];
    const untyped = types === undefined ? " (the map has no types: there are only `key` and `value`)" : "";
    throw new PathError(0, `there is no member ${JSON.stringify(first)}${untyped}`, hintOf(first, names));
  }
  const type = inKey ? types?.key : types?.value;
  return memberOf(inKey, placeIn(type, sizeOf(map, inKey), path, 0, ""), map);
}

const sizeOf = (map: Scope["map"], ofKey: boolean): number => (ofKey ? map.keySize : map.valueSize);

function placeIn(
  type: TypeRef | undefined,
  size: number,
  path: string,
  skipped: number,
  prefix: string,
): Place {
  if (type !== undefined) {
    try {
      return findPlace(type.btf, type.id, path);
    } catch (error) {
      if (error instanceof PathError) throw new PathError(error.at + skipped, error.message, error.hint);
      throw error;
    }
  }
  const raw = rawPlace(size);
  if (raw === undefined)
    throw new PathError(0, `the ${prefix} has no type, and its ${size} bytes are not an integer`);
  if (path !== "") throw new PathError(skipped, `the ${prefix} has no type, so it has no members`);
  return raw;
}

function memberOf(ofKey: boolean, place: Place, map: Scope["map"]): Member {
  const read = scalarReader(place);
  if (read === undefined)
    throw new PathError(0, `it is ${describeType(place)}, which cannot be compared`, suggestion(place));
  if (endOf(place) > sizeOf(map, ofKey))
    throw new PathError(0, `it is outside the ${ofKey ? "key" : "value"} of ${sizeOf(map, ofKey)} bytes`);
  return { ofKey, place, read: ofKey ? fromKey(read) : fromValue(read) };
}

function suggestion({ shape }: Place): string {
  if (shape.kind === "struct") return `compare a member: ${memberNames(shape).slice(0, 8).join(", ")}`;
  return shape.kind === "array" ? "compare an element: append [0]" : "";
}

const fromKey =
  (read: ScalarReader): ElementReader =>
  ({ keyBytes, keyOffset }) =>
    read(keyBytes, keyOffset);
const fromValue =
  (read: ScalarReader): ElementReader =>
  ({ valueBytes }, valueOffset) =>
    read(valueBytes, valueOffset);

function hasMember(type: TypeRef | undefined, name: string): boolean {
  if (type === undefined) return false;
  const shape = shapeOf(type.btf, type.id);
  if (shape.kind === "section") return shape.variables.some((variable) => variable.name === name);
  return shape.kind === "struct" && type.btf.member(shape.id, name) !== undefined;
}

function namesOf(type: TypeRef | undefined): string[] {
  if (type === undefined) return [];
  const shape = shapeOf(type.btf, type.id);
  return shape.kind === "section" ? shape.variables.map(({ name }) => name) : memberNames(shape);
}

function isMember({ types }: Scope, path: string): boolean {
  const first = firstName(path);
  return (
    first === "key" || first === "value" || hasMember(types?.key, first) || hasMember(types?.value, first)
  );
}
