/** What a map's bytes mean, as bpftool's `formatted` and as plain data. */
import { bpftoolJson, bpftoolPlain } from "../btf/bpftool.ts";
import { type PlainValue, plainValue } from "../btf/value.ts";
import type { EntryCursor } from "../state.ts";
import { type MapTypes, soundly, type TypeRef } from "./typed.ts";

/** One value in one of bpftool's notations. */
export type ValueWriter = (type: TypeRef, bytes: Uint8Array) => string;

/** `{"key":...,"value":...}` of the cursor's element: bpftool's `formatted`. */
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

/** One value as bpftool's JSON. */
export function json(type: TypeRef, bytes: Uint8Array): string {
  return soundly("null", () => bpftoolJson(type.btf, type.id, bytes));
}

/** One value as bpftool writes it without `-j`. */
export function bpftoolText(type: TypeRef, bytes: Uint8Array): string {
  return soundly("null", () => bpftoolPlain(type.btf, type.id, bytes));
}

/** One value as plain data. */
export function plain(type: TypeRef, bytes: Uint8Array): PlainValue {
  return soundly(null, () => plainValue(type.btf, type.id, bytes));
}
