/**
 * Types prepared for renderers: typedefs and modifiers are stripped, and lookups in the BTF are cached. A shape is
 * created lazily and lives as long as its BTF.
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
import type { Member, SectionVar } from "./elements.ts";
import { exactInteger } from "./integer.ts";
import { isModifier, kindName } from "./kinds.ts";

/** `id` is the type without typedefs and modifiers. `size` is in bytes. */
interface Common {
  readonly id: number;
  readonly size: number;
}

export interface IntShape extends Common {
  readonly kind: "int";
  readonly signed: boolean;
  readonly bool: boolean;
  /** `BTF_INT_CHAR`, or the name is `char`: clang encodes char as a signed integer. */
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
  /** An array of `char`. A typedef of `char` does not count as text. */
  readonly text: boolean;
}

export interface MemberShape {
  readonly name: string;
  readonly typeId: number;
  readonly bitOffset: number;
  /** Width of a bit-field in bits; 0 if the member is not a bit-field. */
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
  readonly variables: readonly SectionVariable[];
}

/** Offset and size are in bytes. A variable with a flexible array can be larger than its type. */
export interface SectionVariable {
  readonly name: string;
  readonly typeId: number;
  readonly offset: number;
  readonly size: number;
  readonly shape: Shape;
}

export interface VariableShape extends Common {
  readonly kind: "variable";
  readonly name: string;
  readonly shape: Shape;
}

export type Shape =
  | IntShape
  | EnumShape
  | ArrayTypeShape
  | StructShape
  | SectionShape
  | (Common & { readonly kind: "float" })
  | (Common & { readonly kind: "pointer"; readonly targetId: number; readonly toFunction: boolean })
  | VariableShape
  /** A type without bytes: void, a forward declaration, a function, an unknown kind. */
  | (Common & { readonly kind: "none"; readonly what: string });

const shapes = new WeakMap<Btf, Map<number, Shape>>();

/** Returns the shape of a type. Throws `FormatError` if its record refers to a type that does not exist. */
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
    case BTF_KIND.ARRAY:
      return new LazyArray(btf, common);
    case BTF_KIND.STRUCT:
    case BTF_KIND.UNION:
      return new LazyStruct(btf, common, kind === BTF_KIND.UNION);
    case BTF_KIND.VAR:
      return new LazyVariable(btf, common);
    case BTF_KIND.DATASEC:
      return new LazySection(btf, common);
    default:
      return { kind: "none", ...common, what: describeSizeless(btf, id, kind) };
  }
}

// Types can refer to themselves through their parts, so the shapes of parts are created lazily.

class LazyArray implements ArrayTypeShape {
  readonly kind = "array";
  readonly id: number;
  readonly size: number;
  readonly count: number;
  readonly text: boolean;
  readonly #btf: Btf;
  readonly #elementTypeId: number;
  #element: Shape | undefined;

  constructor(btf: Btf, { id, size }: Common) {
    const { count, elementTypeId } = btf.array(id);
    this.id = id;
    this.size = size;
    this.count = count;
    this.text = isChar(btf, elementTypeId);
    this.#btf = btf;
    this.#elementTypeId = elementTypeId;
  }

  get element(): Shape {
    this.#element ??= shapeOf(this.#btf, this.#elementTypeId);
    return this.#element;
  }
}

class LazyStruct implements StructShape {
  readonly kind = "struct";
  readonly id: number;
  readonly size: number;
  readonly union: boolean;
  readonly name: string;
  readonly #btf: Btf;
  #members: readonly MemberShape[] | undefined;

  constructor(btf: Btf, { id, size }: Common, union: boolean) {
    this.id = id;
    this.size = size;
    this.union = union;
    this.name = btf.typeName(id);
    this.#btf = btf;
  }

  get members(): readonly MemberShape[] {
    this.#members ??= Array.from(this.#btf.members(this.id), (member) => new LazyMember(this.#btf, member));
    return this.#members;
  }
}

class LazySection implements SectionShape {
  readonly kind = "section";
  readonly id: number;
  readonly size: number;
  readonly name: string;
  readonly #btf: Btf;
  #variables: readonly SectionVariable[] | undefined;

  constructor(btf: Btf, { id, size }: Common) {
    this.id = id;
    this.size = size;
    this.name = btf.typeName(id);
    this.#btf = btf;
  }

  get variables(): readonly SectionVariable[] {
    this.#variables ??= Array.from(
      this.#btf.sectionVars(this.id),
      (part) => new LazySectionVariable(this.#btf, part),
    );
    return this.#variables;
  }
}

/** A part of a type. Its own shape is created lazily. */
abstract class LazyPart {
  readonly typeId: number;
  readonly #btf: Btf;
  #shape: Shape | undefined;

  constructor(btf: Btf, typeId: number) {
    this.typeId = typeId;
    this.#btf = btf;
  }

  get shape(): Shape {
    this.#shape ??= shapeOf(this.#btf, this.typeId);
    return this.#shape;
  }
}

class LazyVariable extends LazyPart implements VariableShape {
  readonly kind = "variable";
  readonly id: number;
  readonly size: number;
  readonly name: string;

  constructor(btf: Btf, { id, size }: Common) {
    super(btf, btf.referenced(id));
    this.id = id;
    this.size = size;
    this.name = btf.typeName(id);
  }
}

class LazyMember extends LazyPart implements MemberShape {
  readonly name: string;
  readonly bitOffset: number;
  readonly bitSize: number;

  constructor(btf: Btf, { name, typeId, bitOffset, bitSize }: Member) {
    super(btf, typeId);
    this.name = name;
    this.bitOffset = bitOffset;
    this.bitSize = bitSize;
  }
}

/** Sections of kernel modules also contain functions, which have no VAR. */
class LazySectionVariable extends LazyPart implements SectionVariable {
  readonly name: string;
  readonly offset: number;
  readonly size: number;

  constructor(btf: Btf, { typeId, offset, size }: SectionVar) {
    super(btf, btf.kind(typeId) === BTF_KIND.VAR ? btf.referenced(typeId) : typeId);
    this.name = btf.typeName(typeId);
    this.offset = offset;
    this.size = size;
  }
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

/** Skips modifiers but not typedefs. */
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

/** Converts an ENUM's i32 to the result of reading `size` bytes. Older compilers mark every enum as unsigned. */
function narrowed(value: number, size: number, signed: boolean): number | bigint {
  if (size === 8) return exactInteger(value >>> 0, (value | 0) < 0 ? 0xffff_ffff : 0, signed);
  const shift = 32 - 8 * size;
  return signed ? (value << shift) >> shift : (value << shift) >>> shift;
}

function describeSizeless(btf: Btf, id: number, kind: number): string {
  if (kind === BTF_KIND.UNKN) return "void";
  if (kind === BTF_KIND.FWD) return `incomplete ${btf.kindFlag(id) ? "union" : "struct"} ${btf.typeName(id)}`;
  return kind === BTF_KIND.FUNC || kind === BTF_KIND.FUNC_PROTO ? "function" : kindName(kind);
}
