/**
 * Finds `kallsyms_markers` and `kallsyms_seqs_of_names`, the indexes that kallsyms uses for lookups. VMCOREINFO does not have
 * their addresses. They are derived from the addresses of the other tables, depending on the layout.
 */
import { viewOf } from "../../uapi/layout.ts";
import type { GuestMemory, LazyBytes } from "../memory/memory.ts";
import { fromBigInt } from "../memory/pointer.ts";

/** The number of symbols and the addresses of tables in VMCOREINFO. */
export interface KnownTables {
  readonly count: number;
  readonly offsets: bigint;
  readonly base: bigint | undefined;
  readonly tokens: bigint;
}

export interface NameOrder {
  /** Symbol indexes sorted by name, as big-endian u24 (since 6.2, and in 6.1's later updates). */
  readonly sequences: LazyBytes;
  /** Offset of every 256th name. */
  readonly marks: Uint32Array;
}

/** The shortest name takes two bytes: its length and one token. */
const MIN_GROUP_BYTES = 512;

/** Yields the tables at the possible places that have a valid form. The caller verifies them by a lookup. */
export function* nameOrders(memory: GuestMemory, known: KnownTables): Generator<NameOrder> {
  const { count, offsets, base, tokens } = known;
  const sequencesBytes = 3 * count;
  // 6.1: names, markers, sequences, tokens. 6.12: markers, tokens, offsets, base, sequences. 7.2: as 6.12 without base
  // (scripts/kallsyms.c, write_src).
  const beforeTokens = tokens - BigInt(roundUp(sequencesBytes, 8));
  const places: readonly (readonly [bigint, bigint])[] =
    base === undefined
      ? [[offsets + BigInt(4 * count), tokens]]
      : [
          [base + 8n, tokens],
          [beforeTokens, beforeTokens],
        ];
  for (const [start, markersEnd] of places) {
    const marks = findMarks(memory, count, markersEnd);
    const sequences = marks === undefined ? undefined : read(memory, start, sequencesBytes);
    if (marks !== undefined && sequences !== undefined) yield { sequences, marks };
  }
}

/** Returns the markers, which end where the next table starts, except for its alignment to 4 or 8 bytes. */
function findMarks(memory: GuestMemory, count: number, end: bigint): Uint32Array | undefined {
  const groups = Math.ceil(count / 256);
  for (const padding of [0n, 4n]) {
    const table = read(memory, end - BigInt(4 * groups) - padding, 4 * groups);
    if (table === undefined) continue;
    table.need(0, 4 * groups);
    const view = viewOf(table.bytes);
    const marks = Uint32Array.from({ length: groups }, (_, group) => view.getUint32(4 * group, true));
    if (
      marks.every((mark, group) => (group === 0 ? mark === 0 : mark - marks[group - 1]! >= MIN_GROUP_BYTES))
    )
      return marks;
  }
  return undefined;
}

function read(memory: GuestMemory, address: bigint, length: number): LazyBytes | undefined {
  const { hi, lo } = fromBigInt(address);
  return memory.lazily(hi, lo, length);
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
