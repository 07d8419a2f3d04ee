/**
 * BTF: the types of a kernel or of a BPF object, from `/sys/kernel/btf/*`, `BPF_OBJ_GET_INFO_BY_FD` or a kernel's
 * memory. Parsing stores the position of each type. Everything else is decoded lazily.
 */
import { FormatError } from "../errors.ts";
import { compileEarly } from "../jit-threshold.ts";
import {
  BTF_KIND,
  BTF_MAX_RESOLVE_DEPTH,
  btfKind,
  btfKindFlag,
  btfMemberBitfieldSize,
  btfMemberBitOffset,
  btfVlen,
} from "../uapi/btf.ts";
import type { ArrayShape, EnumValue, Member, MemberRecord, Param, SectionVar } from "./elements.ts";
import { exactInteger } from "./integer.ts";
import { hasStoredSize, isAlias, kindName } from "./kinds.ts";
import { findMember, type MemberPlace } from "./member.ts";
import {
  areNamesSorted,
  buildNameIndex,
  compareName,
  compareStrings,
  findSorted,
  hashName,
  type NameIndex,
  nameEquals,
} from "./names.ts";
import { parseSections } from "./parse.ts";

export interface BtfOptions {
  /** The base of a split BTF, such as a kernel module's. The split BTF continues the ids and string offsets of its base. */
  readonly base?: Btf | undefined;
  /** "vmlinux", or the name of a module or map; used in messages. */
  readonly name?: string;
}

/** Only 64-bit kernels are supported. */
const POINTER_SIZE = 8;
/** Maximum length of a string. The kernel accepts identifiers of up to 511 bytes; tags can be longer. */
const MAX_STRING = 65_536;
/** Decoded strings of up to this many bytes are kept: most names are used by several members or types. */
const MAX_KEPT_STRING = 64;

/**
 * Every method that takes an id throws `FormatError` if the id, or a type or string that its record refers to, does not
 * exist. A split BTF passes the ids of its base to the base. Id 0 is void, with kind UNKN.
 */
export class Btf {
  readonly base: Btf | undefined;
  readonly name: string;
  /** Number of types, including void (id 0) and the types of the base: the highest id plus one. */
  readonly typeCount: number;
  /** The first id that does not belong to the base; 1 if there is no base. */
  readonly firstId: number;
  readonly #typeOffset: number;
  readonly #words: Int32Array;
  readonly #index: Int32Array;
  readonly #strings: Buffer;
  readonly #firstString: number;
  /** Decoded strings by offset. */
  readonly #decoded = new Map<number, string>();
  #isSorted: boolean | undefined;
  /** Name indexes with functions (true) and without (false). Used if the types are not sorted by name. */
  readonly #names: Map<boolean, NameIndex> = new Map();

  private constructor(bytes: Uint8Array, { base, name = "" }: BtfOptions) {
    this.base = base;
    this.name = name;
    const { typeOffset, words, strings, index } = parseSections(bytes, this.#format, base !== undefined);
    this.#typeOffset = typeOffset;
    this.#words = words;
    this.#index = index;
    this.#strings = Buffer.from(strings.buffer, strings.byteOffset, strings.length);
    this.firstId = base?.typeCount ?? 1;
    this.typeCount = this.firstId + index.length;
    this.#firstString = base === undefined ? 0 : base.#firstString + base.#strings.length;
  }

  /**
   * Parses BTF. `bytes` can be part of a larger buffer. They are not copied, except for types at an unaligned address,
   * and must not change. Throws `FormatError` if they are not BTF. Ids and string offsets in the types are checked when
   * they are followed.
   */
  static parse(bytes: Uint8Array, options: BtfOptions = {}): Btf {
    return new Btf(bytes, options);
  }

  /** Returns the type's `BTF_KIND_*`, which can be a number that this reader does not know. */
  kind(id: number): number {
    return btfKind(this.#info(id));
  }

  kindFlag(id: number): boolean {
    return btfKindFlag(this.#info(id));
  }

  /** Returns `vlen`: the number of members, values, parameters or variables; for a FUNC, its linkage. */
  vlen(id: number): number {
    return btfVlen(this.#info(id));
  }

  /** Returns the type's name, or "" if it has none. */
  typeName(id: number): string {
    return id === 0 ? "" : this.string(this.#word(id, 0));
  }

  /** Returns the bytes of the type's name, in any encoding. Shares memory with the input. */
  nameBytes(id: number): Uint8Array {
    return id === 0 ? new Uint8Array(0) : this.#stringBytes(this.#word(id, 0));
  }

  /**
   * Returns `btf_type.type`: the target of a pointer, typedef, modifier, variable, function or tag; the return type of
   * a prototype.
   */
  referenced(id: number): number {
    return this.#word(id, 2);
  }

  /** Returns `btf_type.size` in bytes. Valid for INT, FLOAT, ENUM, ENUM64, STRUCT, UNION and DATASEC. */
  storedSize(id: number): number {
    return this.#word(id, 2);
  }

  /**
   * Returns the u32 after `struct btf_type`. INT: see `btfIntBits`. VAR: linkage. DECL_TAG: component index, or 2^32-1
   * if the tag applies to the whole target.
   */
  trailer(id: number): number {
    return this.#word(id, 3);
  }

  array(id: number): ArrayShape {
    this.#expect(id, BTF_KIND.ARRAY);
    return { elementTypeId: this.#word(id, 3), indexTypeId: this.#word(id, 4), count: this.#word(id, 5) };
  }

  /** Returns member `n` of a struct or union. */
  memberAt(id: number, n: number): MemberRecord {
    this.#expect(id, BTF_KIND.STRUCT, BTF_KIND.UNION);
    const at = this.#element(id, n, 3);
    const offset = this.#word(id, at + 2);
    const flag = this.kindFlag(id);
    return {
      nameOffset: this.#word(id, at),
      typeId: this.#word(id, at + 1),
      bitOffset: flag ? btfMemberBitOffset(offset) : offset,
      bitSize: flag ? btfMemberBitfieldSize(offset) : 0,
    };
  }

  /**
   * Returns the index of the first member from `n` on with this name or without a name (an anonymous struct can contain
   * the member), or -1.
   */
  memberNamed(id: number, name: Uint8Array, n: number): number {
    if (id < this.firstId && this.base !== undefined) return this.base.memberNamed(id, name, n);
    this.#expect(id, BTF_KIND.STRUCT, BTF_KIND.UNION);
    const count = this.vlen(id);
    // The terminator rejects most names without a call. This loop runs before the engine has compiled it.
    const words = this.#words;
    const endsAt = name.length - this.#firstString;
    for (let at = this.#index[id - this.firstId]! + 3 + 3 * n; n < count; n++, at += 3) {
      const offset = words[at]! >>> 0;
      if (offset === 0) return n;
      if (offset >= this.#firstString && this.#strings[offset + endsAt] !== 0) continue;
      if (this.#nameEqualsAt(offset, name)) return n;
    }
    return -1;
  }

  *members(id: number): Generator<Member> {
    this.#expect(id, BTF_KIND.STRUCT, BTF_KIND.UNION);
    for (let n = 0, count = this.vlen(id); n < count; n++) {
      const { nameOffset, typeId, bitOffset, bitSize } = this.memberAt(id, n);
      yield { name: this.string(nameOffset), typeId, bitOffset, bitSize };
    }
  }

  /** Yields the values of an ENUM or ENUM64. They are signed if the kind flag is set. */
  *enumValues(id: number): Generator<EnumValue> {
    const wide = this.kind(id) === BTF_KIND.ENUM64;
    if (!wide) this.#expect(id, BTF_KIND.ENUM, BTF_KIND.ENUM64);
    const signed = this.kindFlag(id);
    for (let n = 0, count = this.vlen(id); n < count; n++) {
      const at = this.#element(id, n, wide ? 3 : 2);
      const low = this.#word(id, at + 1);
      const high = wide ? this.#word(id, at + 2) : 0;
      const value = wide ? exactInteger(low, high, signed) : signed ? low | 0 : low;
      yield { name: this.string(this.#word(id, at)), value };
    }
  }

  *params(id: number): Generator<Param> {
    this.#expect(id, BTF_KIND.FUNC_PROTO);
    for (let n = 0, count = this.vlen(id); n < count; n++) {
      const at = this.#element(id, n, 2);
      yield { name: this.string(this.#word(id, at)), typeId: this.#word(id, at + 1) };
    }
  }

  *sectionVars(id: number): Generator<SectionVar> {
    this.#expect(id, BTF_KIND.DATASEC);
    for (let n = 0, count = this.vlen(id); n < count; n++) {
      const at = this.#element(id, n, 3);
      yield { typeId: this.#word(id, at), offset: this.#word(id, at + 1), size: this.#word(id, at + 2) };
    }
  }

  /** Returns the lowest id with this name and kind, or undefined. Searches the base first. The first call may build an index. */
  find(name: string, kind?: number): number | undefined {
    return name === "" ? undefined : this.#findBytes(Buffer.from(name), kind);
  }

  /** Skips typedefs, const, volatile, restrict and type tags. Throws `FormatError` if the chain is too long. */
  resolve(id: number): number {
    let current = id;
    for (let depth = 0; depth <= BTF_MAX_RESOLVE_DEPTH; depth++) {
      if (!isAlias(this.kind(current))) return current;
      current = this.referenced(current);
    }
    throw this.#error(id, `its chain of typedefs and modifiers is longer than ${BTF_MAX_RESOLVE_DEPTH}`);
  }

  /** Returns `sizeof` in bytes, at most 2^53-1; 0 for void, functions and forward declarations. */
  sizeOf(id: number): number {
    let current = id;
    let count = 1;
    for (let depth = 0; depth <= BTF_MAX_RESOLVE_DEPTH; depth++) {
      current = this.resolve(current);
      const kind = this.kind(current);
      if (kind === BTF_KIND.ARRAY) {
        const shape = this.array(current);
        count = Math.min(count * shape.count, Number.MAX_SAFE_INTEGER);
        current = shape.elementTypeId;
      } else if (kind === BTF_KIND.VAR) {
        current = this.referenced(current);
      } else {
        const size =
          kind === BTF_KIND.PTR ? POINTER_SIZE : hasStoredSize(kind) ? this.storedSize(current) : 0;
        return Math.min(count * size, Number.MAX_SAFE_INTEGER);
      }
    }
    throw this.#error(id, `arrays nest deeper than ${BTF_MAX_RESOLVE_DEPTH}`);
  }

  /**
   * Finds a member by path. `"map.id"` descends into nested structs, `"regs[3].v"` into arrays. Anonymous structs are
   * transparent. Pointers are not followed. Returns undefined if there is no such member or the index is out of range.
   */
  member(structId: number, path: string): MemberPlace | undefined {
    return findMember(this, structId, path);
  }

  /** Returns the string at a `name_off`. Bytes that are not UTF-8 become U+FFFD. Throws `FormatError` if it is out of range. */
  string(offset: number): string {
    if (offset === 0) return "";
    const known = this.#decoded.get(offset);
    if (known !== undefined) return known;
    const bytes = this.#stringBytes(offset);
    const text = bytes.toString("utf8");
    if (bytes.length <= MAX_KEPT_STRING) this.#decoded.set(offset, text);
    return text;
  }

  /** "BTF vmlinux", for messages. */
  get #format(): string {
    return this.name === "" ? "BTF" : `BTF ${this.name}`;
  }

  #findBytes(name: Uint8Array, kind: number | undefined): number | undefined {
    const inBase = this.base === undefined ? undefined : this.base.#findBytes(name, kind);
    if (inBase !== undefined) return inBase;
    this.#isSorted ??= areNamesSorted(this.#index.length, (place, other) => this.#compareNames(place, other));
    return this.#isSorted ? this.#findSorted(name, kind) : this.#findHashed(name, kind);
  }

  #findSorted(name: Uint8Array, kind: number | undefined): number | undefined {
    const words = this.#words;
    const index = this.#index;
    const strings = this.#strings;
    const firstString = this.#firstString;
    const place = findSorted(
      index.length,
      (one) => {
        const at = (words[index[one]!]! >>> 0) - firstString;
        return at < 0 ? this.base!.#compareAt(at + firstString, name) : compareName(strings, at, name);
      },
      (one) => kind === undefined || this.kind(this.firstId + one) === kind,
    );
    return place < 0 ? undefined : this.firstId + place;
  }

  #findHashed(name: Uint8Array, kind: number | undefined): number | undefined {
    const { heads, next, places } = this.#nameIndex(kind === undefined || kind === BTF_KIND.FUNC);
    for (let at = heads[hashName(name, 0) & (heads.length - 1)]!; at !== 0; at = next[at]!) {
      const place = places[at]!;
      const word = this.#index[place]!;
      if (kind !== undefined && btfKind(this.#words[word + 1]!) !== kind) continue;
      if (this.#nameEqualsAt(this.#nameAt(place), name)) return this.firstId + place;
    }
    return undefined;
  }

  #nameIndex(withFunctions: boolean): NameIndex {
    const known = this.#names.get(withFunctions);
    if (known !== undefined) return known;
    const hash = (offset: number): number => this.#hashAt(offset);
    const built = compileEarly(() =>
      buildNameIndex(this.#words, this.#index, this.#strings, this.#firstString, hash, withFunctions),
    );
    this.#names.set(withFunctions, built);
    return built;
  }

  #stringBytes(offset: number): Buffer {
    if (offset < this.#firstString) return this.base!.#stringBytes(offset);
    const start = offset - this.#firstString;
    const end = start < this.#strings.length ? this.#strings.indexOf(0, start) : -1;
    if (end < 0) throw this.#outside(`string ${offset} is outside the string section`);
    if (end - start > MAX_STRING) throw this.#outside(`string ${offset} is longer than ${MAX_STRING} bytes`);
    return this.#strings.subarray(start, end);
  }

  /** Compares the names of two types of this object. */
  #compareNames(place: number, other: number): number {
    const at = this.#nameAt(place);
    const otherAt = this.#nameAt(other);
    const owner = this.#stringOwner(at);
    const otherOwner = this.#stringOwner(otherAt);
    return compareStrings(
      owner.#strings,
      at - owner.#firstString,
      otherOwner.#strings,
      otherAt - otherOwner.#firstString,
    );
  }

  /** Returns the object (this or a base) whose string section contains the offset. */
  #stringOwner(offset: number): Btf {
    return offset < this.#firstString ? this.base!.#stringOwner(offset) : this;
  }

  #hashAt(offset: number): number {
    if (offset < this.#firstString) return this.base!.#hashAt(offset);
    return hashName(this.#strings, offset - this.#firstString);
  }

  /** Returns `btf_type.name_off` of a type of this object. */
  #nameAt(place: number): number {
    return this.#words[this.#index[place]!]! >>> 0;
  }

  #compareAt(offset: number, name: Uint8Array): number {
    if (offset < this.#firstString) return this.base!.#compareAt(offset, name);
    return compareName(this.#strings, offset - this.#firstString, name);
  }

  #nameEqualsAt(offset: number, name: Uint8Array): boolean {
    if (offset < this.#firstString) return this.base!.#nameEqualsAt(offset, name);
    return nameEquals(this.#strings, offset - this.#firstString, name);
  }

  /** Returns `btf_type.info`; 0 for void. */
  #info(id: number): number {
    const at = this.#index[id - this.firstId];
    if (at !== undefined) return this.#words[at + 1]!;
    return id === 0 ? 0 : this.#foreignWord(id, 1);
  }

  /** Returns word `n` of a type's record. The caller knows from the kind that the record has this word. */
  #word(id: number, n: number): number {
    const at = this.#index[id - this.firstId];
    return at === undefined ? this.#foreignWord(id, n) : (this.#words[at + n] ?? 0) >>> 0;
  }

  /** Returns word `n` of a type of the base. Throws `FormatError` if no object has the type. */
  #foreignWord(id: number, n: number): number {
    if (id < this.firstId && this.base !== undefined) return this.base.#word(id, n);
    throw this.#outside(
      id === 0 ? "void has no record" : `type ${id} does not exist (${this.typeCount} types)`,
    );
  }

  #element(id: number, n: number, wordsPerElement: number): number {
    if (!(n >= 0 && n < this.vlen(id))) throw this.#error(id, `it has no element ${n}`);
    return 3 + n * wordsPerElement;
  }

  #expect(id: number, kind: number, otherKind: number = kind): void {
    const actual = this.kind(id);
    if (actual === kind || actual === otherKind) return;
    throw this.#error(id, `it is a ${kindName(actual)}, not a ${kindName(kind)}`);
  }

  #error(id: number, problem: string): FormatError {
    const at = this.#index[id - this.firstId];
    const offset = this.#typeOffset + 4 * (at ?? 0);
    return new FormatError(this.#format, offset, `type ${id}: ${problem}`);
  }

  #outside(problem: string): FormatError {
    return new FormatError(this.#format, this.#typeOffset + 4 * this.#words.length, problem);
  }
}
