/** What a map's bytes mean: its key and value with their types, and as text. */
import type { Btf } from "../btf/btf.ts";
import { type TextOptions, valueText } from "../btf/text.ts";
import { FormatError } from "../errors.ts";
import type { BpfState, MapInfo, Read } from "../state.ts";

/** A type in its BTF. */
export interface TypeRef {
  readonly btf: Btf;
  readonly id: number;
}

export interface MapTypes {
  readonly key: TypeRef | undefined;
  readonly value: TypeRef;
}

/**
 * The types of a map; undefined where it was made without, or they cannot be read. A struct_ops map's value is a type
 * of the kernel or of the module that defines the ops.
 */
export function typesOf(state: BpfState, map: MapInfo): MapTypes | undefined {
  const ofKernel = map.btfVmlinuxValueTypeId !== 0;
  const valueId = ofKernel ? map.btfVmlinuxValueTypeId : map.btfValueTypeId;
  if (valueId === 0) return undefined;
  const btf = btfOf(state, map);
  if (!btf.ok) return undefined;
  const keyId = ofKernel ? 0 : map.btfKeyTypeId;
  return {
    key: keyId === 0 ? undefined : { btf: btf.value, id: keyId },
    value: { btf: btf.value, id: valueId },
  };
}

/** Why a map that was made with types is shown without them; undefined: it was made without, or they are there. */
export function whyUntyped(state: BpfState, map: MapInfo): string | undefined {
  if (map.btfVmlinuxValueTypeId === 0 && map.btfValueTypeId === 0) return undefined;
  const btf = btfOf(state, map);
  return btf.ok ? undefined : btf.why.detail;
}

function btfOf(state: BpfState, map: MapInfo): Read<Btf> {
  if (map.btfVmlinuxValueTypeId === 0) return state.programBtf(map);
  return map.btfVmlinuxId === 0 ? state.kernelBtf() : state.btf(map.btfVmlinuxId);
}

/** One value as text for people. */
export function text(type: TypeRef, bytes: Uint8Array, options?: TextOptions): string {
  return soundly("<its type is broken>", () => valueText(type.btf, type.id, bytes, options));
}

/** Types come with the object and may be hostile: a value without a sound one has no meaning, the bytes still do. */
export function soundly<T>(otherwise: T, render: () => T): T {
  try {
    return render();
  } catch (error) {
    if (error instanceof FormatError) return otherwise;
    throw error;
  }
}
