/** Selects elements of a map: by key, filter, order, limit, one CPU or the sum over CPUs. */

import { PathError } from "../btf/place.ts";
import { UsageError } from "../errors.ts";
import type { EntryCursor, MapContents, MapInfo, Read } from "../state.ts";
import { type CpuValue, unreadable } from "../state.ts";
import { FilterCursor, LimitCursor, PickCpuCursor, SingleCursor, SumCursor } from "./cursors.ts";
import { compileFilter, compileMember, type Predicate, type Scope } from "./filter.ts";
import type { Expression } from "./filter-parse.ts";
import { SortCursor } from "./sort.ts";
import { Summer } from "./sum.ts";

export interface Query {
  readonly limit?: number | undefined;
  readonly cpu?: number | "sum" | undefined;
  readonly filter?: { readonly source: string; readonly expression: Expression } | undefined;
  readonly sort?: { readonly path: string; readonly descending: boolean } | undefined;
}

/**
 * Wraps contents so that they return the selected elements. Nothing is read yet. `note` is called with a sentence about
 * values that cannot be summed. Throws `UsageError` if the query does not fit the map.
 */
export function applyQuery(
  contents: MapContents,
  query: Query,
  scope: Scope & { readonly map: MapInfo },
  note: (sentence: string) => void,
): MapContents {
  if (contents.kind === "unreadable") return contents;
  if (contents.kind === "entries") {
    try {
      return { kind: "entries", cursor: cursorFor(contents.cursor, query, scope, note) };
    } catch (error) {
      contents.cursor[Symbol.dispose]();
      throw error;
    }
  }
  if (query.cpu !== undefined) throw new UsageError(`--cpu: map ${scope.map.id} is not per-CPU`);
  if (contents.kind === "records") return recordsFor(contents, query, scope);
  if (query.filter !== undefined || query.sort !== undefined)
    throw new UsageError(`--filter, --sort: map ${scope.map.id} holds pages, not elements`);
  const { arena } = contents;
  const pages = arena.pages.slice(0, query.limit ?? arena.pages.length);
  return { kind: "arena", arena: { ...arena, pages } };
}

function cursorFor(
  cursor: EntryCursor,
  { limit, cpu, filter, sort }: Query,
  scope: Scope & { readonly map: MapInfo },
  note: (sentence: string) => void,
): EntryCursor {
  let current = cursor;
  if (cpu !== undefined) {
    if (cursor.cpuCount === 0) throw new UsageError(`--cpu: map ${scope.map.id} is not per-CPU`);
    current =
      cpu === "sum"
        ? new SumCursor(current, new Summer(scope.types?.value, scope.map.valueSize, note))
        : new PickCpuCursor(current, cpuIndex(cursor, cpu));
  }
  if (filter !== undefined)
    current = new FilterCursor(current, compileFilter(filter.source, filter.expression, scope));
  if (sort !== undefined) {
    const member = sortMember(sort.path, scope);
    if (current.cpuCount > 1 && !member.ofKey)
      throw new UsageError(`--sort ${sort.path}: map ${scope.map.id} is per-CPU`, {
        hint: "add --cpu sum, or --cpu N",
      });
    current = new SortCursor(current, member.read, sort.descending, limit);
  }
  return limit === undefined ? current : new LimitCursor(current, limit);
}

function sortMember(path: string, scope: Scope): ReturnType<typeof compileMember> {
  try {
    return compileMember(scope, path);
  } catch (error) {
    if (!(error instanceof PathError)) throw error;
    throw new UsageError(`--sort ${path}: ${error.message}`, { hint: error.hint });
  }
}

function cpuIndex({ cpus, cpuCount }: EntryCursor, cpu: number): number {
  const index = cpus === undefined ? (cpu < cpuCount ? cpu : -1) : cpus.indexOf(cpu);
  if (index >= 0) return index;
  const there = cpus === undefined ? `0 to ${cpuCount - 1}` : cpus.join(", ");
  throw new UsageError(`--cpu ${cpu}: there is no such CPU; this machine has ${there}`);
}

/** Selects records. All records were already read, so the end of the walk is kept. */
function recordsFor(
  { records, end }: Extract<MapContents, { kind: "records" }>,
  { limit, filter, sort }: Query,
  scope: Scope,
): MapContents {
  const none = new Uint8Array();
  const element = (value: Uint8Array): Parameters<Predicate>[0] => ({
    keyBytes: none,
    keyOffset: 0,
    valueBytes: value,
  });
  const withoutKey = { ...scope, map: { ...scope.map, keySize: 0 } };
  const whole = records.filter(({ value }) => value.length >= scope.map.valueSize);
  let shown = filter === undefined && sort === undefined ? records : whole;
  if (filter !== undefined) {
    const holds = compileFilter(filter.source, filter.expression, withoutKey);
    shown = shown.filter(({ value }) => holds(element(value), 0));
  }
  if (sort !== undefined) {
    const { read } = sortMember(sort.path, withoutKey);
    const sign = sort.descending ? -1 : 1;
    shown = shown
      .map((record) => ({ record, key: read(element(record.value), 0) }))
      .sort((a, b) => (a.key < b.key ? -sign : a.key > b.key ? sign : 0))
      .map(({ record }) => record);
  }
  return { kind: "records", records: shown.slice(0, limit ?? shown.length), end };
}

/** Wraps the element of one key as contents. */
export function singleElement(
  map: MapInfo,
  key: Uint8Array,
  value: Read<Uint8Array | readonly CpuValue[]>,
): MapContents {
  if (!value.ok) return { kind: "unreadable", why: value.why };
  if (value.value instanceof Uint8Array)
    return { kind: "entries", cursor: new SingleCursor(key, [value.value], map.valueSize, undefined) };
  const values = value.value.map((one) => one.value);
  if (values.length === 0)
    return { kind: "unreadable", why: unreadable("not-present", "no CPU has a value").why };
  const cpus = value.value.map(({ cpu }) => cpu);
  return { kind: "entries", cursor: new SingleCursor(key, values, map.valueSize, cpus) };
}
