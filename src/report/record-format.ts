/** The lines of a record file as JSON: a header, then a line a round that tells what changed since the round before. */
import type { Json } from "./json.ts";

export const RECORD_SCHEMA = "ktstr-record";
export const RECORD_VERSION = 1;

/** Longer lines are not read: a round of 100,000 programs and maps has 20 MB. */
export const MAX_LINE_BYTES: number = 256 * 2 ** 20;

/** `[id, calls, run_time_ns, misses]`, each as much as was added since; `[id]`: its counters can be read no more. */
export type ProgChange = readonly [number] | readonly [number, bigint, bigint, bigint];
/** `[id, entries, bytes]`, as they are now; null: not known. */
export type MapChange = readonly [number, number | null, number | null];

/** A round's line. Members without anything in them are left out. */
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
