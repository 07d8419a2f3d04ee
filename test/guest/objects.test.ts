/** Programs, links, BTF objects and the scheduler of the lab's frozen machines, compared with bpftool's answers in them. */
import { expect, test } from "bun:test";
import type { Btf } from "../../src/btf/btf.ts";
import { btfJson, linkJson, progJson } from "../../src/report/bpftool.ts";
import { stringify } from "../../src/report/json.ts";
import { structOpsDump, structOpsJson } from "../../src/report/struct-ops.ts";
import { MapType, PROG_TYPES } from "../../src/uapi/names.ts";
import { parseExact } from "../live/bpftool.ts";
import { capturedImages } from "./captured.ts";
import { eachMachine, labImages } from "./images.ts";
import { open, type Printed, printed, testAgainst } from "./support/answers.ts";

/** Keys that holders.test.ts compares, because an object's only holder may be bpftool. */
const OF_HOLDERS: readonly string[] = ["pids", "bpf_cookie"];

/** Compares each of ktstr's objects with bpftool's, except for the keys that `leaveOut` names. */
function asPrinted(
  ours: readonly Printed[],
  theirs: readonly Printed[],
  leaveOut: (theirs: Printed) => readonly string[],
): { ours: Printed[]; theirs: Printed[] } {
  const cut = (from: Printed, keys: readonly string[]): Printed =>
    Object.fromEntries(keys.map((key) => [key, from[key]]));
  const keysOf = (one: Printed): string[] =>
    Object.keys(one).filter((key) => !leaveOut(one).includes(key) && !OF_HOLDERS.includes(key));
  return {
    ours: ours.map((one, index) => cut(one, keysOf(theirs[index] ?? one))),
    theirs: theirs.map((one) => cut(one, keysOf(one))),
  };
}

const COUNTERS = ["run_cnt", "run_time_ns", "recursion_misses"] as const;

/** Keys that bpftool prints as 0 because these kernels do not return them, although they have them. */
const TOLD_SINCE: readonly (readonly [type: string, key: string, member: string])[] = [
  ["tracing", "cookie", "tracing.cookie"],
  ["tracing", "target_obj_id", "tracing.target_obj_id"],
  ["tracing", "target_btf_id", "tracing.target_btf_id"],
  ["raw_tracepoint", "cookie", "raw_tracepoint.cookie"],
  ["perf_event", "ref_ctr_offset", "perf_event.uprobe.ref_ctr_offset"],
];

function unknownKeys(btf: Btf, link: Printed): string[] {
  const info = btf.find("bpf_link_info");
  return TOLD_SINCE.filter(
    ([type, , member]) => link["type"] === type && (info === undefined || !btf.member(info, member)),
  ).map(([, key]) => key);
}

const machines = await labImages();
const images = [...machines, ...capturedImages()];
eachMachine(images, (image) => {
  testAgainst(
    image,
    "prog-show.json",
    "every attribute of every program is bpftool's, and counters only grew",
    (theirs) => {
      using guest = open(image);
      const ours = printed(guest.progs().map((prog) => progJson(prog, guest.kernel())));
      const cut = asPrinted(ours, theirs, () => COUNTERS);
      expect(cut.ours).toEqual(cut.theirs);
      for (const [index, prog] of guest.progs().entries()) {
        if (!prog.stats.ok) throw new Error(prog.stats.why.detail);
        const { count, runTimeNs, misses } = prog.stats.value;
        const before = COUNTERS.map((key) => BigInt((theirs[index]?.[key] as number | undefined) ?? 0));
        expect([count, runTimeNs, misses].every((now, at) => now >= before[at]!)).toBe(true);
        expect(PROG_TYPES[prog.type]).toBe(theirs[index]!["type"] as (typeof PROG_TYPES)[number]);
      }
      expect(guest.warnings.filter((sentence) => sentence.includes("prog_idr"))).toEqual([]);
    },
  );

  testAgainst(image, "link-show.json", "every attribute of every link is equal to bpftool's", (theirs) => {
    using guest = open(image);
    const typeOf = (id: number): number | undefined => guest.progs().find((prog) => prog.id === id)?.type;
    const ours = printed(guest.links().map((link) => linkJson(link, typeOf)));
    const btf = guest.kernelBtf();
    if (!btf.ok) throw new Error(btf.why.detail);
    const cut = asPrinted(ours, theirs, (link) => unknownKeys(btf.value, link));
    expect(cut.ours).toEqual(cut.theirs);
    expect(guest.links().filter(({ details }) => "unreadable" in details)).toEqual([]);
  });

  testAgainst(
    image,
    "btf-show.json",
    "BTF objects are bpftool's, and every one of them can be parsed",
    (theirs) => {
      using guest = open(image);
      const ours = printed(guest.btfs().map((btf) => btfJson(btf, guest.progs(), guest.maps())));
      // bpftool lists users in the order of its hash table.
      const sorted = (one: Printed): Printed => ({
        ...one,
        prog_ids: [...(one["prog_ids"] as number[])].sort((a, b) => a - b),
        map_ids: [...(one["map_ids"] as number[])].sort((a, b) => a - b),
      });
      const cut = asPrinted(ours.map(sorted), theirs.map(sorted), () => []);
      expect(cut.ours).toEqual(cut.theirs);
      for (const { id } of guest.btfs()) {
        const parsed = guest.btf(id);
        if (!parsed.ok) throw new Error(parsed.why.detail);
        expect(parsed.value.typeCount).toBeGreaterThan(1);
      }
      expect(guest.btf(0x7fff_ffff)).toMatchObject({ ok: false, why: { reason: "not-present" } });
    },
  );

  for (const command of ["show", "dump"] as const) {
    const theirs = image.answer(`struct_ops-${command}.json`)?.trim() ?? "";
    test.skipIf(theirs === "")(`struct_ops ${command} is equal to bpftool's, byte for byte`, () => {
      using guest = open(image);
      const maps = guest.maps().filter(({ type }) => type === MapType.struct_ops);
      const ours =
        command === "show"
          ? maps.map((map) => structOpsJson(guest, map))
          : maps.flatMap((map) => structOpsDump(guest, map, false));
      expect(stringify(ours)).toBe(theirs);
    });
  }

  test("the scheduler is that of sysfs", () => {
    using guest = open(image);
    const state = image.answer("sched_ext/state")?.trim() ?? "";
    const name = image.answer("sched_ext/root/ops")?.trim() ?? "";
    const active = guest.activeScheduler();
    if (name === "") return expect(active).toBeUndefined();
    expect(active).toMatchObject({ opsName: name, state });
    // bpftool prints a map's attributes, then its value, with a callback as "name/prog_id:7".
    const dump = JSON.parse(image.answer("struct_ops-dump.json")!) as Printed[];
    const at = dump.findIndex((one) => JSON.stringify(one).includes(`"name":"${name}"`));
    const [info, value] = [dump[at - 1] as { bpf_map_info: { id: number } }, dump[at]];
    const ids = [...JSON.stringify(value).matchAll(/prog_id:(\d+)/g)].map(([, id]) => Number(id));
    expect(active?.progIds).toEqual(ids.sort((a, b) => a - b));
    const listed = parseExact(image.answer("prog-show.json") ?? "[]") as Printed[];
    const progs = listed.filter((prog) => ids.includes(prog["id"] as number));
    const used = progs.flatMap((prog) => (prog["map_ids"] as number[] | undefined) ?? []);
    const all = new Set([...used, info.bpf_map_info.id]);
    expect(active?.mapIds).toEqual([...all].sort((a, b) => a - b));
  });
});

// Captures do not have the symbols of modules.
eachMachine(machines, (image) => {
  const text = image.answer("kallsyms-loaded");
  test.skipIf(text === undefined)("symbols of modules and programs have the names of /proc/kallsyms", () => {
    using guest = open(image);
    const names = new Map<bigint, string[]>();
    for (const [, address, name, module] of text!.matchAll(/^([0-9a-f]+) \w (\S+)\s+\[(\w+)\]$/gm)) {
      // Trampolines, dispatchers and slots of probes have symbols, but are neither.
      if (module!.startsWith("__builtin__") || (module === "bpf" && !name!.startsWith("bpf_prog_"))) continue;
      const at = BigInt(`0x${address}`);
      names.set(at, [...(names.get(at) ?? []), `${name} [${module}]`]);
    }
    expect(names.size).toBeGreaterThan(10);
    for (const [at, aliases] of names) expect(aliases).toContain(guest.symbolAt(at) ?? "no symbol");
    expect(guest.symbolAt(0n)).toBeUndefined();
    const [at] = names.keys();
    expect(guest.readKernel(at!, 16)).toMatchObject({ ok: true, value: { length: 16 } });
    expect(guest.readKernel(0x1000n, 16)).toMatchObject({ ok: false, why: { reason: "not-present" } });
  });
});
