/** Types of the elements after a `struct btf_type`: members, values, parameters, variables (include/uapi/linux/btf.h). */

/** `struct btf_member`. Offsets and sizes are in bits. `bitSize` is 0 if the member is not a bit-field. */
export interface Member {
  /** "" for an anonymous struct or union. */
  readonly name: string;
  readonly typeId: number;
  readonly bitOffset: number;
  readonly bitSize: number;
}

/** A member whose name is still a string offset; 0 if it has no name. */
export interface MemberRecord extends Omit<Member, "name"> {
  readonly nameOffset: number;
}

/** `struct btf_enum` or `struct btf_enum64`. The value is a bigint only if it does not fit in 53 bits. */
export interface EnumValue {
  readonly name: string;
  readonly value: number | bigint;
}

/** `struct btf_param`. A last parameter with type 0 and no name is the `...` of a variadic function. */
export interface Param {
  readonly name: string;
  readonly typeId: number;
}

/** `struct btf_var_secinfo`: a VAR, or in kernel modules a FUNC, in its section. Offset and size are in bytes. */
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
