import type { EntryCursor } from "../src/state.ts";
import type { Work } from "./case.ts";

/** Goes through a map and looks at one byte of each key and of each value, as the references in C do. */
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
