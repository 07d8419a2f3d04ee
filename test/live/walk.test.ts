/** Walks over maps by batches and by keys, on a fake kernel. */
import { describe, expect, test } from "bun:test";
import { DisposedError } from "../../src/errors.ts";
import { openLive } from "../../src/live/live.ts";
import type { EntryCursor, MapInfo } from "../../src/state.ts";
import {
  EFAULT,
  EINTR,
  EINVAL,
  EMFILE,
  ENOENT,
  ENOMEM,
  ENOTSUPP,
  EOPNOTSUPP,
  EPERM,
} from "../../src/uapi/errno.ts";
import { MapType } from "../../src/uapi/names.ts";
import { FakeKernel } from "./fake.ts";
import type { FakeMap, FakeMapOptions } from "./fake-map.ts";

interface Walked {
  readonly keys: number[];
  readonly values: number[][];
  readonly missing: string[];
  readonly end: EntryCursor["end"];
}

/** Reads a cursor to its end, with a bound on the number of elements. */
function drain(walk: EntryCursor): Walked {
  using cursor = walk;
  const result: Omit<Walked, "end"> = { keys: [], values: [], missing: [] };
  while (cursor.next()) {
    if (result.keys.length > 1_000_000) throw new Error("the walk does not end");
    const key = new DataView(cursor.keyBytes.buffer, cursor.keyBytes.byteOffset + cursor.keyOffset);
    result.keys.push(key.getUint32(0, true));
    const value: number[] = [];
    for (let copy = 0; copy < Math.max(1, cursor.cpuCount); copy++) {
      value.push(
        cursor.valueBytes[cursor.valueOffset + copy * cursor.valueStride + cursor.valueSize - 1] ?? -1,
      );
    }
    result.values.push(value);
    if (cursor.valueMissing !== "") result.missing.push(cursor.valueMissing);
  }
  expect(cursor.next()).toBe(false); // a cursor stays at its end
  return { ...result, end: cursor.end };
}

function setUp(options: Partial<FakeMapOptions> = {}): {
  kernel: FakeKernel;
  map: FakeMap;
  walk: () => Walked;
} {
  const kernel = new FakeKernel();
  const map = kernel.addMap({ id: 1, ...options });
  const walk = (): Walked => {
    using live = openLive({ sys: kernel });
    const contents = live.contents(live.maps()[0] as MapInfo);
    if (contents.kind !== "entries") throw new Error(`${contents.kind}, not entries`);
    return drain(contents.cursor);
  };
  return { kernel, map, walk };
}

const firstIntegers = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
const whole = { complete: true, stopped: "", skipped: new Map() };

describe("a hash is walked in batches", () => {
  test("every element once, in the necessary number of calls", () => {
    const { kernel, map, walk } = setUp({ maxEntries: 100_000 });
    map.putAll(40_000);
    const { keys, values, end } = walk();
    expect(keys).toEqual(firstIntegers(40_000));
    expect(values.every(([value], key) => value === (key & 0xff))).toBe(true);
    expect(end).toEqual(whole);
    expect(kernel.countOf("BPF_MAP_LOOKUP_BATCH")).toBeLessThan(10);
    expect(kernel.countOf("BPF_MAP_LOOKUP_ELEM")).toBe(0);
    expect(kernel.overflows).toEqual([]);
  });

  test("the first call has a NULL in_batch, and only the first", () => {
    const { kernel, map, walk } = setUp({ maxEntries: 100_000 });
    map.putAll(40_000);
    const positions: boolean[] = [];
    kernel.before = (command, attr) => {
      if (command === "BPF_MAP_LOOKUP_BATCH") positions.push(attr.pointee("in_batch") !== undefined);
    };
    walk();
    expect(positions.length).toBeGreaterThan(2);
    expect(positions).toEqual(positions.map((_, call) => call > 0));
  });

  test("an empty one is complete", () => {
    const { kernel, walk } = setUp();
    expect(walk()).toEqual({ keys: [], values: [], missing: [], end: whole });
    expect(kernel.countOf("BPF_MAP_LOOKUP_BATCH")).toBe(1);
  });

  test("the call that ends the walk can return the last elements", () => {
    const { map, walk } = setUp({ maxEntries: 16 });
    map.putAll(16);
    expect(walk().keys).toEqual(firstIntegers(16));
  });

  test("values of an odd size follow each other without padding", () => {
    const { kernel, map, walk } = setUp({ valueSize: 3 });
    map.putAll(50);
    expect(walk().values).toEqual(firstIntegers(50).map((key) => [key]));
    expect(kernel.overflows).toEqual([]);
  });

  test("ENOSPC, a bucket larger than the buffer, is answered with a larger buffer", () => {
    const { kernel, map, walk } = setUp({ maxEntries: 4096, valueSize: 64 * 1024, bucketSize: 100 });
    map.putAll(200);
    expect(walk().keys).toEqual(firstIntegers(200));
    expect(kernel.countOf("BPF_MAP_LOOKUP_BATCH")).toBeGreaterThan(3);
    expect(kernel.overflows).toEqual([]);
  });

  test("ENOSPC in the middle grows the buffer and keeps the position", () => {
    const { kernel, map, walk } = setUp({ maxEntries: 1000, valueSize: 32 * 1024, bucketSize: 1 });
    map.putAll(40);
    let calls = 0;
    kernel.fail("BPF_MAP_LOOKUP_BATCH", 28, { times: 1, when: () => ++calls === 2 });
    expect(walk().keys).toEqual(firstIntegers(40));
  });

  test("endless ENOSPC stops at a limit, and is reported", () => {
    const { kernel, map, walk } = setUp({ maxEntries: 100, valueSize: 1 << 20 });
    map.putAll(3);
    kernel.fail("BPF_MAP_LOOKUP_BATCH", 28);
    const { keys, end } = walk();
    expect(keys).toEqual([]);
    expect(end.complete).toBe(false);
    expect(end.stopped).toContain("ENOSPC");
    expect(kernel.countOf("BPF_MAP_LOOKUP_BATCH")).toBeLessThan(32);
  });

  for (const [errno, name] of [
    [EINTR, "EINTR"],
    [EFAULT, "EFAULT"],
    [ENOMEM, "ENOMEM"],
    [EPERM, "EPERM"],
  ] as const) {
    test(`${name} ends the walk: earlier elements are kept, and it is reported as incomplete`, () => {
      const { kernel, map, walk } = setUp({ maxEntries: 100_000 });
      map.putAll(40_000);
      let calls = 0;
      kernel.fail("BPF_MAP_LOOKUP_BATCH", errno, { when: () => ++calls > 1 });
      const { keys, end } = walk();
      expect(keys.length).toBeGreaterThan(0);
      expect(keys.length).toBeLessThan(40_000);
      expect(keys).toEqual(firstIntegers(keys.length));
      expect(end.complete).toBe(false);
      expect(end.stopped).toContain(name);
    });
  }

  for (const [errno, name] of [
    [ENOTSUPP, "ENOTSUPP"],
    [EOPNOTSUPP, "EOPNOTSUPP"],
    [EINVAL, "EINVAL"],
  ] as const) {
    test(`a kernel without batches (${name}) is read key by key`, () => {
      const { kernel, map, walk } = setUp({ maxEntries: 100 });
      map.putAll(100);
      kernel.fail("BPF_MAP_LOOKUP_BATCH", errno);
      const { keys, values, end } = walk();
      expect(keys).toEqual(firstIntegers(100));
      expect(values).toEqual(firstIntegers(100).map((key) => [key]));
      expect(end).toEqual(whole);
      expect(kernel.countOf("BPF_MAP_LOOKUP_BATCH")).toBe(1);
      expect(kernel.countOf("BPF_MAP_GET_NEXT_KEY")).toBe(101);
    });
  }

  test("ENOTSUPP in the middle does not restart the walk: no element is shown twice", () => {
    const { kernel, map, walk } = setUp({ maxEntries: 100_000 });
    map.putAll(40_000);
    let calls = 0;
    kernel.fail("BPF_MAP_LOOKUP_BATCH", ENOTSUPP, { when: () => ++calls > 1 });
    const { keys, end } = walk();
    expect(new Set(keys).size).toBe(keys.length);
    expect(end.complete).toBe(false);
  });

  test("the walk of a map that grows faster than it is read ends after twice max_entries", () => {
    const { kernel, map, walk } = setUp({ maxEntries: 100 });
    let key = 0;
    kernel.before = (command) => {
      if (command === "BPF_MAP_LOOKUP_BATCH") for (let n = 0; n < 101; n++) map.put(key++);
    };
    const { keys, end } = walk();
    // Twice max_entries, and the batch that exceeds it.
    expect(keys.length).toBeLessThanOrEqual(300);
    expect(end.complete).toBe(false);
    expect(end.stopped).toContain("changes faster");
  });

  test("a walk stops after many empty batches", () => {
    const { kernel, map, walk } = setUp();
    map.putAll(10);
    kernel.instead = (command, attr) => {
      if (command !== "BPF_MAP_LOOKUP_BATCH") return undefined;
      attr.set("count", 0);
      return 0;
    };
    expect(walk().end.complete).toBe(false);
  });
});

describe("key by key", () => {
  const lpm = { type: MapType.lpm_trie, keySize: 8 } as const;

  test("the first key follows NULL, and only the first", () => {
    const { kernel, map, walk } = setUp(lpm);
    map.putAll(5);
    const starts: boolean[] = [];
    kernel.before = (command, attr) => {
      if (command === "BPF_MAP_GET_NEXT_KEY") starts.push(attr.pointee("key") === undefined);
    };
    expect(walk().keys).toEqual(firstIntegers(5));
    expect(starts).toEqual([true, false, false, false, false, false]);
  });

  test("a key that is deleted between the two calls is skipped and counted", () => {
    const { kernel, map, walk } = setUp(lpm);
    map.putAll(5);
    kernel.fail("BPF_MAP_LOOKUP_ELEM", ENOENT, { when: (attr) => attr.pointee("key")?.[0] === 2 });
    const { keys, end } = walk();
    expect(keys).toEqual([0, 1, 3, 4]);
    expect(end.skipped).toEqual(new Map([["lost-race", 1]]));
  });

  test("an empty slot of an array of maps or programs is not an entry", () => {
    for (const type of [MapType.prog_array, MapType.array_of_maps, MapType.hash_of_maps]) {
      const { kernel, map, walk } = setUp({ type, valueSize: 4 });
      map.putAll(5);
      kernel.fail("BPF_MAP_LOOKUP_ELEM", ENOENT, { when: (attr) => attr.pointee("key")?.[0] !== 3 });
      const { keys, end } = walk();
      expect(keys).toEqual([3]);
      expect(end).toEqual(whole);
    }
  });

  test("a look-up that the kernel refuses keeps its key and has the reason", () => {
    const { kernel, map, walk } = setUp({ type: MapType.perf_event_array, valueSize: 4 });
    map.putAll(2);
    kernel.fail("BPF_MAP_LOOKUP_ELEM", ENOTSUPP);
    const { keys, missing } = walk();
    expect(keys).toEqual([0, 1]);
    expect(missing).toEqual(["Unknown error 524", "Unknown error 524"]);
  });

  for (const [errno, name] of [
    [EINVAL, "EINVAL"],
    [EMFILE, "EMFILE"],
    [EOPNOTSUPP, "EOPNOTSUPP"],
  ] as const) {
    test(`GET_NEXT_KEY that fails with ${name} ends the walk and is reported`, () => {
      const { kernel, map, walk } = setUp(lpm);
      map.putAll(5);
      let calls = 0;
      kernel.fail("BPF_MAP_GET_NEXT_KEY", errno, { when: () => ++calls > 2 });
      const { keys, end } = walk();
      expect(keys).toEqual([0, 1]);
      expect(end).toMatchObject({ complete: false });
      expect(end.stopped).toContain(`BPF_MAP_GET_NEXT_KEY: ${name}`);
    });
  }

  test("a walk that restarts because the map changes ends after twice max_entries", () => {
    const { kernel, map, walk } = setUp({ ...lpm, maxEntries: 20 });
    map.putAll(20);
    // The current key is deleted each time, so the kernel restarts with the first key.
    kernel.before = (command, attr) => {
      if (command === "BPF_MAP_GET_NEXT_KEY") attr.pointee("key")?.fill(0xff);
    };
    const { end } = walk();
    expect(kernel.countOf("BPF_MAP_GET_NEXT_KEY")).toBeLessThanOrEqual(42);
    expect(end.complete).toBe(false);
    expect(end.stopped).toContain("changes faster");
  });

  test("the walk of a hash without batches ends in the same case", () => {
    const { kernel, map, walk } = setUp({ maxEntries: 20 });
    map.putAll(20);
    kernel.fail("BPF_MAP_LOOKUP_BATCH", EINVAL);
    kernel.before = (command, attr) => {
      if (command === "BPF_MAP_GET_NEXT_KEY") attr.pointee("key")?.fill(0xff);
    };
    expect(walk().end.complete).toBe(false);
    expect(kernel.countOf("BPF_MAP_GET_NEXT_KEY")).toBeLessThanOrEqual(42);
  });

  test("exactly max_entries keys are complete", () => {
    const { map, walk } = setUp({ ...lpm, maxEntries: 20 });
    map.putAll(20);
    expect(walk()).toMatchObject({ keys: firstIntegers(20), end: whole });
  });
});

test("a cursor that outlives its state throws, and reads no reused descriptor", () => {
  for (const type of [MapType.hash, MapType.lpm_trie]) {
    const kernel = new FakeKernel();
    kernel.addMap({ id: 1, type, keySize: 8, maxEntries: 100_000 }).putAll(40_000);
    const live = openLive({ sys: kernel });
    const contents = live.contents(live.maps()[0] as MapInfo);
    if (contents.kind !== "entries") throw new Error("entries expected");
    const { cursor } = contents;
    expect(cursor.next()).toBe(true);
    live[Symbol.dispose]();
    const drainIt = (): void => {
      while (cursor.next());
    };
    expect(drainIt).toThrow(DisposedError);
  }
});
