/** Rounds that are read from memory, on captures of real machines, compared with bpftool's and /sys's answers in them. */
import { expect, test } from "bun:test";
import { openGuest } from "../../src/guest/guest.ts";
import { isHashMap, isPerCpuHashMap, MAP_TYPES } from "../../src/uapi/names.ts";
import { parseExact } from "../live/bpftool.ts";
import { eachMachine, labImages, withoutBpftools } from "./images.ts";

interface Theirs {
  readonly id: number;
  readonly type: string;
  readonly name?: string;
  readonly run_cnt?: number;
  readonly run_time_ns?: number;
  readonly bytes_memlock?: number;
}

eachMachine(await labImages(), (image) => {
  const list = (file: string): Theirs[] =>
    withoutBpftools(parseExact(image.answer(file) ?? "[]") as Theirs[]);

  test("programs, maps and links are equal to bpftool's, in the first round and in the next", () => {
    using state = openGuest({ memory: image.memory });
    const counter = state.counter();
    const first = counter.count();
    for (const round of [first, counter.count()]) {
      const progs = new Map(round.progs.map((prog) => [prog.facts.id, prog]));
      // Counters increased between bpftool's answer and the freeze.
      for (const { id, type, name = "", run_cnt = 0, run_time_ns = 0 } of list("prog-show.json")) {
        const { facts, counters } = progs.get(id)!;
        expect([facts.type, facts.name]).toEqual([type, name]);
        expect(Number(counters?.count)).toBeGreaterThanOrEqual(run_cnt);
        expect(Number(counters?.runTimeNs)).toBeGreaterThanOrEqual(run_time_ns);
      }
      const maps = new Map(round.maps.map((map) => [map.facts.id, map]));
      const theirs = list("map-show.json");
      expect(theirs.length).toBeGreaterThan(10);
      for (const { id, type, name = "", bytes_memlock } of theirs) {
        const { facts, bytes } = maps.get(id)!;
        expect([facts.type, facts.name, bytes]).toEqual([type, name, bytes_memlock]);
      }
      expect(round.linkIds).toEqual(expect.arrayContaining(list("link-show.json").map(({ id }) => id)));
    }
    // Facts of an object are kept between rounds.
    const again = counter.count();
    for (const [index, { facts }] of again.progs.entries()) expect(facts).toBe(first.progs[index]!.facts);
    for (const [index, { facts }] of again.maps.entries()) expect(facts).toBe(first.maps[index]!.facts);
    expect(counter.warnings).toEqual([]);
  });

  test("hash tables have as many entries as bpftool's dump", () => {
    using state = openGuest({ memory: image.memory });
    let compared = 0;
    for (const { facts, entries } of state.counter().count().maps) {
      const type = MAP_TYPES.indexOf(facts.type as (typeof MAP_TYPES)[number]);
      const text = image.answer(`map-dump/${facts.id}.json`)?.trim() ?? "";
      // Most of the zoo's maps do not change; the moving ones, and those of the workload, do.
      if (!/^z_(?!moving)/.test(facts.name) || text === "" || !(isHashMap(type) || isPerCpuHashMap(type)))
        continue;
      // bpftool's list of entries; for some types it prints text instead.
      if (entries === undefined) continue;
      let dump: unknown;
      try {
        dump = parseExact(text);
      } catch {
        continue;
      }
      compared++;
      expect([facts.name, entries]).toEqual([facts.name, (dump as unknown[]).length]);
    }
    // Kernels before 6.6 have no count of elements.
    if (!/^(6\.1|5\.)/.test(image.name)) expect(compared).toBeGreaterThan(3);
  });

  test.skipIf(image.answer("sched_ext/root/ops") === undefined)(
    "sched_ext's state and events are equal to those of /sys",
    () => {
      using state = openGuest({ memory: image.memory });
      const { sched } = state.counter().count();
      expect([sched?.state, sched?.ops]).toEqual([
        image.answer("sched_ext/state")?.trim(),
        image.answer("sched_ext/root/ops")?.trim(),
      ]);
      const events = [...(image.answer("sched_ext/root/events") ?? "").matchAll(/^(\w+) (\d+)$/gm)];
      for (const [, name, count] of events)
        expect([
          name,
          Number(sched?.events.find((event) => event.name === name)?.count) >= Number(count),
        ]).toEqual([name, true]);
    },
  );
});
