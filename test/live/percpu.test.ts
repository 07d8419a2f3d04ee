/** Per-CPU values, and single look-ups, on a fake kernel that checks the sizes of buffers. */
import { describe, expect, test } from "bun:test";
import { KtstrError } from "../../src/errors.ts";
import { openLive } from "../../src/live/live.ts";
import type { CpuValue, MapInfo, Read } from "../../src/state.ts";
import { ENOENT, EPERM } from "../../src/uapi/errno.ts";
import { MapType } from "../../src/uapi/names.ts";
import { FakeKernel } from "./fake.ts";

/** 6 possible CPUs, 2 of them online: a buffer for the online CPUs alone would overflow. */
function sparseMachine(): FakeKernel {
  const kernel = new FakeKernel();
  kernel.possibleCpus = 6;
  kernel.files.set("/sys/devices/system/cpu/possible", "0-3,8-9\n");
  kernel.files.set("/sys/devices/system/cpu/online", "0,8\n");
  return kernel;
}

const CPUS = [0, 1, 2, 3, 8, 9];

describe("a per-CPU look-up has a buffer for every possible CPU", () => {
  for (const valueSize of [1, 4, 7, 8, 9, 12, 24, 4096]) {
    test(`of values of ${valueSize} bytes, at the rounded stride, cut to the value`, () => {
      const kernel = sparseMachine();
      kernel.addMap({ id: 1, type: MapType.percpu_array, valueSize, maxEntries: 3 }).putAll(3);
      using live = openLive({ sys: kernel });
      const [map] = live.maps();
      const read = live.percpuArray(map!, 2);
      expect(read.ok).toBe(true);
      const values = (read as Extract<typeof read, { ok: true }>).value;
      expect(values.map(({ cpu }) => cpu)).toEqual(CPUS);
      values.forEach(({ value }, slot) => {
        const expected = new Uint8Array(valueSize).fill(2);
        expected[0] = slot;
        expect(value).toEqual(expected);
      });
      expect(kernel.overflows).toEqual([]);
    });
  }

  for (const type of ["percpu_hash", "lru_percpu_hash", "percpu_array"] as const) {
    for (const batches of [true, false]) {
      test(`in a walk over a ${type}, ${batches ? "in batches" : "key by key"}`, () => {
        const kernel = sparseMachine();
        kernel.addMap({ id: 1, type: MapType[type], valueSize: 12, maxEntries: 50 }).putAll(50);
        if (!batches) kernel.fail("BPF_MAP_LOOKUP_BATCH", 524);
        using live = openLive({ sys: kernel });
        const contents = live.contents(live.maps()[0] as MapInfo);
        if (contents.kind !== "entries") throw new Error("entries expected");
        using cursor = contents.cursor;
        expect([cursor.cpuCount, cursor.valueStride]).toEqual([6, 16]);
        let key = 0;
        for (; cursor.next(); key++) {
          for (let slot = 0; slot < 6; slot++) {
            const at = cursor.valueOffset + slot * 16;
            expect([...cursor.valueBytes.subarray(at, at + 12)]).toEqual([slot, ...Array(11).fill(key)]);
          }
        }
        expect(key).toBe(50);
        expect(kernel.overflows).toEqual([]);
      });
    }
  }

  test("and the fake kernel detects a smaller buffer", () => {
    const kernel = sparseMachine();
    kernel.files.set("/sys/devices/system/cpu/possible", "0-1\n");
    kernel.addMap({ id: 1, type: MapType.percpu_array, valueSize: 8 }).putAll(1);
    using live = openLive({ sys: kernel });
    live.percpuArray(live.maps()[0] as MapInfo, 0);
    expect(kernel.overflows).toEqual(["value: 32 bytes past a buffer of 16"]);
  });
});

describe("the machine's lists of CPUs", () => {
  const read = (possible: string | undefined): (() => Read<readonly CpuValue[]>) => {
    const kernel = new FakeKernel();
    kernel.possibleCpus = 0;
    if (possible === undefined) kernel.files.delete("/sys/devices/system/cpu/possible");
    else kernel.files.set("/sys/devices/system/cpu/possible", possible);
    kernel.addMap({ id: 1, type: MapType.percpu_array }).putAll(1);
    return () => {
      using live = openLive({ sys: kernel });
      return live.percpuArray(live.maps()[0] as MapInfo, 0);
    };
  };

  for (const [list, cpus] of [
    ["0\n", [0]],
    ["0-3\n", [0, 1, 2, 3]],
    ["0,2,4-5\n", [0, 2, 4, 5]],
    ["0-1,63", [0, 1, 63]],
  ] as const) {
    test(`${JSON.stringify(list)} are the CPUs ${cpus.join(", ")}`, () => {
      const answer = read(list)();
      expect(answer.ok && answer.value.map(({ cpu }) => cpu)).toEqual([...cpus]);
    });
  }

  for (const list of ["", "\n", "x", "0-", "3-1", "0--2", "0-70000", "-1", "0,,1", "1e3", "0x4"]) {
    test(`${JSON.stringify(list)} is not a list of CPUs, and none is guessed`, () => {
      expect(read(list)).toThrow(KtstrError);
    });
  }

  test("an unreadable list is an error that says what to mount", () => {
    expect(read(undefined)).toThrow("/sys/devices/system/cpu/possible");
  });

  test("maps without per-CPU values do not need the list", () => {
    const kernel = new FakeKernel();
    kernel.files.clear();
    kernel.addMap({ id: 1 }).putAll(2);
    kernel.addMap({ id: 2, type: MapType.array }).putAll(2);
    using live = openLive({ sys: kernel });
    for (const map of live.maps()) expect(live.contents(map).kind).toBe("entries");
  });
});

describe("single reads are checked before the system call", () => {
  const setUp = (
    type: number,
    valueSize = 8,
  ): { kernel: FakeKernel; ask: ReturnType<typeof openLive>; map: MapInfo } => {
    const kernel = new FakeKernel();
    kernel.addMap({ id: 1, type, valueSize, maxEntries: 4 }).putAll(4);
    const ask = openLive({ sys: kernel });
    return { kernel, ask, map: ask.maps()[0] as MapInfo };
  };
  const reason = (read: Read<unknown>): string => (read.ok ? "ok" : read.why.reason);

  test("a key at or past max_entries, negative or fractional", () => {
    for (const type of [MapType.array, MapType.percpu_array]) {
      const { kernel, ask, map } = setUp(type);
      using live = ask;
      const read = (key: number): Read<unknown> =>
        type === MapType.array ? live.readArray(map, key) : live.percpuArray(map, key);
      expect(reason(read(3))).toBe("ok");
      const asked = kernel.calls.length;
      for (const key of [4, 5, 2 ** 32, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
        expect([key, reason(read(key))]).toEqual([key, "out-of-range"]);
      }
      expect(kernel.calls.length).toBe(asked);
    }
  });

  test("bytes outside the value", () => {
    const { kernel, ask, map } = setUp(MapType.array, 10);
    using live = ask;
    expect(live.readValue(map, 8, 2)).toEqual({ ok: true, value: new Uint8Array(2) });
    expect(live.readValue(map, 10, 0)).toEqual({ ok: true, value: new Uint8Array(0) });
    const asked = kernel.calls.length;
    for (const [offset, length] of [
      [8, 3],
      [-1, 1],
      [0, -1],
      [11, 0],
      [0, 11],
      [0.5, 1],
      [Number.NaN, 1],
      [0, Number.NaN],
      [2 ** 53, 1],
    ] as const) {
      const read = live.readValue(map, offset, length);
      expect([offset, length, reason(read)]).toEqual([offset, length, "out-of-range"]);
    }
    expect(kernel.calls.length).toBe(asked);
  });

  test("the wrong type of map", () => {
    const { kernel, ask, map } = setUp(MapType.queue);
    using live = ask;
    const asked = kernel.calls.length;
    for (const read of [
      live.readValue(map, 0, 1),
      live.readArray(map, 0),
      live.hashEntries(map),
      live.percpuArray(map, 0),
      live.percpuHashEntries(map),
      live.arenaPages(map),
    ]) {
      expect(reason(read)).toBe("wrong-type");
    }
    expect(kernel.calls.length).toBe(asked);
  });

  test("a key of another size, and a missing key", () => {
    const { ask, map, kernel } = setUp(MapType.hash);
    using live = ask;
    expect(reason(live.lookup(map, new Uint8Array(3)))).toBe("out-of-range");
    expect(reason(live.lookup(map, new Uint8Array(0)))).toBe("out-of-range");
    expect(live.lookup(map, Uint8Array.of(3, 0, 0, 0))).toEqual({
      ok: true,
      value: new Uint8Array(8).fill(3),
    });
    expect(live.lookup(map, Uint8Array.of(9, 0, 0, 0))).toMatchObject({
      ok: false,
      why: { reason: "not-present", detail: "BPF_MAP_LOOKUP_ELEM: ENOENT: No such file or directory" },
    });
    kernel.fail("BPF_MAP_LOOKUP_ELEM", EPERM);
    expect(reason(live.lookup(map, Uint8Array.of(3, 0, 0, 0)))).toBe("not-permitted");
  });

  test("a per-CPU look-up by key returns every CPU, for any value size", () => {
    for (const valueSize of [4, 8, 12]) {
      const kernel = new FakeKernel();
      kernel.possibleCpus = 1;
      kernel.files.set("/sys/devices/system/cpu/possible", "0\n");
      kernel.addMap({ id: 1, type: MapType.percpu_hash, valueSize }).putAll(2);
      using live = openLive({ sys: kernel });
      const read = live.lookup(live.maps()[0] as MapInfo, Uint8Array.of(1, 0, 0, 0));
      const value = new Uint8Array(valueSize).fill(1);
      value[0] = 0;
      expect(read).toEqual({ ok: true, value: [{ cpu: 0, value }] });
    }
  });

  test("errors of a single look-up never look like an empty value", () => {
    const { ask, map, kernel } = setUp(MapType.array);
    using live = ask;
    kernel.fail("BPF_MAP_LOOKUP_ELEM", ENOENT);
    expect(reason(live.readArray(map, 0))).toBe("not-present");
    expect(reason(live.readValue(map, 0, 4))).toBe("not-present");
  });
});
