/** Looks up layouts and constants in the kernel's own BTF, to compare src/uapi with. */
import { Btf } from "../../src/btf/btf.ts";
import { BTF_KIND } from "../../src/uapi/btf.ts";
import { vmlinuxBytes } from "../btf/support/live.ts";

let parsed: Btf | undefined;

export function kernelBtf(): Btf {
  parsed ??= Btf.parse(vmlinuxBytes(), { name: "vmlinux" });
  return parsed;
}

/** Returns offset and size in bytes of a member of a kernel struct, by its path; undefined if the kernel has no such member. */
export function kernelField(structName: string, path: string): { offset: number; size: number } | undefined {
  const id = kernelBtf().find(structName, BTF_KIND.STRUCT);
  if (id === undefined) throw new Error(`the kernel has no struct ${structName}`);
  const place = kernelBtf().member(id, path);
  return place && { offset: place.byteOffset, size: kernelBtf().sizeOf(place.typeId) };
}

/** Returns the values of a named enum, by name. */
export function kernelEnum(name: string): Map<string, number> {
  const id = kernelBtf().find(name, BTF_KIND.ENUM);
  if (id === undefined) throw new Error(`the kernel has no enum ${name}`);
  return new Map([...kernelBtf().enumValues(id)].map((item) => [item.name, Number(item.value)]));
}

/** Returns a constant of an unnamed enum, such as `BPF_F_*`; undefined if no enum has it. */
export function kernelConstant(name: string): number | undefined {
  const btf = kernelBtf();
  for (let id = 1; id < btf.typeCount; id++) {
    if (btf.kind(id) !== BTF_KIND.ENUM || btf.typeName(id) !== "") continue;
    for (const item of btf.enumValues(id)) if (item.name === name) return Number(item.value);
  }
  return undefined;
}
