/** Global variables of a BPF object: the variables of a `DATASEC` in the bytes of a one-element array. */
import type { Btf } from "../btf/btf.ts";
import { KtstrError } from "../errors.ts";
import type { BpfState, MapInfo } from "../state.ts";
import { BTF_KIND } from "../uapi/btf.ts";
import { MapType } from "../uapi/names.ts";
import type { TypeRef } from "./typed.ts";

export interface Variable {
  readonly name: string;
  readonly type: TypeRef;
  /** Offset in the section, in bytes. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Whether a map holds global variables: libbpf creates arrays of one element, described by a `DATASEC`. */
export function isSection(map: MapInfo): boolean {
  return (
    map.type === MapType.array && map.maxEntries === 1 && map.btfKeyTypeId === 0 && map.btfValueTypeId !== 0
  );
}

/** Returns the variables with their bytes, in the section's order; undefined if types or bytes cannot be read. */
export function variablesOf(state: BpfState, map: MapInfo): readonly Variable[] | undefined {
  const btf = state.programBtf(map);
  const value = state.readValue(map, 0, map.valueSize);
  if (!btf.ok || !value.ok) return undefined;
  try {
    return sectionVariables(btf.value, map.btfValueTypeId, value.value);
  } catch (error) {
    if (error instanceof KtstrError) return undefined;
    throw error;
  }
}

function sectionVariables(btf: Btf, sectionId: number, bytes: Uint8Array): Variable[] | undefined {
  if (btf.kind(sectionId) !== BTF_KIND.DATASEC) return undefined;
  const variables: Variable[] = [];
  for (const { typeId, offset, size } of btf.sectionVars(sectionId)) {
    if (btf.kind(typeId) !== BTF_KIND.VAR || offset + size > bytes.length) continue;
    variables.push({
      name: btf.typeName(typeId),
      type: { btf, id: btf.referenced(typeId) },
      offset,
      bytes: bytes.subarray(offset, offset + size),
    });
  }
  return variables;
}
