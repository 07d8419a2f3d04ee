/** Types of a map's key and value, and values as text. */
import type { Btf } from "../btf/btf.ts";
import { type TextOptions, valueText } from "../btf/text.ts";
import { FormatError } from "../errors.ts";
import type { BpfState, MapInfo, Read } from "../state.ts";

/** A type id, with the BTF that contains it. */
export interface TypeRef {
  readonly btf: Btf;
  readonly id: number;
}

export interface MapTypes {
  readonly key: TypeRef | undefined;
  readonly value: TypeRef;
}

/**
 * Returns the types of a map; undefined if it has none, or they cannot be read. The value of a struct_ops map has a type of
 * the kernel or of the module that defines the operations.
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

/** Returns the reason why a map's types cannot be read; undefined if they can, or the map has none. */
export function untypedReason(state: BpfState, map: MapInfo): string | undefined {
  if (map.btfVmlinuxValueTypeId === 0 && map.btfValueTypeId === 0) return undefined;
  const btf = btfOf(state, map);
  return btf.ok ? undefined : btf.why.detail;
}

function btfOf(state: BpfState, map: MapInfo): Read<Btf> {
  if (map.btfVmlinuxValueTypeId === 0) return state.programBtf(map);
  return map.btfVmlinuxId === 0 ? state.kernelBtf() : state.btf(map.btfVmlinuxId);
}

/** Formats one value as text. */
export function text(type: TypeRef, bytes: Uint8Array, options?: TextOptions): string {
  return withFallback("<invalid type>", () => valueText(type.btf, type.id, bytes, options));
}

/** Calls `render`, and returns `otherwise` if the types are invalid. BTF comes with the object and may be hostile. */
export function withFallback<T>(otherwise: T, render: () => T): T {
  try {
    return render();
  } catch (error) {
    if (error instanceof FormatError) return otherwise;
    throw error;
  }
}
