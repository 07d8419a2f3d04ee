/** Writes the definitions of a C dump: structs with padding, enums, typedefs. */
import { FormatError } from "../errors.ts";
import { BTF_KIND, btfIntBits, btfIntOffset } from "../uapi/btf.ts";
import { Alignments } from "./align.ts";
import type { Btf } from "./btf.ts";
import { CNames, identifier } from "./c-names.ts";
import { declaration } from "./declare.ts";
import type { Member } from "./elements.ts";
import { isStruct } from "./kinds.ts";

/** Maximum nesting of anonymous structs. */
const MAX_DEPTH = 32;
/** Limit on written members, per type. The members of an anonymous struct are written at each use. */
const MEMBERS_PER_TYPE = 64;
const MEMBERS_BASE = 100_000;
/** Limit on a gap between members. Compilers do not emit larger ones. */
const MAX_PADDING_BYTES = 1 << 20;

export class CDefinitions {
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

  /** Returns the keyword and the name: "struct name". */
  tag(id: number): string {
    return `${this.#keyword(id)} ${this.#names.ofType(id)}`;
  }

  /** Returns `struct name { ... }`. Inner lines are indented by `indent` and a tab. */
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

  /** Returns `enum name { ... }`. Inner lines are indented by `indent` and a tab. */
  enumeration(id: number, indent: string): string {
    const btf = this.#btf;
    const name = this.#names.ofType(id);
    const values = Array.from(btf.enumValues(id), ({ name: enumerator, value }) => {
      const suffix = btf.kind(id) === BTF_KIND.ENUM64 ? (btf.kindFlag(id) ? "LL" : "ULL") : "";
      return `${indent}\t${this.#names.enumerator(enumerator)} = ${integerLiteral(value)}${suffix},\n`;
    });
    const head = name === "" ? "enum" : `enum ${name}`;
    // The enum was only declared. One enumerator makes it a complete type.
    if (values.length === 0)
      return `${head} { __${name === "" ? `anonymous_${id}` : name}_is_empty }${this.#mode(id)}`;
    return `${head} {\n${values.join("")}${indent}}${this.#mode(id)}`;
  }

  typedef(id: number): string {
    return `typedef ${this.declare(this.#btf.referenced(id), this.#names.ofType(id), "")}`;
  }

  /** Returns a declaration. `inline` writes the members of a struct even if it has a tag. */
  declare(typeId: number, name: string, indent: string, inline = false): string {
    return declaration(this.#btf, typeId, name, {
      base: (id) => this.#base(id, indent, inline),
      identifier,
      emptyArray: "[0]",
      typeTag: (id) => typeTag(this.#btf, id),
    });
  }

  #base(id: number, indent: string, inline: boolean): string {
    const btf = this.#btf;
    const kind = btf.kind(id);
    const named = btf.typeName(id) !== "";
    switch (kind) {
      case BTF_KIND.STRUCT:
      case BTF_KIND.UNION:
        return named && !inline ? this.tag(id) : this.struct(id, indent, "");
      case BTF_KIND.FWD:
        return this.tag(id);
      case BTF_KIND.ENUM:
      case BTF_KIND.ENUM64:
        return named ? this.tag(id) : this.enumeration(id, indent);
      case BTF_KIND.TYPEDEF:
        return this.#names.ofType(id);
      default:
        return named ? btf.typeName(id) : "void";
    }
  }

  #keyword(id: number): string {
    const kind = this.#btf.kind(id);
    if (kind === BTF_KIND.ENUM || kind === BTF_KIND.ENUM64) return "enum";
    const union = kind === BTF_KIND.UNION || (kind === BTF_KIND.FWD && this.#btf.kindFlag(id));
    return union ? "union" : "struct";
  }

  #mode(id: number): string {
    const size = this.#btf.storedSize(id);
    const mode = size === 1 ? "byte" : size === 2 ? "HI" : size === 8 ? "word" : "";
    return mode === "" || (size === 8 && this.#btf.kind(id) === BTF_KIND.ENUM64 && this.#isWide(id))
      ? ""
      : ` __attribute__((mode(${mode})))`;
  }

  /** Returns whether a value does not fit in 4 bytes, so that the compiler chooses 8 without an attribute. */
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
      lines.push(this.#memberLine(withBitSize(this.#btf, member), indent));
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
    let afterBits = false;
    for (const stored of btf.members(id)) {
      const member = withBitSize(btf, stored);
      const isBits = member.bitSize > 0;
      // A bit-field directly follows the previous member, regardless of its type.
      const alignmentBits = isBits ? 1 : packed ? 8 : this.#alignments.of(member.typeId) * 8;
      pad(lines, end, member.bitOffset, alignmentBits, isBits && afterBits);
      lines.push(this.#memberLine(member, indent));
      end = Math.max(end, member.bitOffset + (member.bitSize || btf.sizeOf(member.typeId) * 8));
      afterBits = isBits;
    }
    pad(lines, end, btf.storedSize(id) * 8, structAlignment * 8, false);
    return lines;
  }

  #memberLine({ name, typeId, bitSize }: Member, indent: string): string {
    if (--this.#membersLeft < 0)
      throw new FormatError("BTF", 0, "its anonymous structs have too many members to write");
    // An unnamed `struct tag;` is a member only with -fms-extensions, which Linux 7.2 is built with. Write the members.
    const inline = name === "" && isStruct(this.#btf.kind(this.#btf.resolve(typeId)));
    const text = this.declare(typeId, identifier(name), `${indent}\t`, inline);
    return bitSize === 0 ? text : `${text}: ${bitSize}`;
  }
}

/** Returns a member in the newer encoding of bit-fields. Older compilers give it an INT with fewer bits than its size. */
function withBitSize(btf: Btf, member: Member): Member {
  if (member.bitSize > 0) return member;
  const id = btf.resolve(member.typeId);
  if (btf.kind(id) !== BTF_KIND.INT) return member;
  const trailer = btf.trailer(id);
  const bits = btfIntBits(trailer);
  if (bits === btf.storedSize(id) * 8 && btfIntOffset(trailer) === 0) return member;
  return { ...member, bitOffset: member.bitOffset + btfIntOffset(trailer), bitSize: bits };
}

const PADS: readonly (readonly [type: string, bits: number])[] = [
  ["long", 64],
  ["int", 32],
  ["short", 16],
  ["char", 8],
];

/**
 * Fills bits `from .. to` with unnamed bit-fields before a member with this alignment. Writes the same bit-fields as
 * libbpf (tools/lib/bpf/btf_dump.c, btf_dump_emit_bit_padding).
 */
function pad(lines: string[], from: number, to: number, alignmentBits: number, inBits: boolean): void {
  if (from >= to) return;
  if (to - from > MAX_PADDING_BYTES * 8)
    throw new FormatError("BTF", 0, "a struct has a hole of more than 1 MiB");
  const [type, unit] = PADS.find(([, bits]) => roundUp(from, bits) <= to) ?? ["char", 8];
  let at = roundUp(from, unit);
  if (at > to) at = from;
  else if (at > from) {
    // `long: 0` aligns the next member. It is omitted if the compiler aligns that member anyway.
    const isNeeded =
      inBits || (at === to && roundUp(from, alignmentBits) !== at) || (at !== to && to - at <= at - from);
    if (isNeeded) lines.push(`${type}: ${inBits ? at - from : 0}`);
  }
  for (; to - at >= unit; at += unit) lines.push(`${type}: ${unit}`);
  if (at === to) return;
  const [smallest] = PADS.findLast(([, bits]) => bits >= to - at)!;
  lines.push(`${smallest}: ${to - at}`);
}

const roundUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit;

/** Returns a TYPE_TAG in clang's syntax, or "" if its name is not valid as an attribute or string. */
function typeTag(btf: Btf, id: number): string {
  const name = btf.typeName(id);
  if (!btf.kindFlag(id)) return /^[\w:. -]+$/.test(name) ? `__attribute__((btf_type_tag("${name}")))` : "";
  return /^\w+(\([\w, ]*\))?$/.test(name) ? `__attribute__((${name}))` : "";
}

/** Formats an integer. C has no literal for the smallest i64. */
function integerLiteral(value: number | bigint): string {
  return value === -0x8000_0000_0000_0000n ? "-9223372036854775807LL - 1" : String(value);
}
