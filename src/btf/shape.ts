/**
 * Types as a renderer walks them: typedefs and modifiers stripped, every look-up in the BTF done once. A shape is made
 * when it is first met and kept for as long as its BTF.
 */
import { FormatError } from "../errors.ts";
import {
  BTF_INT_BOOL,
  BTF_INT_CHAR,
  BTF_INT_SIGNED,
  BTF_KIND,
  btfIntBits,
  btfIntEncoding,
  btfIntOffset,
} from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";
import { exactInteger } from "./integer.ts";
import { isModifier, kindName } from "./kinds.ts";

/** `size` in bytes; `id`: the type, stripped. */
interface Common {
  readonly id: number;
  readonly size: number;
}

export interface IntShape extends Common {
  readonly kind: "int";
  readonly signed: boolean;
  readonly bool: boolean;
  /** `BTF_INT_CHAR`, or named `char`: clang calls C's char a signed integer. */
  readonly char: boolean;
  readonly encoding: number;
  /** `BTF_INT_OFFSET` and `BTF_INT_BITS`. */
  readonly bitOffset: number;
  readonly bits: number;
}

export interface EnumShape extends Common {
  readonly kind: "enum";
  readonly wide: boolean;
  readonly signed: boolean;
  readonly names: ReadonlyMap<number | bigint, string>;
}

export interface ArrayTypeShape extends Common {
  readonly kind: "array";
  readonly count: number;
  readonly element: Shape;
  /** An array of `char` itself: a typedef of it is not text. */
  readonly text: boolean;
}

export interface MemberShape {
  readonly name: string;
  readonly typeId: number;
  readonly bitOffset: number;
  /** 0: not a bit-field. */
  readonly bitSize: number;
  readonly shape: Shape;
}

export interface StructShape extends Common {
  readonly kind: "struct";
  readonly union: boolean;
  readonly name: string;
  readonly members: readonly MemberShape[];
}

export interface SectionShape extends Common {
  readonly kind: "section";
  readonly name: string;
  /** In bytes; a variable may be larger than its type, by the elements of a flexible array. */
  readonly variables: readonly {
    name: string;
    typeId: number;
    offset: number;
    size: number;
    shape: Shape;
  }[];
}

export type Shape =
  | IntShape
  | EnumShape
  | ArrayTypeShape
  | StructShape
  | SectionShape
  | (Common & { readonly kind: "float" })
  | (Common & { readonly kind: "pointer"; readonly targetId: number; readonly toFunction: boolean })
  | (Common & { readonly kind: "variable"; readonly name: string; readonly shape: Shape })
  /** What has no bytes: void, a forward declaration, a function, a kind that is not known. */
  | (Common & { readonly kind: "none"; readonly what: string });

const shapes = new WeakMap<Btf, Map<number, Shape>>();

/** The shape of a type. Throws `FormatError` where its record refers to what is not there. */
export function shapeOf(btf: Btf, typeId: number): Shape {
  let known = shapes.get(btf);
  if (known === undefined) {
    known = new Map();
    shapes.set(btf, known);
  }
  const before = known.get(typeId);
  if (before !== undefined) return before;
  const id = btf.resolve(typeId);
  const shape = known.get(id) ?? makeShape(btf, id);
  known.set(id, shape);
  known.set(typeId, shape);
  return shape;
}

function makeShape(btf: Btf, id: number): Shape {
  const common = { id, size: btf.sizeOf(id) };
  const kind = btf.kind(id);
  switch (kind) {
    case BTF_KIND.INT:
      return intShape(btf, common);
    case BTF_KIND.FLOAT:
      return { kind: "float", ...common };
    case BTF_KIND.ENUM:
    case BTF_KIND.ENUM64:
      return enumShape(btf, common, kind === BTF_KIND.ENUM64);
    case BTF_KIND.PTR: {
      const targetId = btf.referenced(id);
      const toFunction = btf.kind(btf.resolve(targetId)) === BTF_KIND.FUNC_PROTO;
      return { kind: "pointer", ...common, targetId, toFunction };
    }
    case BTF_KIND.ARRAY: {
      const { count, elementTypeId } = btf.array(id);
      const text = isChar(btf, elementTypeId);
      return lazily({ kind: "array", ...common, count, text } as ArrayTypeShape, "element", () =>
        shapeOf(btf, elementTypeId),
      );
    }
    case BTF_KIND.STRUCT:
    case BTF_KIND.UNION: {
      const union = kind === BTF_KIND.UNION;
      return lazily(
        { kind: "struct", ...common, union, name: btf.typeName(id) } as StructShape,
        "members",
        () => memberShapes(btf, id),
      );
    }
    case BTF_KIND.VAR: {
      const name = btf.typeName(id);
      return lazily({ kind: "variable", ...common, name } as Shape & { kind: "variable" }, "shape", () =>
        shapeOf(btf, btf.referenced(id)),
      );
    }
    case BTF_KIND.DATASEC:
      return lazily({ kind: "section", ...common, name: btf.typeName(id) } as SectionShape, "variables", () =>
        variableShapes(btf, id),
      );
    default:
      return { kind: "none", ...common, what: whatHasNoBytes(btf, id, kind) };
  }
}

/** Gives an object a property that is computed when first read: types refer to themselves through what they hold. */
function lazily<T extends object, K extends keyof T>(target: T, key: K, compute: () => T[K]): T {
  Object.defineProperty(target, key, {
    configurable: true,
    enumerable: true,
    get(): T[K] {
      const value = compute();
      Object.defineProperty(target, key, { value, enumerable: true });
      return value;
    },
  });
  return target;
}

function lazyShape<T extends { readonly shape: Shape }>(btf: Btf, typeId: number, rest: Omit<T, "shape">): T {
  return lazily(rest as T, "shape", () => shapeOf(btf, typeId));
}

function intShape(btf: Btf, common: Common): IntShape {
  const trailer = btf.trailer(common.id);
  const encoding = btfIntEncoding(trailer);
  return {
    kind: "int",
    ...common,
    signed: (encoding & BTF_INT_SIGNED) !== 0,
    bool: (encoding & BTF_INT_BOOL) !== 0,
    char: common.size === 1 && (encoding === BTF_INT_CHAR || btf.typeName(common.id) === "char"),
    encoding,
    bitOffset: btfIntOffset(trailer),
    bits: btfIntBits(trailer),
  };
}

/** Through modifiers, but not through typedefs. */
function isChar(btf: Btf, typeId: number): boolean {
  let id = typeId;
  for (let depth = 0; depth < 32 && isModifier(btf.kind(id)); depth++) id = btf.referenced(id);
  return btf.kind(id) === BTF_KIND.INT && intShape(btf, { id, size: btf.sizeOf(id) }).char;
}

function enumShape(btf: Btf, common: Common, wide: boolean): EnumShape {
  const { id, size } = common;
  if (size !== 1 && size !== 2 && size !== 4 && size !== 8)
    throw new FormatError("BTF", 0, `type ${id}: an enum of ${size} bytes`);
  const names = new Map<number | bigint, string>();
  const signed = btf.kindFlag(id);
  for (const { name, value } of btf.enumValues(id)) {
    const key = wide ? value : narrowed(Number(value), size, signed);
    if (!names.has(key)) names.set(key, name);
  }
  return { kind: "enum", ...common, wide, signed, names };
}

/** An ENUM's i32 as a read of `size` bytes gives it: compilers before the kind flag wrote every enum as unsigned. */
function narrowed(value: number, size: number, signed: boolean): number | bigint {
  if (size === 8) return exactInteger(value >>> 0, (value | 0) < 0 ? 0xffff_ffff : 0, signed);
  const shift = 32 - 8 * size;
  return signed ? (value << shift) >> shift : (value << shift) >>> shift;
}

function memberShapes(btf: Btf, id: number): MemberShape[] {
  const members: MemberShape[] = [];
  for (const member of btf.members(id))
    members.push(lazyShape<MemberShape>(btf, member.typeId, { ...member }));
  return members;
}

function variableShapes(btf: Btf, id: number): SectionShape["variables"] {
  const variables: SectionShape["variables"][number][] = [];
  for (const { typeId, offset, size } of btf.sectionVars(id)) {
    const isVariable = btf.kind(typeId) === BTF_KIND.VAR;
    const valueType = isVariable ? btf.referenced(typeId) : typeId;
    variables.push(
      lazyShape(btf, valueType, { name: btf.typeName(typeId), typeId: valueType, offset, size }),
    );
  }
  return variables;
}

function whatHasNoBytes(btf: Btf, id: number, kind: number): string {
  if (kind === BTF_KIND.UNKN) return "void";
  if (kind === BTF_KIND.FWD) return `incomplete ${btf.kindFlag(id) ? "union" : "struct"} ${btf.typeName(id)}`;
  return kind === BTF_KIND.FUNC || kind === BTF_KIND.FUNC_PROTO ? "function" : kindName(kind);
}
