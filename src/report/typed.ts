/** What a map's bytes mean: its key and value with their types, as bpftool's `formatted` and as text. */
import { bpftoolJson } from "../btf/bpftool.ts";
import type { Btf } from "../btf/btf.ts";
import { type TextOptions, valueText } from "../btf/text.ts";
import { type PlainValue, plainValue } from "../btf/value.ts";
import { FormatError } from "../errors.ts";
import type { BpfState, EntryCursor, MapInfo } from "../state.ts";

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
  const btf = !ofKernel
    ? state.programBtf(map)
    : map.btfVmlinuxId === 0
      ? state.kernelBtf()
      : state.btf(map.btfVmlinuxId);
  if (!btf.ok) return undefined;
  const keyId = ofKernel ? 0 : map.btfKeyTypeId;
  return {
    key: keyId === 0 ? undefined : { btf: btf.value, id: keyId },
    value: { btf: btf.value, id: valueId },
  };
}

/** `{"key":...,"value":...}` of the cursor's element: bpftool's `formatted`. */
export function formattedJson(types: MapTypes, cursor: EntryCursor): string {
  const { keyBytes, keyOffset, keySize, valueBytes, valueOffset, valueSize, valueStride, cpuCount } = cursor;
  const key =
    types.key === undefined
      ? ""
      : `"key":${json(types.key, keyBytes.subarray(keyOffset, keyOffset + keySize))},`;
  const valueAt = (at: number): string => json(types.value, valueBytes.subarray(at, at + valueSize));
  if (cpuCount === 0) return `{${key}"value":${valueAt(valueOffset)}}`;
  const values: string[] = [];
  for (let cpu = 0; cpu < cpuCount; cpu++) {
    values.push(`{"cpu":${cursor.cpus?.[cpu] ?? cpu},"value":${valueAt(valueOffset + cpu * valueStride)}}`);
  }
  return `{${key}"values":[${values.join(",")}]}`;
}

/** One value as bpftool's JSON. */
export function json(type: TypeRef, bytes: Uint8Array): string {
  return soundly("null", () => bpftoolJson(type.btf, type.id, bytes));
}

/** One value as text for people. */
export function text(type: TypeRef, bytes: Uint8Array, options?: TextOptions): string {
  return soundly("<its type is broken>", () => valueText(type.btf, type.id, bytes, options));
}

/** One value as plain data. */
export function plain(type: TypeRef, bytes: Uint8Array): PlainValue {
  return soundly(null, () => plainValue(type.btf, type.id, bytes));
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
