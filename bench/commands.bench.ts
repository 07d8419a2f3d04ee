/** Whole commands, cold: against the time in which Bun itself starts and ends, and memory against the running kernel. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { MapType } from "../src/uapi/names.ts";
import { labImages } from "../test/guest/images.ts";
import type { Case, Prepared, Side } from "./case.ts";
import { KTSTR } from "./harness.ts";
import { buildHash } from "./hash.bench.ts";
import { createMap, fillMap } from "./maps.ts";

const BUN: Side = { kind: "command", name: "bun", command: [process.execPath, "-e", "0"] };
const nothing = (): void => {};

const ktstr = (...words: readonly string[]): Side => ({
  kind: "command",
  name: "ktstr",
  command: [...KTSTR, ...words],
});

/** Commands that need no kernel, and those that list one. */
const LIVE = [
  ["--version"],
  ["--help"],
  ["-j", "map", "show"],
  ["-j", "prog", "show"],
  ["-j", "link", "show"],
  ["-j", "btf", "show"],
  ["-j", "inspect"],
];

/** The frozen machines that every lab has. */
const IMAGES = ["sid", "sid-scx_flatcg", "arm64", "6.1"];
const FROZEN = [
  ["-j", "inspect"],
  ["-j", "map", "show"],
  ["-j", "prog", "show"],
];

async function frozen(name: string): Promise<string | undefined> {
  if (process.env["KTSTR_LAB_DIR"] === undefined) return undefined;
  const images = await labImages();
  return images.find((image) => image.name === name && existsSync(image.memory))?.memory;
}

const COUNT = 1_000_000;
const KEY_BYTES = 8;
const VALUE_BYTES = 24;

/** A map of the same size frozen and live. */
function prepareDump(folder: string): Prepared {
  const path = buildHash(folder, { count: COUNT, preallocated: true, perBucket: 1, valueSize: VALUE_BYTES });
  const map = createMap(MapType.hash, KEY_BYTES, VALUE_BYTES, COUNT, "bench_hash");
  fillMap(map, KEY_BYTES, VALUE_BYTES, COUNT);
  const dump = ["-j", "map", "dump", "id"];
  const into = (name: string): string => join(folder, name);
  return {
    subject: { ...ktstr("--memory", `${path}@0`, ...dump, "1"), into: into("frozen") } as Side,
    reference: { ...ktstr(...dump, String(map.id)), into: into("live") } as Side,
    items: COUNT,
    [Symbol.dispose]: () => map.fd[Symbol.dispose](),
  };
}

export const jobs = {};

export const cases: readonly Case[] = [
  ...LIVE.map((words) => ({
    name: `cold: ktstr ${words.join(" ")}, to bun itself`,
    missing: () => (process.getuid?.() === 0 ? "" : "it needs root"),
    prepare: () => ({ subject: ktstr(...words), reference: BUN, [Symbol.dispose]: nothing }),
  })),
  ...IMAGES.flatMap((image) =>
    FROZEN.map((words) => ({
      name: `cold: ktstr ${words.join(" ")} --memory ${image}, to bun itself`,
      missing: async () => ((await frozen(image)) === undefined ? "no such image (KTSTR_LAB_DIR)" : ""),
      prepare: async () => ({
        subject: ktstr(...words, "--memory", (await frozen(image))!),
        reference: BUN,
        [Symbol.dispose]: nothing,
      }),
    })),
  ),
  {
    name: "map dump -j of 1M elements, from memory to live",
    target: 1.3,
    missing: () => (process.getuid?.() === 0 ? "" : "it needs root"),
    prepare: prepareDump,
  },
];
