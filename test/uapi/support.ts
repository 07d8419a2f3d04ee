/** The kernel's own BTF as the judge of what src/uapi wrote down. */
import { Btf } from "../../src/btf/btf.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import type { Field, Layout } from "../../src/uapi/layout.ts";
import { vmlinuxBytes } from "../btf/support/live.ts";

let parsed: Btf | undefined;

export function kernelBtf(): Btf {
  parsed ??= Btf.parse(vmlinuxBytes(), { name: "vmlinux" });
  return parsed;
}

/** "union bpf_attr.batch" is the union's id and the path "batch". */
function typeOf(layoutName: string): { id: number; path: string } {
  const match = /^(struct|union) (\w+)(?:\.(.+))?$/.exec(layoutName);
  if (match === null) throw new Error(`${layoutName}: not a C name`);
  const kind = match[1] === "struct" ? BTF_KIND.STRUCT : BTF_KIND.UNION;
  const id = kernelBtf().find(match[2] ?? "", kind);
  if (id === undefined) throw new Error(`the kernel has no ${match[1]} ${match[2]}`);
  return { id, path: match[3] ?? "" };
}

/** Where the kernel has a member, and its size, in bytes; undefined: it has none of that name. */
export function kernelField(
  layoutName: string,
  member: string,
): { offset: number; size: number } | undefined {
  const { id, path } = typeOf(layoutName);
  const place = kernelBtf().member(id, path === "" ? member : `${path}.${member}`);
  if (place === undefined) return undefined;
  const size = place.bitSize > 0 ? Math.ceil(place.bitSize / 8) : kernelBtf().sizeOf(place.typeId);
  return { offset: place.byteOffset, size };
}

/** A layout as the kernel has it: same names, the kernel's places. */
export function kernelLayout(layout: Layout): Record<string, { offset: number; size: number } | undefined> {
  return Object.fromEntries(Object.keys(layout.fields).map((name) => [name, kernelField(layout.name, name)]));
}

export function places(
  fields: Readonly<Record<string, Field>>,
): Record<string, { offset: number; size: number }> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, { offset, size }]) => [name, { offset, size }]),
  );
}

/** A named enum's values by name. */
export function kernelEnum(name: string): Map<string, number> {
  const id = kernelBtf().find(name, BTF_KIND.ENUM);
  if (id === undefined) throw new Error(`the kernel has no enum ${name}`);
  return new Map([...kernelBtf().enumValues(id)].map((item) => [item.name, Number(item.value)]));
}

/** One constant of an enum without a name, such as the `BPF_F_*`; undefined: no enum has it. */
export function kernelConstant(name: string): number | undefined {
  const btf = kernelBtf();
  for (let id = 1; id < btf.typeCount; id++) {
    if (btf.kind(id) !== BTF_KIND.ENUM || btf.typeName(id) !== "") continue;
    for (const item of btf.enumValues(id)) if (item.name === name) return Number(item.value);
  }
  return undefined;
}
