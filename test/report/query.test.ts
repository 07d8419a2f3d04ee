/** Filters, orders, limits and CPUs of a map's elements. */
import { describe, expect, test } from "bun:test";
import { UsageError } from "../../src/errors.ts";
import { parseFilter } from "../../src/report/filter-parse.ts";
import { applyQuery, type Query } from "../../src/report/query.ts";
import { SortCursor } from "../../src/report/sort.ts";
import { plain } from "../../src/report/typed-json.ts";
import type { EntryCursor, MapContents } from "../../src/state.ts";
import {
  elementsInfo,
  elementTypes,
  keysOf,
  ListCursor,
  u32Bytes,
  type Value,
  valueBytes,
} from "./support/elements.ts";

const types = elementTypes();

function query(cursor: EntryCursor, wanted: Query, note = (_: string): void => {}): EntryCursor {
  const contents = applyQuery({ kind: "entries", cursor }, wanted, { map: elementsInfo(), types }, note);
  if (contents.kind !== "entries") throw new Error(contents.kind);
  return contents.cursor;
}

const list = (...values: Value[]): ListCursor =>
  new ListCursor(values.map((value, key) => [u32Bytes(key), [valueBytes(value)]]));
const perCpu = (cpus: readonly number[], ...values: readonly Value[][]): ListCursor =>
  new ListCursor(
    values.map((copies, key) => [u32Bytes(key), copies.map(valueBytes)]),
    cpus,
  );
const filter = (source: string): Query => ({ filter: { source, expression: parseFilter(source) } });
const by = (path: string, descending = false): Query => ({ sort: { path, descending } });

describe("a limit", () => {
  test("reads only the elements that it shows, and the walk is complete", () => {
    const inner = list({}, {}, {});
    const cursor = query(inner, { limit: 2 });
    expect(keysOf(cursor)).toEqual([0, 1]);
    expect(inner.steps).toBe(2);
    expect(cursor.end.complete).toBe(true);
    expect(keysOf(query(list({}), { limit: 0 }))).toEqual([]);
    expect(keysOf(query(list({}), { limit: 5 }))).toEqual([0]);
  });

  test("counts elements that match the filter", () => {
    const cursor = query(list({ delta: 1 }, {}, { delta: 1 }, { delta: 1 }), {
      ...filter("delta == 1"),
      limit: 2,
    });
    expect(keysOf(cursor)).toEqual([0, 2]);
  });
});

describe("a filter", () => {
  test("matches a per-CPU element if it matches on any CPU", () => {
    const cursor = query(
      perCpu([0, 1], [{ delta: 1 }, { delta: 2 }], [{ delta: 3 }, { delta: 4 }]),
      filter("delta == 2"),
    );
    expect(keysOf(cursor)).toEqual([0]);
  });

  test("counts and reports elements whose value could not be read", () => {
    const inner = new ListCursor([
      [u32Bytes(0), [valueBytes({ on: true })]],
      [u32Bytes(1), []],
    ]);
    const cursor = query(inner, filter("on"));
    expect(keysOf(cursor)).toEqual([0]);
    expect(cursor.end.complete).toBe(false);
    expect([...cursor.end.skipped.values()]).toEqual([1]);
  });
});

describe("sorting", () => {
  test("by numbers above 53 bits, by text, descending; equal elements stay in the map's order", () => {
    const values = [{ runs: 2n ** 63n + 1n }, { runs: 3n }, { runs: 2n ** 63n }, { runs: 3n }];
    expect(keysOf(query(list(...values), by("runs")))).toEqual([1, 3, 2, 0]);
    expect(keysOf(query(list(...values), by("runs", true)))).toEqual([0, 2, 1, 3]);
    expect(keysOf(query(list({ comm: "b" }, { comm: "a" }), by("comm")))).toEqual([1, 0]);
    expect(keysOf(query(list({}, {}, {}), by("key", true)))).toEqual([2, 1, 0]);
  });

  test("with a limit keeps only that many elements, the first ones of a full sort", () => {
    let seed = 7;
    const values = Array.from({ length: 5000 }, () => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return { delta: (seed >>> 8) % 1000, runs: BigInt(seed) };
    });
    const order = values
      .map((value, key) => ({ key, ...value }))
      .sort((a, b) => b.delta - a.delta || a.key - b.key);
    for (const limit of [1, 2, 10, 4999, 5000, 6000]) {
      const cursor = query(list(...values), { ...by("delta", true), limit });
      expect(keysOf(cursor)).toEqual(order.slice(0, limit).map(({ key }) => key));
      expect(cursor.end.complete).toBe(true);
    }
  });

  test("that exceeds its memory limit shows the first elements and reports it", () => {
    const inner = list({}, {}, {}, {}, {}, {});
    const cursor = new SortCursor(inner, ({ keyBytes }) => 9 - keyBytes[0]!, false, undefined, 3 * (4 + 32));
    expect(keysOf(cursor)).toEqual([5, 4, 3]);
    expect(cursor.end.complete).toBe(false);
    expect(cursor.end.stopped).toContain("only the first 3 of 6 elements");
  });

  test("by a per-CPU value needs one CPU, or the sum", () => {
    const cursor = (): ListCursor =>
      perCpu([0, 1], [{ delta: 2 }, { delta: 2 }], [{ delta: 3 }, { delta: -1 }]);
    expect(() => query(cursor(), by("delta"))).toThrow(UsageError);
    expect(keysOf(query(cursor(), { ...by("delta"), cpu: "sum" }))).toEqual([1, 0]);
    expect(keysOf(query(cursor(), { ...by("delta"), cpu: 0 }))).toEqual([0, 1]);
    expect(keysOf(query(cursor(), by("key", true)))).toEqual([1, 0]);
  });
});

describe("CPUs", () => {
  const sumOf = (values: Value[], note?: (sentence: string) => void): unknown => {
    const cursor = query(
      perCpu(
        values.map((_, cpu) => cpu),
        values,
      ),
      { cpu: "sum" },
      note,
    );
    cursor.next();
    expect(cursor.cpuCount).toBe(0);
    return plain(
      types.value,
      cursor.valueBytes.subarray(cursor.valueOffset, cursor.valueOffset + cursor.valueSize),
    );
  };

  test("are selected by number, even if the numbers have gaps", () => {
    const cursor = query(perCpu([0, 4], [{ delta: 1 }, { delta: 2 }]), { cpu: 4 });
    expect(cursor.next()).toBe(true);
    expect([cursor.cpuCount, cursor.cpus]).toEqual([1, [4]]);
    expect(cursor.valueBytes[cursor.valueOffset + 8]).toBe(2);
    expect(() => query(perCpu([0, 4], [{}, {}]), { cpu: 1 })).toThrow(
      "--cpu 1: there is no such CPU; this machine has 0, 4",
    );
  });

  test("summed: integers saturate in their own width and sign; a bool is true if any is", () => {
    const sum = sumOf([
      { runs: 2n ** 63n, delta: -5, flags: 3, on: false, tags: [200, 1] },
      { runs: 2n ** 63n, delta: 3, flags: 3, on: true, tags: [100, 2] },
    ]);
    expect(sum).toMatchObject({
      runs: 2n ** 64n - 1n,
      delta: -2,
      flags: 6,
      on: true,
      in: [{ tag: 255 }, { tag: 3 }],
    });
    expect(sumOf([{ delta: -(2 ** 31) }, { delta: -1 }])).toMatchObject({ delta: -(2 ** 31) });
    expect(sumOf([{ flags: 7 }, { flags: 7 }])).toMatchObject({ flags: 7 });
    expect(sumOf([{ runs: 2n ** 53n }, { runs: 1n }, { runs: 1n }])).toMatchObject({ runs: 2n ** 53n + 2n });
  });

  test("summed: other values are shown if all CPUs agree, else the first, with one warning", () => {
    const told: string[] = [];
    expect(
      sumOf(
        [
          { comm: "a", mood: -3 },
          { comm: "a", mood: -3 },
        ],
        (note) => told.push(note),
      ),
    ).toMatchObject({
      comm: "a",
      mood: "CROSS",
    });
    expect(told).toEqual([]);
    sumOf([{ comm: "a" }, { comm: "b" }], (note) => told.push(note));
    expect(told).toEqual([
      "--cpu sum: comm cannot be summed and differs between CPUs: the first CPU's value is shown",
    ]);
  });

  test("are for per-CPU maps only", () => {
    expect(() => query(list({}), { cpu: "sum" })).toThrow("map 7 is not per-CPU");
  });
});

test("a cursor is closed if the query is refused", () => {
  const inner = list({});
  expect(() => query(inner, by("nothing"))).toThrow(UsageError);
  expect(inner.disposed).toBe(true);
});

test("records have no key to sort by", () => {
  const records: MapContents = {
    kind: "records",
    records: [{ value: valueBytes({ delta: 1 }) }],
    end: { complete: true, stopped: "", skipped: new Map() },
  };
  expect(() => applyQuery(records, by("key"), { map: elementsInfo(), types }, () => {})).toThrow(UsageError);
});

test("records are filtered, ordered and limited by their values", () => {
  const records: MapContents = {
    kind: "records",
    records: [3, 1, 2].map((delta) => ({ value: valueBytes({ delta }) })),
    end: { complete: true, stopped: "", skipped: new Map() },
  };
  const shown = applyQuery(
    records,
    { ...filter("delta > 1"), ...by("delta"), limit: 1 },
    { map: elementsInfo(), types },
    () => {},
  );
  if (shown.kind !== "records") throw new Error(shown.kind);
  expect(shown.records.map(({ value }) => value[8])).toEqual([2]);
});
