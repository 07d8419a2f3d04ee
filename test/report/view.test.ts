/** The library's `view` of a state. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { KtstrError, openLive, view } from "../../src/index.ts";
import { liveSkipReason } from "../btf/support/live.ts";
import { LoadedObject } from "../btf/support/load.ts";
import { Kit, u32, u64 } from "../live/kit.ts";

const why = liveSkipReason("bpftool", "clang-19", "mount");
const liveTest = test.skipIf(why !== "");
let loaded: LoadedObject;
let ids = new Map<string, number>();

beforeAll(() => {
  if (why !== "") return;
  loaded = LoadedObject.load();
  ids = loaded.ids();
});
afterAll(() => {
  if (why === "") loaded[Symbol.dispose]();
});

const idOf = (name: string): number => ids.get(name) ?? -1;

describe("a view", () => {
  liveTest("gives globals of a map by name or id as typed plain data", () => {
    using live = view(openLive());
    const data = live.map(idOf("types.data"));
    expect(data.name).toBe("types.data");
    expect(data.global("in_data.path")).toEqual([
      { x: 1, y: -1 },
      { x: 2, y: -2 },
      { x: 3, y: -3 },
    ]);
    expect(data.global("in_data.u64")).toBe(2n ** 64n - 1n);
    expect(data.globals()).toMatchObject({ in_data: { name: "ktstr", color: "BLUE", yes: true } });
    expect(live.map("types.rodata").global("in_rodata")).toBe(9007199254740993n);
    expect(live.maps().some(({ info }) => info.id === idOf("types.bss"))).toBe(true);
  });

  liveTest("gives elements by typed keys, and those that match a filter", () => {
    using live = view(openLive());
    const hash = live.map(idOf("hash_by_struct"));
    const key = (cpu: number): Uint8Array => Uint8Array.from([cpu, 0, 0, 0, 0x61, 0, 0, 0, 0, 0, 0, 0]);
    for (const cpu of [1, 2, 3])
      loaded.update("hash_by_struct", key(cpu), new Uint8Array(BigUint64Array.of(BigInt(cpu) << 32n).buffer));
    expect(hash.get({ cpu: 2, comm: "a" })).toMatchObject({
      key: { cpu: 2, comm: "a" },
      value: { whole: 8589934592 },
    });
    expect(hash.get(key(3))?.value).toMatchObject({ whole: 12884901888 });
    expect(hash.get({ cpu: 2 })).toBeUndefined();
    const some = [...hash.entries({ filter: "cpu != 2", sort: "-cpu" })];
    expect(some.map((element) => (element.key as { cpu: number }).cpu)).toEqual([3, 1]);
    expect([...hash.entries({ limit: 2 })].length).toBe(2);
    const [first] = [...live.map(idOf("per_cpu")).entries()];
    expect(first?.values?.[0]).toEqual({ cpu: 0, value: { x: 0, y: 0 } });
    expect([...live.map(idOf("per_cpu")).entries({ cpu: "sum" })]).toEqual([
      { key: 0, value: { x: 0, y: 0 } },
    ]);
  });

  liveTest("gives bytes if a map has no types, each value in its own buffer", () => {
    using kit = new Kit();
    const map = kit.map({ type: "hash", keySize: 4, valueSize: 8, maxEntries: 4 });
    kit.update(map, u32(1), u64(5));
    kit.update(map, u32(2), u64(6));
    using live = view(openLive());
    const elements = [...live.map(map.id).entries({ sort: "key" })];
    expect(elements).toEqual([
      { key: Uint8Array.of(1, 0, 0, 0), value: Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0) },
      { key: Uint8Array.of(2, 0, 0, 0), value: Uint8Array.of(6, 0, 0, 0, 0, 0, 0, 0) },
    ]);
    expect(live.map(map.id).get(2)?.value).toEqual(Uint8Array.of(6, 0, 0, 0, 0, 0, 0, 0));
    const queue = kit.map({ type: "queue", keySize: 0, valueSize: 4, maxEntries: 4 });
    expect(live.map(map.id).info.keySize).toBe(4);
    using later = view(openLive());
    expect(later.map(queue.id).records()).toEqual([]);
    kit.update(queue, new Uint8Array(), u32(9));
    // The kernel shows only the next element of a queue, so the answer is incomplete.
    expect(() => later.map(queue.id).records()).toThrow("only the element that a pop would return");
  });

  liveTest("throws an error with the reason if there is no answer", () => {
    using live = view(openLive());
    for (const [wrong, sentence] of [
      [() => live.map("types.dtaa"), 'no map is named "types.dtaa"'],
      [() => live.map(4_000_000_000), "no map has id 4000000000"],
      [() => live.map(idOf("types.data")).global("nothing"), 'has no variable "nothing"'],
      [() => live.map(idOf("types.data")).global("in_data.no_such"), 'there is no member "no_such"'],
      [() => live.map(idOf("hash_by_struct")).global("x"), "it holds no global variables"],
      [() => live.map(idOf("hash_by_struct")).get({ cup: 1 }), 'there is no member "cup"'],
      [
        () => [...live.map(idOf("hash_by_struct")).entries({ filter: "cup == 1" })],
        'there is no member "cup"',
      ],
      [() => live.map(idOf("hash_by_struct")).records(), "it has entries, not records"],
      [() => live.global("no_such_variable_anywhere"), "no variable is named"],
    ] as const) {
      expect(wrong).toThrow(KtstrError);
      expect(wrong).toThrow(sentence);
    }
  });
});
