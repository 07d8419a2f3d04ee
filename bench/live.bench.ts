/** The running kernel: batch look-ups compared with C, and whole commands compared with bpftool. Needs CAP_BPF. */
import { join } from "node:path";
import { openLive } from "../src/live/live.ts";
import { MapType } from "../src/uapi/names.ts";
import { type Case, inC, type Job, ours, type Prepared, type Side } from "./case.ts";
import { BPFTOOL, KTSTR } from "./harness.ts";
import { readOf } from "./machine.ts";
import { createMap, fillMap } from "./maps.ts";
import { loadLongProg } from "./progs.ts";
import { walkAll } from "./walk.ts";

const MILLION = 1_000_000;
const LONG_PROGRAM = 100_000;
const KEY_BYTES = 8;
const VALUE_BYTES = 24;

const needRoot = (): string => (process.getuid?.() === 0 ? "" : "it needs root");

function command(name: string, words: readonly string[], into?: string): Side {
  return { kind: "command", name, command: words, ...(into === undefined ? {} : { into }) };
}

const walk: Job = (id = "") => {
  const live = openLive({ keep: (map) => map.id === Number(id) });
  const map = live.maps().find((each) => each.id === Number(id))!;
  return () => {
    using cursor = readOf(live.hashEntries(map));
    return walkAll(cursor);
  };
};

export const jobs: Record<string, Job> = { walk };

/** Creates and fills a hash of the running kernel, and prepares a case that reads it. */
function filledHash(
  sides: (id: string) => Pick<Prepared, "subject" | "reference" | "items" | "sameOutput">,
): Prepared {
  const map = createMap(MapType.hash, KEY_BYTES, VALUE_BYTES, MILLION, "bench_hash");
  fillMap(map, KEY_BYTES, VALUE_BYTES, MILLION);
  return { ...sides(String(map.id)), [Symbol.dispose]: () => map.fd[Symbol.dispose]() };
}

export const cases: readonly Case[] = [
  {
    name: "live hash 1M by look-ups in batches",
    target: 1.15,
    times: 9,
    missing: needRoot,
    prepare: () => filledHash((id) => ({ subject: ours("walk", id), reference: inC("batch_lookup", id) })),
  },
  {
    name: "live map dump -j of 1M elements, to bpftool",
    missing: needRoot,
    prepare: (folder) =>
      filledHash((id) => {
        const words = ["-j", "map", "dump", "id", id];
        const into = (name: string): string => join(folder, name);
        return {
          subject: command("ktstr", [...KTSTR, ...words], into("ktstr")),
          reference: command("bpftool", [BPFTOOL, ...words], into("bpftool")),
          items: MILLION,
          sameOutput: true,
        };
      }),
  },
  ...[[], ["-j"]].map(
    (options): Case => ({
      name: `live prog dump xlated ${[...options, "of"].join(" ")} 100,000 instructions, to bpftool`,
      missing: needRoot,
      prepare: (folder) => {
        const prog = loadLongProg(LONG_PROGRAM);
        const words = [...options, "prog", "dump", "xlated", "id", String(prog.id)];
        const into = (name: string): string => join(folder, name);
        return {
          subject: command("ktstr", [...KTSTR, ...words], into("ktstr")),
          reference: command("bpftool", [BPFTOOL, ...words], into("bpftool")),
          items: LONG_PROGRAM,
          sameOutput: true,
          [Symbol.dispose]: () => prog.fd[Symbol.dispose](),
        };
      },
    }),
  ),
  {
    name: "live map show -j of 1,000 maps, to bpftool",
    missing: needRoot,
    prepare: () => {
      const maps = Array.from({ length: 1000 }, (_, index) =>
        createMap(MapType.array, 4, 24, 10, `bench_${index}`),
      );
      return {
        subject: command("ktstr", [...KTSTR, "-j", "map", "show"]),
        reference: command("bpftool", [BPFTOOL, "-j", "map", "show"]),
        items: maps.length,
        [Symbol.dispose]: () => {
          for (const { fd } of maps) fd[Symbol.dispose]();
        },
      };
    },
  },
];
