/**
 * Declares the members of a kernel struct that are read, as a table. `resolve` looks up their offsets in the kernel's
 * BTF once and returns them as plain numbers:
 *
 *     const NODE = struct("xa_node", { shift: u8, slots: bytes(64 * 8) });
 *     const node = NODE.resolve(btf); // node.shift === 0, node.sizeof === 576
 */
import { KtstrError } from "../errors.ts";
import { BTF_KIND } from "../uapi/btf.ts";
import type { Btf } from "./btf.ts";
import type { MemberPlace } from "./member.ts";

/** How a member is read. The member's path is its key in the table unless `at` gives another path. */
export interface MemberSpec<Optional extends boolean = boolean> {
  /** The type's name in messages: "u32". */
  readonly type: string;
  /** Whether it is a bit-field. */
  readonly isBits: boolean;
  /** Number of bits that are read; 0 accepts any size. */
  readonly bits: number;
  /** true: the member has exactly `bits` bits. false: it has at least `bits` bits. */
  readonly exact: boolean;
  /** Paths that are tried in order. Empty: the key is the path. */
  readonly paths: readonly string[];
  readonly optional: Optional;
  /** The release that added or removed an optional member. */
  readonly note: string;
}

/** Offsets in bytes from the start of the struct (in bits for `bits(n)`). undefined: this kernel has no such member. */
export type Offsets<Required extends string, Optional extends string = never> = {
  readonly [Name in Required]: number;
} & { readonly [Name in Optional]: number | undefined } & {
  /** The struct's size in bytes. */
  readonly sizeof: number;
};

export interface StructTable<Required extends string, Optional extends string = never> {
  /** The kernel's name, without `struct`. */
  readonly name: string;
  /**
   * Returns the offsets in this kernel. The result is cached per BTF. Throws a `LayoutError` that names every member
   * that is missing or has another size.
   */
  resolve(btf: Btf): Offsets<Required, Optional>;
  /** Like `resolve`, but returns undefined if this kernel has no such struct. */
  resolveIfPresent(btf: Btf): Offsets<Required, Optional> | undefined;
}

/** A kernel's BTF does not have a declared struct or member, or has the member with another size. */
export class LayoutError extends KtstrError {}

export const u8: MemberSpec<false> = spec("u8", 8, true);
export const u16: MemberSpec<false> = spec("u16", 16, true);
export const u32: MemberSpec<false> = spec("u32", 32, true);
export const i32: MemberSpec<false> = spec("i32", 32, true);
export const u64: MemberSpec<false> = spec("u64", 64, true);
export const i64: MemberSpec<false> = spec("i64", 64, true);
export const ptr: MemberSpec<false> = spec("pointer", 64, true);
/** At least `size` bytes. */
export const bytes = (size: number): MemberSpec<false> => spec(`bytes(${size})`, size * 8, false);
/** A bit-field of exactly `count` bits. Its offset is in bits: byte `offset >>> 3`, bit `offset & 7`. */
export const bits = (count: number): MemberSpec<false> => ({
  ...spec(`bits(${count})`, count, true),
  isBits: true,
});
/** A nested struct or an array of any size; only its offset is used. */
export const place: MemberSpec<false> = spec("place", 0, false);

/** Reads the member at the first of `paths` that this kernel has, instead of at its key. */
export function at<Optional extends boolean>(
  member: MemberSpec<Optional>,
  ...paths: readonly [string, ...string[]]
): MemberSpec<Optional> {
  return { ...member, paths };
}

/** Marks a member that not every kernel has. `note` gives the first or last release with it: "since 6.9". */
export function optional(member: MemberSpec, note: string): MemberSpec<true> {
  return { ...member, optional: true, note };
}

type Specs = Readonly<Record<string, MemberSpec>>;
type OptionalKeys<S extends Specs> = { [K in keyof S]: S[K] extends MemberSpec<true> ? K : never }[keyof S] &
  string;
type RequiredKeys<S extends Specs> = Exclude<keyof S & string, OptionalKeys<S>>;

/** Declares the members to read from `struct name`, or from the struct that the typedef `name` resolves to. */
export function struct<const S extends Specs>(
  name: string,
  members: S,
): StructTable<RequiredKeys<S>, OptionalKeys<S>> {
  type Resolved = Offsets<RequiredKeys<S>, OptionalKeys<S>>;
  const known = new WeakMap<Btf, Resolved>();
  const resolveIfPresent = (btf: Btf): Resolved | undefined => {
    const before = known.get(btf);
    if (before !== undefined) return before;
    const id = findStruct(btf, name);
    if (id === undefined) return undefined;
    const offsets = resolveMembers(btf, id, name, members) as Resolved;
    known.set(btf, offsets);
    return offsets;
  };
  return {
    name,
    resolveIfPresent,
    resolve(btf) {
      const offsets = resolveIfPresent(btf);
      if (offsets === undefined)
        throw new LayoutError(`resolve struct ${name}: ${btfName(btf)} has no such struct`, { hint: HINT });
      return offsets;
    },
  };
}

const HINT = "ktstr does not support this kernel's layout or configuration.";

function spec(type: string, bitCount: number, exact: boolean): MemberSpec<false> {
  return { type, isBits: false, bits: bitCount, exact, paths: [], optional: false, note: "" };
}

const btfName = (btf: Btf): string => (btf.name === "" ? "the BTF" : `the BTF of ${btf.name}`);

function findStruct(btf: Btf, name: string): number | undefined {
  const id = btf.find(name, BTF_KIND.STRUCT) ?? btf.find(name, BTF_KIND.UNION);
  if (id !== undefined) return id;
  const alias = btf.find(name, BTF_KIND.TYPEDEF);
  return alias === undefined ? undefined : btf.resolve(alias);
}

function resolveMembers(
  btf: Btf,
  id: number,
  name: string,
  members: Specs,
): Record<string, number | undefined> {
  const offsets: Record<string, number | undefined> = { sizeof: btf.sizeOf(id) };
  const problems: string[] = [];
  for (const [key, member] of Object.entries(members)) {
    const paths = member.paths.length === 0 ? [key] : member.paths;
    const found = firstPlace(btf, id, paths);
    offsets[key] = undefined;
    if (found === undefined) {
      if (!member.optional) problems.push(`no member ${paths.join(" or ")} (${member.type})`);
      continue;
    }
    const bits = bitsOf(btf, found.place);
    const problem =
      mismatch(member, found.place, bits) || outOfBounds(found.place, bits, offsets["sizeof"] ?? 0);
    if (problem === "") offsets[key] = offsetOf(member, found.place);
    else problems.push(`${found.path}${member.note === "" ? "" : ` (${member.note})`} ${problem}`);
  }
  if (problems.length > 0)
    throw new LayoutError(`resolve struct ${name} in ${btfName(btf)}: ${problems.join("; ")}`, {
      hint: HINT,
    });
  return offsets;
}

function firstPlace(
  btf: Btf,
  id: number,
  paths: readonly string[],
): { path: string; place: MemberPlace } | undefined {
  for (const path of paths) {
    const found = btf.member(id, path);
    if (found !== undefined) return { path, place: found };
  }
  return undefined;
}

const bitsOf = (btf: Btf, { bitSize, typeId }: MemberPlace): number =>
  bitSize > 0 ? bitSize : btf.sizeOf(typeId) * 8;

/** Returns why a member cannot be read as its table declares, or "". */
function mismatch(member: MemberSpec, { bitSize }: MemberPlace, actual: number): string {
  if (member.bits === 0) return bitSize === 0 ? "" : "is a bit-field";
  const { isBits } = member;
  if (isBits !== bitSize > 0)
    return bitSize > 0 ? `is a bit-field, not ${member.type}` : "is not a bit-field";
  if (member.exact ? actual === member.bits : actual >= member.bits) return "";
  const unit = isBits ? `${actual} bits` : `${actual / 8} bytes`;
  return `has ${unit}, but is read as ${member.type}`;
}

/** Rejects a member that ends after the struct: walkers locate `sizeof` bytes and read members within them. */
function outOfBounds({ byteOffset, bitOffset }: MemberPlace, bits: number, size: number): string {
  const end = byteOffset + Math.ceil((bitOffset + bits) / 8);
  return end <= size ? "" : `ends at byte ${end} of ${size}`;
}

function offsetOf(member: MemberSpec, { byteOffset, bitOffset }: MemberPlace): number {
  return member.isBits ? byteOffset * 8 + bitOffset : byteOffset;
}
