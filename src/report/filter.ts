/** Expressions over a map's elements, compiled against its types: nothing is looked up for an element. */

import { findPlace, firstName, hintOf, memberNames, PathError, type Place, what } from "../btf/place.ts";
import { endOf, rawPlace, type Scalar, type ScalarReader, scalarReader } from "../btf/scalar.ts";
import { type EnumShape, shapeOf } from "../btf/shape.ts";
import type { MapInfo } from "../state.ts";
import { type Comparison, type Expression, FilterError, type Operand } from "./filter-parse.ts";
import type { MapTypes, TypeRef } from "./typed.ts";

/** An element as a cursor shows it; `valueOffset` is given apart, as a per-CPU map has several values. */
export interface ElementBytes {
  readonly keyBytes: Uint8Array;
  readonly keyOffset: number;
  readonly valueBytes: Uint8Array;
}

export type Predicate = (element: ElementBytes, valueOffset: number) => boolean;
export type ElementReader = (element: ElementBytes, valueOffset: number) => Scalar;

/** A member of the key or the value, ready to be read from any element. */
export interface Member {
  readonly ofKey: boolean;
  readonly place: Place;
  readonly read: ElementReader;
}

/** Where an expression's members are looked up. */
export interface Scope {
  readonly map: Pick<MapInfo, "keySize" | "valueSize">;
  readonly types: MapTypes | undefined;
}

/** Throws `FilterError` for a member that does not exist or a comparison that cannot hold. */
export function compileFilter(source: string, expression: Expression, scope: Scope): Predicate {
  return compile({ source, ...scope }, expression);
}

/**
 * A member by its path (see `filter-parse.ts`). Throws `PathError`.
 */
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
    throw new PathError(0, `the ${prefix} has no type, and its ${size} bytes are no integer`);
  if (path !== "") throw new PathError(skipped, `the ${prefix} has no type, so it has no members`);
  return raw;
}

function memberOf(ofKey: boolean, place: Place, map: Scope["map"]): Member {
  const read = scalarReader(place);
  if (read === undefined)
    throw new PathError(0, `it is ${what(place)}, which does not compare`, whatInstead(place));
  if (endOf(place) > sizeOf(map, ofKey))
    throw new PathError(0, `it lies outside the ${ofKey ? "key" : "value"} of ${sizeOf(map, ofKey)} bytes`);
  return { ofKey, place, read: ofKey ? fromKey(read) : fromValue(read) };
}

function whatInstead({ shape }: Place): string {
  if (shape.kind === "struct") return `its members do: ${memberNames(shape).slice(0, 8).join(", ")}`;
  return shape.kind === "array" ? "its elements do: write [0] behind it" : "";
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

interface Context extends Scope {
  readonly source: string;
}

function compile(context: Context, expression: Expression): Predicate {
  switch (expression.kind) {
    case "and": {
      const terms = expression.terms.map((term) => compile(context, term));
      return (element, at) => terms.every((term) => term(element, at));
    }
    case "or": {
      const terms = expression.terms.map((term) => compile(context, term));
      return (element, at) => terms.some((term) => term(element, at));
    }
    case "not": {
      const term = compile(context, expression.term);
      return (element, at) => !term(element, at);
    }
    case "holds": {
      const { read } = compileOperand(context, expression.operand, undefined);
      return (element, at) => {
        const value = read(element, at);
        return value !== 0 && value !== "";
      };
    }
    case "compare":
      return compileComparison(context, expression.operator, expression.left, expression.right);
  }
}

interface Compiled {
  readonly read: ElementReader;
  readonly isText: boolean;
  /** What a member is; undefined for what stands in the expression. */
  readonly place: Place | undefined;
}

function compileComparison(context: Context, operator: Comparison, left: Operand, right: Operand): Predicate {
  // A name that is no member may be an enumerator of the other side's enum: that side comes first.
  const leftIsName = left.kind === "member" && !isMember(context, left.path);
  const first = compileOperand(context, leftIsName ? right : left, undefined);
  const second = compileOperand(context, leftIsName ? left : right, first.place);
  const [a, b] = leftIsName ? [second, first] : [first, second];
  if (a.isText !== b.isText) {
    const text = a.isText ? left : right;
    const number = a.isText ? right : left;
    throw new FilterError(
      context.source,
      number.at,
      `text compares with text: ${operandText(text)} is text, ${operandText(number)} is not`,
    );
  }
  return comparing(operator, a.read, b.read);
}

/** Integers are exact on both sides, and of two kinds that JavaScript compares by value (`===` does where neither fits 53 bits). */
function comparing(operator: Comparison, a: ElementReader, b: ElementReader): Predicate {
  switch (operator) {
    case "==":
      return (element, at) => a(element, at) === b(element, at);
    case "!=":
      return (element, at) => a(element, at) !== b(element, at);
    case "<":
      return (element, at) => a(element, at) < b(element, at);
    case "<=":
      return (element, at) => a(element, at) <= b(element, at);
    case ">":
      return (element, at) => a(element, at) > b(element, at);
    case ">=":
      return (element, at) => a(element, at) >= b(element, at);
  }
}

function isMember({ types }: Context, path: string): boolean {
  const first = firstName(path);
  return (
    first === "key" || first === "value" || hasMember(types?.key, first) || hasMember(types?.value, first)
  );
}

/** `beside`: what it is compared with, where that is a member. */
function compileOperand(context: Context, operand: Operand, beside: Place | undefined): Compiled {
  if (operand.kind === "number") return constant(operand.value);
  if (operand.kind === "text") {
    if (beside?.shape.kind === "enum")
      return constant(enumerator(context, beside.shape, operand.value, operand.at));
    return constant(textConstant(operand.value, beside));
  }
  if (beside?.shape.kind === "enum" && !isMember(context, operand.path))
    return constant(enumerator(context, beside.shape, operand.path, operand.at));
  try {
    const { read, place } = compileMember(context, operand.path);
    return { read, place, isText: place.shape.kind === "array" && place.bitSize === 0 };
  } catch (error) {
    if (!(error instanceof PathError)) throw error;
    throw new FilterError(context.source, operand.at + error.at, error.message, error.hint);
  }
}

function constant(value: Scalar): Compiled {
  return { read: () => value, isText: typeof value === "string", place: undefined };
}

/** 'z' beside a char is its number. */
function textConstant(value: string, beside: Place | undefined): Scalar {
  const isChar = beside?.shape.kind === "int" && beside.shape.char && beside.bitSize === 0;
  return isChar && value.length === 1 ? value.charCodeAt(0) : value;
}

function enumerator(context: Context, shape: EnumShape, name: string, at: number): number | bigint {
  for (const [value, known] of shape.names) if (known === name) return value;
  const hint = hintOf(name, [...shape.names.values()]);
  const problem = `there is neither a member nor an enumerator ${JSON.stringify(name)}`;
  throw new FilterError(context.source, at, problem, hint);
}

function operandText(operand: Operand): string {
  return operand.kind === "member" ? operand.path : JSON.stringify(String(operand.value));
}
