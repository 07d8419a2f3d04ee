import type { IdrWalk } from "../src/guest/kernel/idr.ts";
import type { EntryCursor } from "../src/state.ts";
import type { Work } from "./case.ts";

/** Walks a map and reads one byte of each key and of each value, as the references in C do. */
export function walkAll(cursor: EntryCursor): Work {
  const last = cursor.valueSize - 1;
  let items = 0;
  let checksum = 0;
  while (cursor.next()) {
    items++;
    checksum =
      (checksum + cursor.keyBytes[cursor.keyOffset]! + cursor.valueBytes[cursor.valueOffset + last]!) | 0;
  }
  return { items, checksum };
}

/** The same for each CPU's copy of a value: its first byte. Throws if the walk is incomplete. */
export function walkCopies(cursor: EntryCursor): Work {
  const copies = Math.max(1, cursor.cpuCount);
  let items = 0;
  let checksum = 0;
  while (cursor.next()) {
    for (let cpu = 0; cpu < copies; cpu++)
      checksum = (checksum + cursor.valueBytes[cursor.valueOffset + cpu * cursor.valueStride]!) | 0;
    items += copies;
  }
  if (!cursor.end.complete) throw new Error(`not everything was read: ${cursor.end.stopped}`);
  return { items, checksum };
}

/** Sums ids and the pages of addresses, as the reference in C does. */
export function sumIdr({ ids, hi, lo }: IdrWalk, count: number): number {
  let sum = 0;
  for (let n = 0; n < count; n++) sum = (sum + ids[n]! + ((lo[n]! >>> 12) | (hi[n]! << 20))) | 0;
  return sum;
}
