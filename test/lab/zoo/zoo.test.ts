/** The zoo on the machine's own kernel: what its loader says that it stored against what bpftool reads. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { runText } from "../process.ts";
import type { ZooAnswers } from "./answers.ts";
import { buildZoo } from "./build.ts";
import { compareWithBpftool } from "./compare.ts";
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

  test("bpftool dumps from every static map what the loader put there, bytes and meaning", async () => {
    const { problems, maps, typed, unprintable } = await compareWithBpftool(answers, (id) =>
      bpftoolText("map", "dump", "id", `${id}`),
    );
    expect(problems).toEqual([]);
    expect(maps.entries).toBeGreaterThan(60);
    expect(maps.percpu).toBeGreaterThan(8);
    expect(maps.ids).toBeGreaterThan(3);
    expect(typed).toBeGreaterThan(20);
    expect(unprintable).toEqual(["z_scalars"]);
  }, 120_000);

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

  test("every map type of 7.2 is here, or this kernel refused it, or the README says why not", () => {
    const shown = new Set(answers.maps.map(({ type }) => type));
    const lacking = Array.from({ length: 35 }, (_, index) => index + 1).filter((type) => !shown.has(type));
    const refused = answers.skipped
      .flatMap(({ why }) => /BPF_MAP_CREATE type (\d+)/.exec(why)?.[1] ?? [])
      .map(Number);
    expect(lacking.filter((type) => !refused.includes(type))).toEqual([]);
  });

  test("what this kernel refused is nothing that every kernel takes", () => {
    const optional =
      /^z_(rhash|insns|cgroup|arena.*|cc_link|lirc|netfilter|tcx|clsact|sk_msg|netkit|xskmap|freplace|kprobe.*|kretprobe|uprobe_multi|tracepoint|fentry|fexit|fmod_ret|lsm|lsm_cgroup|inode|iter_elem)$/;
    expect(answers.skipped.filter(({ name }) => !optional.test(name))).toEqual([]);
  });

  test("programs of at least twenty types are loaded, and links of at least eight", () => {
    expect(new Set(answers.programs.map(({ type }) => type)).size).toBeGreaterThanOrEqual(20);
    expect(new Set(answers.links.map(({ type }) => type)).size).toBeGreaterThanOrEqual(8);
  });

  test("two maps share one name", () => {
    expect(answers.maps.filter(({ name }) => name === "z_twin").length).toBe(2);
  });

  test("a name fills all 15 characters", () => {
    expect(answers.maps.some(({ name }) => name.length === 15)).toBe(true);
  });
});
