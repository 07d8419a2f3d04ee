/** Whole commands after a cold start, compared with `bun -e 0`; and commands on memory, compared with the running kernel and with smaller memory. */
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { MapType } from "../src/uapi/names.ts";
import { type LabImage, labImages } from "../test/guest/images.ts";
import { buildExecutable } from "../tools/build.ts";
import type { Case, Prepared, Side } from "./case.ts";
import { KTSTR, output } from "./harness.ts";
import { buildHash } from "./hash.bench.ts";
import { createMap, fillMap } from "./maps.ts";

const BUN: Side = { kind: "command", name: "bun", command: [process.execPath, "-e", "0"] };
const nothing = (): void => {};

const ktstr = (...words: readonly string[]): Side => ({
  kind: "command",
  name: "ktstr",
  command: [...KTSTR, ...words],
});

/** Commands without a kernel, commands on the running kernel, and commands on the captured machine of `--sample`. */
const ALONE = [["--version"], ["--help"], ["map", "--help"], ["completions", "bash"]];
const LIVE = [
  ["-j", "inspect"],
  ["-j", "map", "show"],
  ["-j", "prog", "show"],
  ["-j", "link", "show"],
  ["-j", "btf", "show"],
  ["btf", "dump", "vmlinux", "format", "c"],
];
const CAPTURED = [
  ["-j", "map", "dump", "name", "stall.bss", "--sample"],
  ["get", "unconsumed_dsq", "--sample"],
  ["-j", "btf", "show", "--sample"],
];
const SAMPLE = join(import.meta.dir, "../sample/sid.vmcore.zst");

/** Commands on frozen machines of the lab. */
const FROZEN = [
  ["inspect"],
  ["-j", "map", "show"],
  ["-j", "prog", "show"],
  ["-j", "link", "show"],
  ["-j", "btf", "show"],
];
const IMAGES = ["sid-5level", "6.12", "6.1"];

/** Finds the image of a row of the lab's matrix: its folder is named after the row and the key of its contents. */
async function frozen(name: string): Promise<LabImage | undefined> {
  return (await labImages()).find((image) => image.name === name || image.name.startsWith(`${name}-`));
}

/** Returns the path of the memory of a frozen machine; undefined if the lab's cache does not have it. */
export async function frozenMemory(name: string): Promise<string | undefined> {
  return (await frozen(name))?.memory;
}

/** Returns the path of the core that QEMU wrote of the same machine. */
export async function frozenCore(name: string): Promise<string | undefined> {
  return (await frozen(name))?.vmcore;
}

const needRoot = (): string => (process.getuid?.() === 0 ? "" : "it needs root");

function cold(words: readonly string[], missing: () => string = () => ""): Case {
  return {
    name: `cold: ktstr ${words.join(" ")}, to bun itself`,
    missing,
    prepare: () => ({ subject: ktstr(...words), reference: BUN, [Symbol.dispose]: nothing }),
  };
}

/** Limit of the ratio: 100 ms on a machine where Bun itself takes 5 ms. */
const SAMPLE_TARGET = 20;
const INSPECT_SAMPLE = ["inspect", "--sample"];

/** Runs `inspect --sample` with the executable. */
const coldExecutable: Case = {
  name: "cold: executable ktstr inspect --sample, to bun itself",
  target: SAMPLE_TARGET,
  prepare: async (folder) => {
    const executable = await buildExecutable(process.arch === "arm64" ? "arm64" : "x64", folder);
    const subject: Side = { kind: "command", name: "ktstr", command: [executable, ...INSPECT_SAMPLE] };
    return { subject, reference: BUN, [Symbol.dispose]: nothing };
  },
};

/** A cold start of a command whose words name files in the folder of the case. */
function coldWith(what: string, words: (folder: string) => readonly string[]): Case {
  return {
    name: `cold: ktstr ${what}, to bun itself`,
    prepare: (folder) => ({ subject: ktstr(...words(folder)), reference: BUN, [Symbol.dispose]: nothing }),
  };
}

/** Creates a kernel's build tree with an empty image and an empty vmlinux. Returns the path of the image. */
function kernelTree(folder: string): string {
  const image = join(folder, "arch/x86/boot/bzImage");
  mkdirSync(dirname(image), { recursive: true });
  writeFileSync(image, "");
  writeFileSync(join(folder, "vmlinux"), "");
  return image;
}

/** Holds a map while `true` runs. */
const coldPin: Case = {
  name: "cold: ktstr pin NAME -- true, to bun itself",
  missing: needRoot,
  prepare: () => {
    const map = createMap(MapType.array, 4, 8, 1, "bench_pin");
    return {
      subject: ktstr("pin", "bench_pin", "--", "true"),
      reference: BUN,
      [Symbol.dispose]: () => map.fd[Symbol.dispose](),
    };
  },
};

function coldFrozen(image: string, words: readonly string[]): Case {
  return {
    name: `cold: ktstr ${words.join(" ")} --memory ${image}, to bun itself`,
    missing: async () => ((await frozenMemory(image)) === undefined ? `no frozen ${image} is kept` : ""),
    prepare: async () => ({
      subject: ktstr(...words, "--memory", (await frozenMemory(image))!),
      reference: BUN,
      [Symbol.dispose]: nothing,
    }),
  };
}

/** Compares a machine in a file of 64 GiB, most of it holes, with the same machine in a file of 512 MiB. */
function prepareSparse(folder: string): Prepared {
  const path = buildHash(folder, { count: 1000, preallocated: true, perBucket: 1, valueSize: 24 });
  const large = join(folder, "large");
  output("cp", "--sparse=always", path, large);
  truncateSync(path, 2 ** 29);
  truncateSync(large, 2 ** 36);
  return {
    subject: ktstr("map", "show", "--memory", `${large}@0`),
    reference: ktstr("map", "show", "--memory", `${path}@0`),
    [Symbol.dispose]: nothing,
  };
}

const COUNT = 1_000_000;
const KEY_BYTES = 8;
const VALUE_BYTES = 24;

/** Compares the dump of a map in memory with the dump of a map of the same size in the running kernel. */
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
  { ...cold(INSPECT_SAMPLE), target: SAMPLE_TARGET },
  coldExecutable,
  ...[...ALONE, ...CAPTURED].map((words) => cold(words)),
  coldWith("capture --sample", (folder) => ["capture", "--sample", "--force", "-o", join(folder, "capture")]),
  coldWith("diff of two captures", () => ["diff", SAMPLE, SAMPLE]),
  coldWith("vmlinux IMAGE", (folder) => ["vmlinux", kernelTree(folder)]),
  ...LIVE.map((words) => cold(words, needRoot)),
  coldPin,
  ...IMAGES.flatMap((image) => FROZEN.map((words) => coldFrozen(image, words))),
  { name: "64 GiB of sparse memory, to 512 MiB", target: 1.15, prepare: prepareSparse },
  {
    name: "map dump -j of 1M elements, from memory to live",
    target: 1.3,
    missing: needRoot,
    prepare: prepareDump,
  },
];
