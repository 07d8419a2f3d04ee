/** What a map's bytes mean, as bpftool's `formatted` and as plain data. */
import { bpftoolJson } from "../btf/bpftool.ts";
import { type PlainValue, plainValue } from "../btf/value.ts";
import type { EntryCursor } from "../state.ts";
import { type MapTypes, soundly, type TypeRef } from "./typed.ts";

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

/** One value as plain data. */
export function plain(type: TypeRef, bytes: Uint8Array): PlainValue {
  return soundly(null, () => plainValue(type.btf, type.id, bytes));
}
