/** The zoo on the machine's own kernel: what its loader says that it stored against what bpftool reads. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { runText } from "../process.ts";
import type { ZooAnswers, ZooContent, ZooMap } from "./answers.ts";
import { buildZoo } from "./build.ts";
import { difference, parseExactly, sectionMembers } from "./expect.ts";
import { type RunningZoo, startZoo } from "./run.ts";

/** Why the zoo cannot live here; "" where it can. */
function obstacle(): string {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "needs root on Linux";
  if (!existsSync("/sys/kernel/btf/vmlinux")) return "this kernel has no BTF";
  const missing = ["clang-19", "bpftool", "apt-get", "dpkg-deb"].filter((name) => Bun.which(name) === null);
  return missing.length === 0 ? "" : `not installed: ${missing.join(", ")}`;
}

const why = obstacle();
if (why !== "") {
  if (process.env["KTSTR_REQUIRE_LAB"] === "1")
    throw new Error(`KTSTR_REQUIRE_LAB=1, and the zoo cannot run: ${why}`);
  console.log(`skip: the zoo: ${why}`);
}

let zoo: RunningZoo;
let answers: ZooAnswers;

const bpftoolText = (...args: string[]): Promise<string> => runText(["bpftool", "-j", ...args]);

async function bpftool<T>(...args: string[]): Promise<T> {
  return JSON.parse(await bpftoolText(...args)) as T;
}

/** `key=value` from bpftool's bytes. Not by JSON.parse: bpftool 7.1 writes no JSON once a value's BTF has a float. */
function rawPairs(text: string): string[] {
  const pairs = text.matchAll(/"key":\[((?:"0x..",?)+)\],"value":\[((?:"0x..",?)+)\]/g);
  return [...pairs].map(([, key = "", value = ""]) => `${hex(key.split(","))}=${hex(value.split(","))}`);
}

/** bpftool's bytes: `["0x01", ...]`. */
const hex = (bytes: readonly string[]): string =>
  bytes.map((byte) => byte.replaceAll('"', "").slice(2)).join("");

/** Ids behind a process's fds: `map_id`, `prog_id`, `link_id` in its fdinfo. */
async function heldBy(pid: number): Promise<{ map: number[]; prog: number[]; link: number[] }> {
  const held = { map: new Set<number>(), prog: new Set<number>(), link: new Set<number>() };
  for (const fd of await readdir(`/proc/${pid}/fdinfo`)) {
    const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, "utf8");
    // A link's fdinfo names its program too: that one need not be held by itself.
    const [, kind, id] = /^(link|map|prog)_id:\s*(\d+)$/m.exec(info) ?? [];
    if (kind !== undefined) held[kind as keyof typeof held].add(Number(id));
  }
  return { map: [...held.map], prog: [...held.prog], link: [...held.link] };
}

interface Dumped {
  readonly key: string[];
  readonly value?: string[] | { readonly error: string };
  readonly values?: readonly { readonly cpu: number; readonly value: string[] }[];
  readonly inner_map_id?: string[];
}

const writeOnly = ({ map_flags }: ZooMap): boolean => (map_flags & 0x10) !== 0;
const ofContent = (...contents: ZooContent[]): ZooMap[] =>
  answers.maps.filter((map) => contents.includes(map.content) && map.static && !writeOnly(map));

describe.skipIf(why !== "")("the zoo on this kernel", () => {
  beforeAll(async () => {
    const { loader } = await buildZoo({ arch: process.arch === "arm64" ? "arm64" : "amd64" });
    zoo = await startZoo(loader);
    answers = zoo.answers;
  }, 600_000);
  afterAll(async () => {
    await zoo?.[Symbol.asyncDispose]();
  });

  test("bpftool lists every map of the answers under its name, type and sizes", async () => {
    type Shown = {
      id: number;
      name: string;
      bytes_key: number;
      bytes_value: number;
      max_entries: number;
      flags: number;
    };
    const shown = new Map((await bpftool<Shown[]>("map", "show")).map((map) => [map.id, map]));
    for (const map of answers.maps) {
      const { name, bytes_key, bytes_value, max_entries, flags } = shown.get(map.id)!;
      expect({ name, bytes_key, bytes_value, max_entries, flags }).toEqual({
        name: map.name,
        bytes_key: map.key_size,
        bytes_value: map.value_size,
        max_entries: map.max_entries,
        flags: map.map_flags,
      });
    }
  });

  test("bpftool dumps from every plain map exactly the pairs that the loader put there", async () => {
    const maps = ofContent("entries");
    expect(maps.length).toBeGreaterThan(40);
    for (const map of maps) {
      const pairs = rawPairs(await bpftoolText("map", "dump", "id", `${map.id}`)).sort();
      const stored = map.entries.map(({ key, value }) => `${key}=${value}`).sort();
      expect({ name: map.name, pairs }).toEqual({ name: map.name, pairs: stored });
    }
  }, 120_000);

  test("what bpftool makes of a typed value agrees with what was written by hand", async () => {
    let compared = 0;
    const unprintable: string[] = [];
    for (const map of ofContent("entries")) {
      if (!map.entries.some(({ expect }) => expect !== undefined)) continue;
      const text = await bpftoolText("map", "dump", "id", `${map.id}`);
      // Not JSON, for its floats.
      if (text.includes("unsupported-kind")) {
        unprintable.push(map.name);
        continue;
      }
      const dumped = parseExactly(text) as unknown as { key: string[]; formatted: { value: never } }[];
      for (const entry of map.entries) {
        if (entry.expect === undefined) continue;
        const found = dumped.find(({ key }) => hex(key) === entry.key);
        expect(`${map.name} ${difference(sectionMembers(found!.formatted.value), entry.expect)}`).toBe(
          `${map.name} undefined`,
        );
        compared++;
      }
    }
    expect(compared).toBeGreaterThan(20);
    expect(unprintable).toEqual(["z_scalars"]);
  });

  test("bpftool dumps from every per-CPU map each CPU's own bytes", async () => {
    const maps = ofContent("percpu");
    expect(maps.length).toBeGreaterThan(8);
    for (const map of maps) {
      const dumped = await bpftool<Dumped[]>("map", "dump", "id", `${map.id}`);
      const pairs = dumped
        .map(({ key, values }) => `${hex(key)}=${values!.map(({ value }) => hex(value))}`)
        .sort();
      const stored = map.entries.map(({ key, values }) => `${key}=${values}`).sort();
      expect({ name: map.name, pairs }).toEqual({ name: map.name, pairs: stored });
    }
  }, 120_000);

  test("bpftool shows maps of maps and programs as the ids that the loader put there", async () => {
    const maps = ofContent("map-ids", "prog-ids");
    expect(maps.length).toBeGreaterThan(3);
    for (const map of maps) {
      const dumped = await bpftool<Dumped[]>("map", "dump", "id", `${map.id}`);
      const pairs = dumped.flatMap(({ key, value, inner_map_id }) => {
        const id = inner_map_id ?? value;
        return Array.isArray(id) ? [`${hex(key)}=${hex(id)}`] : [];
      });
      const stored = map.entries.map(({ key, value }) => `${key}=${value}`);
      expect({ name: map.name, pairs: pairs.sort() }).toEqual({ name: map.name, pairs: stored.sort() });
    }
  });

  test("bpftool shows every program of the answers with its maps", async () => {
    type Shown = { id: number; name: string; map_ids?: number[] };
    const shown = new Map((await bpftool<Shown[]>("prog", "show")).map((prog) => [prog.id, prog]));
    expect(answers.programs.length).toBeGreaterThan(3);
    for (const { id, name, map_ids } of answers.programs) {
      const prog = shown.get(id)!;
      // bpftool takes a name longer than the kernel's 15 characters from the program's BTF.
      expect(prog.name.slice(0, 15)).toBe(name);
      expect((prog.map_ids ?? []).sort()).toEqual([...map_ids].sort());
    }
  });

  test("every map, program and link that the loader holds has an answer", async () => {
    const held = await heldBy(zoo.pid);
    const untold = (kind: keyof typeof held, told: readonly { id: number }[]): number[] =>
      held[kind].filter((id) => !told.some((answer) => answer.id === id));
    expect(held.map.length).toBeGreaterThan(100);
    expect({ maps: untold("map", answers.maps), links: untold("link", answers.links) }).toEqual({
      maps: [],
      links: [],
    });
    expect(untold("prog", answers.programs)).toEqual([]);
  });

  test("two maps share one name", () => {
    expect(answers.maps.filter(({ name }) => name === "z_twin").length).toBe(2);
  });

  test("a name fills all 15 characters", () => {
    expect(answers.maps.some(({ name }) => name.length === 15)).toBe(true);
  });
});
