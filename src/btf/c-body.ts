/** The definitions of a C dump: structs with their padding, enums, typedefs. */
import { FormatError } from "../errors.ts";
import { BTF_KIND, btfIntBits, btfIntOffset } from "../uapi/btf.ts";
import { Alignments } from "./align.ts";
import type { Btf } from "./btf.ts";
import { CNames, identifier } from "./c-names.ts";
import { declaration } from "./declare.ts";
import type { Member } from "./elements.ts";

/** Anonymous structs in each other. */
const MAX_DEPTH = 32;
/** Members that are written for each type: those of an anonymous struct are written wherever it is used. */
const MEMBERS_PER_TYPE = 64;
const MEMBERS_BASE = 100_000;
/** Padding that is written; a larger gap is no struct that a compiler made. */
const MAX_PADDING_BYTES = 1 << 20;

export class CBodies {
  readonly #btf: Btf;
  readonly #names: CNames;
  readonly #alignments: Alignments;
  #membersLeft: number;
  #depth = 0;

  constructor(btf: Btf) {
    this.#btf = btf;
    this.#names = new CNames(btf);
    this.#alignments = new Alignments(btf);
    this.#membersLeft = MEMBERS_BASE + MEMBERS_PER_TYPE * btf.typeCount;
  }

  /** "struct name". */
  tag(id: number): string {
    return `${this.#keyword(id)} ${this.#names.ofType(id)}`;
  }

  /** `struct name { ... }`, its inner lines indented by `indent` and a tab. */
  struct(id: number, indent: string, name: string = this.#names.ofType(id)): string {
    const btf = this.#btf;
    if (++this.#depth > MAX_DEPTH)
      throw new FormatError("BTF", 0, `type ${id}: structs nest deeper than ${MAX_DEPTH}`);
    const packed = this.#alignments.isPacked(id);
    const lines =
      btf.kind(id) === BTF_KIND.UNION ? this.#unionLines(id, indent) : this.#structLines(id, packed, indent);
    this.#depth--;
    const body =
      lines.length === 0 ? "{}" : `{\n${lines.map((line) => `${indent}\t${line};\n`).join("")}${indent}}`;
    return `${this.#keyword(id)} ${name === "" ? "" : `${name} `}${body}${packed ? " __attribute__((packed))" : ""}`;
  }

  /** Anonymous ones too stand by themselves: what is of their type is an integer of their size. */
  enumeration(id: number): string {
    const btf = this.#btf;
    const name = this.#names.ofType(id);
    const values = Array.from(btf.enumValues(id), ({ name: enumerator, value }) => {
      const suffix = btf.kind(id) === BTF_KIND.ENUM64 ? (btf.kindFlag(id) ? "LL" : "ULL") : "";
      return `\t${this.#names.enumerator(enumerator)} = ${digits(value)}${suffix},\n`;
    });
    const head = name === "" ? "enum" : `enum ${name}`;
    // Only declared in what was compiled: one enumerator makes it complete.
    if (values.length === 0)
      return `${head} { __${name === "" ? `anonymous_${id}` : name}_is_empty }${this.#mode(id)}`;
    return `${head} {\n${values.join("")}}${this.#mode(id)}`;
  }

  typedef(id: number): string {
    return `typedef ${this.declare(this.#btf.referenced(id), this.#names.ofType(id), "")}`;
  }

  declare(typeId: number, name: string, indent: string): string {
    return declaration(this.#btf, typeId, name, {
      base: (id) => this.#base(id, indent),
      identifier,
      emptyArray: "[0]",
    });
  }

  #base(id: number, indent: string): string {
    const btf = this.#btf;
    const kind = btf.kind(id);
    const named = btf.typeName(id) !== "";
    switch (kind) {
      case BTF_KIND.STRUCT:
      case BTF_KIND.UNION:
        return named ? this.tag(id) : this.struct(id, indent);
      case BTF_KIND.FWD:
        return this.tag(id);
      case BTF_KIND.ENUM:
      case BTF_KIND.ENUM64:
        return named ? this.tag(id) : sizedInteger(btf.storedSize(id), btf.kindFlag(id));
      case BTF_KIND.TYPEDEF:
        return this.#names.ofType(id);
      default:
        return named ? btf.typeName(id) : "void";
    }
  }

  #isStruct(id: number): boolean {
    const kind = this.#btf.kind(id);
    return kind === BTF_KIND.STRUCT || kind === BTF_KIND.UNION;
  }

  #keyword(id: number): string {
    const kind = this.#btf.kind(id);
    if (kind === BTF_KIND.ENUM || kind === BTF_KIND.ENUM64) return "enum";
    const union = kind === BTF_KIND.UNION || (kind === BTF_KIND.FWD && this.#btf.kindFlag(id));
    return union ? "union" : "struct";
  }

  #mode(id: number): string {
    const size = this.#btf.storedSize(id);
    const mode = size === 1 ? "QI" : size === 2 ? "HI" : size === 8 ? "DI" : "";
    return mode === "" || (size === 8 && this.#btf.kind(id) === BTF_KIND.ENUM64 && this.#isWide(id))
      ? ""
      : ` __attribute__((mode(${mode})))`;
  }

  /** Whether its values alone make the compiler choose 8 bytes. */
  #isWide(id: number): boolean {
    for (const { value } of this.#btf.enumValues(id)) {
      if (value > 0xffff_ffff || value < -0x8000_0000) return true;
    }
    return false;
  }

  #unionLines(id: number, indent: string): string[] {
    const lines: string[] = [];
    let largest = 0;
    for (const member of this.#btf.members(id)) {
      lines.push(this.#memberLine(effective(this.#btf, member), indent));
      largest = Math.max(largest, this.#btf.sizeOf(member.typeId));
    }
    const size = this.#btf.storedSize(id);
    const alignment = this.#alignments.of(id);
    if (Math.ceil(largest / alignment) * alignment < size) lines.push(`char __size[${size}]`);
    return lines;
  }

  #structLines(id: number, packed: boolean, indent: string): string[] {
    const btf = this.#btf;
    const lines: string[] = [];
    const structAlignment = this.#alignments.of(id);
    let end = 0;
    for (const stored of btf.members(id)) {
      const member = effective(btf, stored);
      const placed = packed ? end : this.#naturalOffset(member, end);
      if (placed < member.bitOffset) pad(lines, end, member.bitOffset, structAlignment);
      lines.push(this.#memberLine(member, indent));
      end = Math.max(end, member.bitOffset + (member.bitSize || btf.sizeOf(member.typeId) * 8));
    }
    const size = btf.storedSize(id) * 8;
    const unit = structAlignment * 8;
    if (Math.ceil(end / unit) * unit < size) pad(lines, end, size, structAlignment);
    return lines;
  }

  /** Where a compiler puts a member after `end` bits (System V and AAPCS rules for bit-fields). */
  #naturalOffset({ typeId, bitSize }: Member, end: number): number {
    if (bitSize === 0) {
      const unit = this.#alignments.of(typeId) * 8;
      return Math.ceil(end / unit) * unit;
    }
    const unit = this.#btf.sizeOf(typeId) * 8;
    const fits = Math.floor(end / unit) === Math.floor((end + bitSize - 1) / unit);
    return fits ? end : Math.ceil(end / unit) * unit;
  }

  #memberLine({ name, typeId, bitSize }: Member, indent: string): string {
    if (--this.#membersLeft < 0)
      throw new FormatError("BTF", 0, "its anonymous structs have too many members to write");
    // `struct tag;` without a name is a member with -fms-extensions alone, which 7.2 is built with: its members are one in any C.
    const id = name === "" ? this.#btf.resolve(typeId) : 0;
    if (id !== 0 && this.#isStruct(id)) return this.struct(id, `${indent}\t`, "");
    const text = this.declare(typeId, identifier(name), `${indent}\t`);
    return bitSize === 0 ? text : `${text}: ${bitSize}`;
  }
}

/** A member with its bit-field as later compilers write it: older ones had an INT of fewer bits for the type. */
function effective(btf: Btf, member: Member): Member {
  if (member.bitSize > 0) return member;
  const id = btf.resolve(member.typeId);
  if (btf.kind(id) !== BTF_KIND.INT) return member;
  const trailer = btf.trailer(id);
  const bits = btfIntBits(trailer);
  if (bits === btf.storedSize(id) * 8 && btfIntOffset(trailer) === 0) return member;
  return { ...member, bitOffset: member.bitOffset + btfIntOffset(trailer), bitSize: bits };
}

/** Unnamed bit-fields from bit `from` to bit `to`, in units that align the struct no further. */
function pad(lines: string[], from: number, to: number, alignment: number): void {
  if (to - from > MAX_PADDING_BYTES * 8)
    throw new FormatError("BTF", 0, "a struct with a hole of more than a megabyte");
  let at = from;
  while (at < to) {
    const inByte = at % 8;
    let bits = Math.min(8 - inByte, to - at);
    let type = "char";
    if (alignment >= 8 && at % 64 === 0 && to - at >= 64) [type, bits] = ["long", 64];
    else if (alignment >= 4 && at % 32 === 0 && to - at >= 32) [type, bits] = ["int", 32];
    lines.push(`${type}: ${bits}`);
    at += bits;
  }
}

/** C has no literal for the smallest i64 and i32. */
function digits(value: number | bigint): string {
  if (value === -0x8000_0000) return "(-2147483647 - 1)";
  return value === -0x8000_0000_0000_0000n ? "-9223372036854775807LL - 1" : String(value);
}

function sizedInteger(size: number, signed: boolean): string {
  const type = size === 1 ? "char" : size === 2 ? "short" : size === 8 ? "long long" : "int";
  return `${signed ? "signed" : "unsigned"} ${type}`;
}
