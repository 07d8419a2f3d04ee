/** Walks of ktstr that read the same bytes as the references in C, and return the same sums. */
import type { IdrWalk } from "../src/guest/kernel/idr.ts";
import type { EntryCursor } from "../src/state.ts";
import type { Work } from "./case.ts";

/** Walks a map. Sums the first byte of each key and the last byte of each value. */
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

/** Walks a map with values per CPU, or with one value. Sums the first byte of each copy. Throws if the walk is incomplete. */
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

/** Sums the ids and page numbers of the objects in a batch of the walk. */
export function sumIdr({ ids, hi, lo }: IdrWalk, count: number): number {
  let sum = 0;
  for (let n = 0; n < count; n++) sum = (sum + ids[n]! + ((lo[n]! >>> 12) | (hi[n]! << 20))) | 0;
  return sum;
}
