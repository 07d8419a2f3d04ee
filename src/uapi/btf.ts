/**
 * The layout of BTF, the kernel's type format (include/uapi/linux/btf.h): a header, a section of types that are numbered from
 * 1 (0 is void), and a section of NUL-terminated strings.
 */
import { type Layout, layout, u8, u16, u32 } from "./layout.ts";

/** `btf_header.magic`. In BTF of the other byte order it reads as `BTF_MAGIC_SWAPPED`. */
export const BTF_MAGIC = 0xeb9f;
export const BTF_MAGIC_SWAPPED = 0x9feb;
export const BTF_VERSION = 1;

/** Section offsets are relative to the end of the header. Newer headers can be longer; `hdr_len` gives the length. */
export const BTF_HEADER: Layout<
  "magic" | "version" | "flags" | "hdr_len" | "type_off" | "type_len" | "str_off" | "str_len"
> = layout("struct btf_header", 24, {
  magic: u16(0),
  version: u8(2),
  flags: u8(3),
  hdr_len: u32(4),
  type_off: u32(8),
  type_len: u32(12),
  str_off: u32(16),
  str_len: u32(20),
});

/** End of the header since Linux 7.1: the section with the record sizes of every kind that the encoder knew. */
export const BTF_HEADER_LAYOUT: Layout<"layout_off" | "layout_len"> = layout("struct btf_header", 32, {
  layout_off: u32(24),
  layout_len: u32(28),
});

/** `struct btf_layout`: the sizes in one kind's records after `struct btf_type`. The section is indexed by kind. */
export const BTF_LAYOUT: Layout<"info_sz" | "elem_sz" | "flags"> = layout("struct btf_layout", 4, {
  info_sz: u8(0),
  elem_sz: u8(1),
  flags: u16(2),
});

export const BTF_KIND = {
  /** void only. */
  UNKN: 0,
  INT: 1,
  PTR: 2,
  ARRAY: 3,
  STRUCT: 4,
  UNION: 5,
  ENUM: 6,
  FWD: 7,
  TYPEDEF: 8,
  VOLATILE: 9,
  CONST: 10,
  RESTRICT: 11,
  FUNC: 12,
  FUNC_PROTO: 13,
  VAR: 14,
  DATASEC: 15,
  FLOAT: 16,
  DECL_TAG: 17,
  TYPE_TAG: 18,
  ENUM64: 19,
} as const;

/** Names of the kinds without prefix, indexed by number. */
export const BTF_KIND_NAMES: readonly string[] = Object.keys(BTF_KIND);

/** Size of `struct btf_type`: `name_off`, `info` and `size` or `type`. */
export const BTF_TYPE_SIZE = 12;

/**
 * Sizes after `struct btf_type` in bytes, indexed by kind: the fixed part, and each of the `vlen` elements. ARRAY: `struct
 * btf_array`. STRUCT and UNION: `struct btf_member`. ENUM: `struct btf_enum`. FUNC_PROTO: `struct btf_param`. VAR: `struct
 * btf_var`. DATASEC: `struct btf_var_secinfo`. DECL_TAG: `struct btf_decl_tag`. ENUM64: `struct btf_enum64`. FUNC stores its
 * linkage in `vlen` and has no elements.
 */
export const BTF_KIND_FIXED_SIZE: readonly number[] = [
  0, 4, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 4, 0, 0,
];
export const BTF_KIND_ELEMENT_SIZE: readonly number[] = [
  0, 0, 0, 0, 12, 12, 8, 0, 0, 0, 0, 0, 0, 8, 0, 12, 0, 0, 0, 12,
];

/**
 * `btf_type.info`. Until 7.0, `vlen` had 16 bits and `kind` had 5; the bits between them were zero. 7.1 extended both fields
 * into these bits, so the wider masks read all versions.
 */
export const btfVlen = (info: number): number => info & 0xffffff;
export const btfKind = (info: number): number => (info >>> 24) & 0x7f;
export const btfKindFlag = (info: number): boolean => info >>> 31 === 1;

/** The u32 after an INT: encoding, bit offset in the storage, number of bits. */
export const btfIntEncoding = (value: number): number => (value >>> 24) & 0x0f;
export const btfIntOffset = (value: number): number => (value >>> 16) & 0xff;
export const btfIntBits = (value: number): number => value & 0xff;

/** Flags of an INT's encoding. */
export const BTF_INT_SIGNED = 1;
export const BTF_INT_CHAR = 2;
export const BTF_INT_BOOL = 4;

/** `btf_member.offset` if the struct's kind flag is set. Without the flag, all 32 bits are the bit offset. */
export const btfMemberBitfieldSize = (value: number): number => value >>> 24;
export const btfMemberBitOffset = (value: number): number => value & 0xffffff;

/** `btf_var.linkage`. */
export const BTF_VAR_LINKAGE: readonly string[] = ["static", "global", "extern"];
/** The linkage in a FUNC's `vlen`. */
export const BTF_FUNC_LINKAGE: readonly string[] = ["static", "global", "extern"];

/** Maximum length of a chain of modifiers and typedefs in the kernel (kernel/bpf/btf.c, MAX_RESOLVE_DEPTH). */
export const BTF_MAX_RESOLVE_DEPTH = 32;
