/** What follows a type in BTF, element by element (include/uapi/linux/btf.h). */

/** `struct btf_member`. Offsets and sizes in bits; `bitSize` is 0 where it is not a bit-field. */
export interface Member {
  /** "" for an anonymous struct or union. */
  readonly name: string;
  readonly typeId: number;
  readonly bitOffset: number;
  readonly bitSize: number;
}

/** The same, its name as it is stored: the offset of its string, 0 where it has none. */
export interface MemberRecord extends Omit<Member, "name"> {
  readonly nameOffset: number;
}

/** `struct btf_enum` or `struct btf_enum64`: a bigint only where 53 bits do not hold it. */
export interface EnumValue {
  readonly name: string;
  readonly value: number | bigint;
}

/** `struct btf_param`; a last one with type 0 and no name is the `...` of a variadic function. */
export interface Param {
  readonly name: string;
  readonly typeId: number;
}

/** `struct btf_var_secinfo`: a variable (a VAR, in kernel modules also a FUNC) in its section. Bytes. */
export interface SectionVar {
  readonly typeId: number;
  readonly offset: number;
  readonly size: number;
}

/** `struct btf_array`. */
export interface ArrayShape {
  readonly elementTypeId: number;
  readonly indexTypeId: number;
  readonly count: number;
}
