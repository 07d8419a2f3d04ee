/** Lines of a record file as JSON: a header, then one line per round with the changes since the previous round. */
import type { Json } from "./json.ts";

export const RECORD_SCHEMA = "ktstr-record";
export const RECORD_VERSION = 1;

/** Limit on the length of a line that is read. A round of 100,000 programs and maps takes 20 MB. */
export const MAX_LINE_BYTES: number = 256 * 2 ** 20;

/** `[id, calls, run_time_ns, misses]`, as differences; `[id]`: the counters can no longer be read. */
export type ProgChange = readonly [number] | readonly [number, bigint, bigint, bigint];
/** `[id, entries, bytes]`, as absolute values; null: not known. */
export type MapChange = readonly [number, number | null, number | null];

/** A round's line. Empty members are omitted. */
export interface RoundLine {
  readonly [key: string]: Json;
  readonly at_us: number;
  readonly unix_ms: number;
  readonly pause_us?: number | undefined;
  readonly programs_removed?: readonly number[] | undefined;
  readonly programs_added?: readonly Json[] | undefined;
  readonly programs?: readonly ProgChange[] | undefined;
  readonly maps_removed?: readonly number[] | undefined;
  readonly maps_added?: readonly Json[] | undefined;
  readonly maps?: readonly MapChange[] | undefined;
  readonly links_removed?: readonly number[] | undefined;
  readonly links_added?: readonly Json[] | undefined;
  readonly sched?: Json;
  readonly globals?: { readonly [index: string]: Json } | undefined;
}
