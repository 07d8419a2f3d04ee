/** The entries of a map as words, and the warnings of the walk. */
import { expect } from "bun:test";
import type { MapContents } from "../../src/state.ts";

export interface Walked {
  readonly pairs: string[];
  readonly skipped: Record<string, number>;
  readonly stopped: string;
  readonly complete: boolean;
}

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

export function walk(contents: MapContents): Walked {
  if (contents.kind !== "entries") throw new Error(JSON.stringify(contents));
  const { cursor } = contents;
  const pairs: string[] = [];
  while (cursor.next()) {
    const key = cursor.keyBytes.subarray(cursor.keyOffset, cursor.keyOffset + cursor.keySize);
    const value = cursor.valueBytes.subarray(cursor.valueOffset, cursor.valueOffset + cursor.valueSize);
    pairs.push(`${hex(key)}=${hex(value)}`);
  }
  expect(cursor.next()).toBe(false);
  const { skipped, stopped, complete } = cursor.end;
  return { pairs, skipped: Object.fromEntries(skipped), stopped, complete };
}
