/** Values as bpftool's `formatted` JSON, and as plain data. */
import { bpftoolJson, bpftoolPlain } from "../btf/bpftool.ts";
import { type PlainValue, plainValue } from "../btf/value.ts";
import type { EntryCursor } from "../state.ts";
import { type MapTypes, type TypeRef, withFallback } from "./typed.ts";

/** Formats one value in one of bpftool's notations. */
export type ValueWriter = (type: TypeRef, bytes: Uint8Array) => string;

/** Formats the cursor's current element as bpftool's `formatted`: `{"key":...,"value":...}`. */
export function formattedJson(types: MapTypes, cursor: EntryCursor, write: ValueWriter = json): string {
  const { keyBytes, keyOffset, keySize, valueBytes, valueOffset, valueSize, valueStride, cpuCount } = cursor;
  const key =
    types.key === undefined
      ? ""
      : `"key":${write(types.key, keyBytes.subarray(keyOffset, keyOffset + keySize))},`;
  const valueAt = (at: number): string => write(types.value, valueBytes.subarray(at, at + valueSize));
  if (cpuCount === 0) return `{${key}"value":${valueAt(valueOffset)}}`;
  const values: string[] = [];
  for (let cpu = 0; cpu < cpuCount; cpu++) {
    values.push(`{"cpu":${cursor.cpus?.[cpu] ?? cpu},"value":${valueAt(valueOffset + cpu * valueStride)}}`);
  }
  return `{${key}"values":[${values.join(",")}]}`;
}

/** Formats one value as bpftool's JSON. */
export function json(type: TypeRef, bytes: Uint8Array): string {
  return withFallback("null", () => bpftoolJson(type.btf, type.id, bytes));
}

/** Formats one value as bpftool does without `-j`. */
export function bpftoolText(type: TypeRef, bytes: Uint8Array): string {
  return withFallback("null", () => bpftoolPlain(type.btf, type.id, bytes));
}

/** Converts one value to plain data. */
export function plain(type: TypeRef, bytes: Uint8Array): PlainValue {
  return withFallback(null, () => plainValue(type.btf, type.id, bytes));
}
