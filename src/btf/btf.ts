/**
 * BTF: the types of a kernel or of a BPF object, as `/sys/kernel/btf/*`, `BPF_OBJ_GET_INFO_BY_FD` and a kernel's
 * memory hold them. Parsing walks the types once and keeps one number for each; everything else is read when asked.
 */
import { FormatError } from "../errors.ts";
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
  buildNameIndex,
  compareName,
  compareStrings,
  findSorted,
  hashName,
  type NameIndex,
  nameEquals,
  namesAscend,
} from "./names.ts";
import { parseSections } from "./parse.ts";

export interface BtfOptions {
  /** What a split BTF (a kernel module's) continues: its ids and its string offsets count on from there. */
  readonly base?: Btf | undefined;
  /** "vmlinux", a module's or a map's name: for messages. */
  readonly name?: string;
}

/** All kernels that are read are 64-bit. */
const POINTER_SIZE = 8;
/** A longer string is not a name. The kernel takes identifiers of at most 511 bytes; tags may be longer. */
const MAX_STRING = 65_536;

/**
 * Every method that takes an id throws `FormatError` where the id, or what its record refers to, does not exist.
 * Ids of the base are answered by the base. Id 0 is void, of kind UNKN.
 */
export class Btf {
  readonly base: Btf | undefined;
  readonly name: string;
  /** How many types, with the base's and with void (id 0): one more than the highest id. */
  readonly typeCount: number;
  /** The first id that is not the base's; 1 where there is no base. */
  readonly firstId: number;
  readonly #typeOffset: number;
  readonly #words: Int32Array;
  readonly #index: Int32Array;
  readonly #strings: Buffer;
  readonly #firstString: number;
  #isSorted: boolean | undefined;
  /** Where types are not sorted by name: with functions, and without. */
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
   * Reads BTF. `bytes` may lie anywhere in a larger buffer; they are kept, not copied (except for types at an odd
   * address), and must not change. Throws `FormatError` where they are not BTF; ids and string offsets inside are
   * checked when they are followed.
   */
  static parse(bytes: Uint8Array, options: BtfOptions = {}): Btf {
    return new Btf(bytes, options);
  }

  /** `BTF_KIND_*`; a kind that is newer than this reader is still a number. */
  kind(id: number): number {
    return btfKind(this.#info(id));
  }

  kindFlag(id: number): boolean {
    return btfKindFlag(this.#info(id));
  }

  /** `vlen`: how many members, values, parameters or variables follow; a FUNC's linkage. */
  vlen(id: number): number {
    return btfVlen(this.#info(id));
  }

  /** The type's name, "" where it has none. */
  typeName(id: number): string {
    return id === 0 ? "" : this.string(this.#word(id, 0));
  }

  /** The name's bytes, whatever their encoding. Shares memory with the input. */
  nameBytes(id: number): Uint8Array {
    return id === 0 ? new Uint8Array(0) : this.#stringBytes(this.#word(id, 0));
  }

  /** `btf_type.type`: what a pointer, typedef, modifier, variable, function or tag refers to; a prototype's result. */
  referenced(id: number): number {
    return this.#word(id, 2);
  }

  /** `btf_type.size` in bytes: of an INT, FLOAT, ENUM, ENUM64, STRUCT, UNION or DATASEC. */
  storedSize(id: number): number {
    return this.#word(id, 2);
  }

  /** The u32 that follows an INT (see `btfIntBits`), a VAR (its linkage) or a DECL_TAG (its component, 2^32-1: none). */
  trailer(id: number): number {
    return this.#word(id, 3);
  }

  array(id: number): ArrayShape {
    this.#expect(id, BTF_KIND.ARRAY);
    return { elementTypeId: this.#word(id, 3), indexTypeId: this.#word(id, 4), count: this.#word(id, 5) };
  }

  /** Member `n` of a struct or union. */
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
   * The number of the first member from `n` on that has this name, or no name (it may be an anonymous struct that holds
   * it); -1: there is none.
   */
  memberNamed(id: number, name: Uint8Array, n: number): number {
    if (id < this.firstId && this.base !== undefined) return this.base.memberNamed(id, name, n);
    this.#expect(id, BTF_KIND.STRUCT, BTF_KIND.UNION);
    const count = this.vlen(id);
    // Most names end elsewhere, which is seen without a call: this runs before the engine has compiled it.
    const words = this.#words;
    const endsAt = name.length - this.#firstString;
    for (let at = this.#index[id - this.firstId]! + 3 + 3 * n; n < count; n++, at += 3) {
      const offset = words[at]! >>> 0;
      if (offset === 0) return n;
      if (offset >= this.#firstString && this.#strings[offset + endsAt] !== 0) continue;
      if (this.#isAt(offset, name)) return n;
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

  /** The values of an ENUM or ENUM64, signed where the kind flag says so. */
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

  /** The lowest id with this name (and kind), the base's first; undefined: none. The first call builds an index. */
  find(name: string, kind?: number): number | undefined {
    return name === "" ? undefined : this.#findBytes(Buffer.from(name), kind);
  }

  /** Steps over typedefs, const, volatile, restrict and type tags. Throws `FormatError` where they do not end. */
  resolve(id: number): number {
    let current = id;
    for (let depth = 0; depth <= BTF_MAX_RESOLVE_DEPTH; depth++) {
      if (!isAlias(this.kind(current))) return current;
      current = this.referenced(current);
    }
    throw this.#error(id, `typedefs and modifiers do not end within ${BTF_MAX_RESOLVE_DEPTH} steps`);
  }

  /** `sizeof` in bytes, at most 2^53-1; 0 for what has no size: void, functions, forward declarations. */
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
   * A member by path: `"map.id"` steps into nested structs, anonymous ones are looked through, `"regs[3].v"` steps into
   * arrays. Pointers are not followed. undefined: there is no such member, or the index is past the array's end.
   */
  member(structId: number, path: string): MemberPlace | undefined {
    return findMember(this, structId, path);
  }

  /** The string at an offset as types give it. Bytes that are not UTF-8 become U+FFFD. Throws `FormatError` outside. */
  string(offset: number): string {
    return offset === 0 ? "" : this.#stringBytes(offset).toString("utf8");
  }

  /** "BTF vmlinux", for messages. */
  get #format(): string {
    return this.name === "" ? "BTF" : `BTF ${this.name}`;
  }

  #findBytes(name: Uint8Array, kind: number | undefined): number | undefined {
    const inBase = this.base === undefined ? undefined : this.base.#findBytes(name, kind);
    if (inBase !== undefined) return inBase;
    this.#isSorted ??= namesAscend(this.#index.length, (place, other) => this.#compareTwo(place, other));
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
      if (this.#isAt(this.#nameAt(place), name)) return this.firstId + place;
    }
    return undefined;
  }

  #nameIndex(withFunctions: boolean): NameIndex {
    const known = this.#names.get(withFunctions);
    if (known !== undefined) return known;
    const hash = (offset: number): number => this.#hashAt(offset);
    const built = buildNameIndex(
      this.#words,
      this.#index,
      this.#strings,
      this.#firstString,
      hash,
      withFunctions,
    );
    this.#names.set(withFunctions, built);
    return built;
  }

  #stringBytes(offset: number): Buffer {
    if (offset < this.#firstString) return this.base!.#stringBytes(offset);
    const start = offset - this.#firstString;
    const end = start < this.#strings.length ? this.#strings.indexOf(0, start) : -1;
    if (end < 0) throw this.#outside(`string ${offset} lies outside the string section`);
    if (end - start > MAX_STRING) throw this.#outside(`string ${offset} is longer than ${MAX_STRING} bytes`);
    return this.#strings.subarray(start, end);
  }

  /** The names of two of its own types. */
  #compareTwo(place: number, other: number): number {
    const at = this.#nameAt(place);
    const otherAt = this.#nameAt(other);
    const home = this.#homeOf(at);
    const otherHome = this.#homeOf(otherAt);
    return compareStrings(
      home.#strings,
      at - home.#firstString,
      otherHome.#strings,
      otherAt - otherHome.#firstString,
    );
  }

  /** Whose strings an offset lies in. */
  #homeOf(offset: number): Btf {
    return offset < this.#firstString ? this.base!.#homeOf(offset) : this;
  }

  #hashAt(offset: number): number {
    if (offset < this.#firstString) return this.base!.#hashAt(offset);
    return hashName(this.#strings, offset - this.#firstString);
  }

  /** `btf_type.name_off` of one of its own types. */
  #nameAt(place: number): number {
    return this.#words[this.#index[place]!]! >>> 0;
  }

  #compareAt(offset: number, name: Uint8Array): number {
    if (offset < this.#firstString) return this.base!.#compareAt(offset, name);
    return compareName(this.#strings, offset - this.#firstString, name);
  }

  #isAt(offset: number, name: Uint8Array): boolean {
    if (offset < this.#firstString) return this.base!.#isAt(offset, name);
    return nameEquals(this.#strings, offset - this.#firstString, name);
  }

  /** `btf_type.info`; void's is 0. */
  #info(id: number): number {
    const at = this.#index[id - this.firstId];
    if (at !== undefined) return this.#words[at + 1]!;
    return id === 0 ? 0 : this.#otherWord(id, 1);
  }

  /** Word `n` of a type's record. Callers know from the kind that the record has it. */
  #word(id: number, n: number): number {
    const at = this.#index[id - this.firstId];
    return at === undefined ? this.#otherWord(id, n) : (this.#words[at + n] ?? 0) >>> 0;
  }

  /** Of a type that is not its own. */
  #otherWord(id: number, n: number): number {
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
