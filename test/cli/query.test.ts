/** Keys, filters and globals on the command line; look-ups and type dumps compared with bpftool's. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { liveSkipReason, run } from "../btf/support/live.ts";
import { LoadedObject } from "../btf/support/load.ts";
import { bpftoolJson, ktstr, ktstrJson, missing, spawn } from "../live/bpftool.ts";
import { type HeldMap, Kit, u32, u64 } from "../live/kit.ts";

const why = liveSkipReason("bpftool", "clang-19", "mount");
const liveTest = test.skipIf(why !== "");
let loaded: LoadedObject;
let kit: Kit;
/** u32 keys, u64 values `7 * key`; no types. */
let plain: HeldMap;
let perCpu: HeldMap;
let maps = new Map<string, number>();

beforeAll(() => {
  if (why !== "") return;
  loaded = LoadedObject.load();
  maps = loaded.ids();
  kit = new Kit();
  plain = kit.map({ type: "hash", keySize: 4, valueSize: 8, maxEntries: 64, name: "q_plain" });
  for (let key = 0; key < 20; key++) kit.update(plain, u32(key), u64(7 * key));
  perCpu = kit.map({ type: "percpu_array", keySize: 4, valueSize: 8, maxEntries: 2, name: "q_percpu" });
});
afterAll(() => {
  if (why !== "") return;
  kit[Symbol.dispose]();
  loaded[Symbol.dispose]();
});

const id = (map: HeldMap): string => String(map.id);
const idOf = (name: string): string => String(maps.get(name) ?? -1);

describe("map lookup and getnext", () => {
  liveTest("answer as bpftool does, in JSON and in text, also for missing keys", () => {
    // In a hash any key can be the last one, which has no next key, but not the first of twenty.
    const first = JSON.parse(run("bpftool", "-j", "map", "getnext", "id", id(plain))) as {
      next_key: string[];
    };
    for (const words of [
      ["lookup", "id", id(plain), "key", "3", "0", "0", "0"],
      ["lookup", "id", id(plain), "key", "hex", "13", "00", "00", "00"],
      ["lookup", "id", id(plain), "key", "0x13", "0", "0", "0"],
      ["lookup", "id", id(plain), "key", "99", "0", "0", "0"],
      ["lookup", "id", id(perCpu), "key", "1", "0", "0", "0"],
      ["lookup", "id", idOf("array_of_all"), "key", "1", "0", "0", "0"],
      ["getnext", "id", id(plain)],
      ["getnext", "id", id(plain), "key", ...first.next_key],
      ["getnext", "id", id(plain), "key", "99", "0", "0", "0"],
      ["getnext", "id", id(perCpu), "key", "0", "0", "0", "0"],
    ]) {
      const theirs = spawn(["bpftool", "-j", "map", ...words]);
      const mine = ktstr(["-j", "map", ...words]);
      const [a, b] = [mine, theirs].map(({ out }) => JSON.parse(out) as unknown);
      expect(missing(a, b)).toEqual([]);
      expect(mine.status === 0).toBe(theirs.status === 0);
      const isTyped = words.includes(idOf("array_of_all"));
      if (!isTyped) expect(ktstr(["map", ...words]).out).toBe(spawn(["bpftool", "map", ...words]).out);
    }
  });

  liveTest("walk the whole map with getnext, each key once", () => {
    const seen = new Set<string>();
    for (let key: string[] | null = null; ; ) {
      const words: string[] = key === null ? [] : ["key", "hex", ...key.map((byte) => byte.slice(2))];
      const ran = ktstr(["-j", "map", "getnext", "id", id(plain), ...words]);
      if (ran.status !== 0) {
        expect(JSON.parse(ran.out).error).toContain("there is no next key. It was the last one");
        break;
      }
      key = (JSON.parse(ran.out) as { next_key: string[] }).next_key;
      expect(seen.has(key.join())).toBe(false);
      seen.add(key.join());
    }
    expect(seen.size).toBe(20);
  });

  liveTest("are errors for invalid keys", () => {
    for (const [words, sentence] of [
      [["lookup", "id", id(plain)], "which key?"],
      [["lookup", "id", id(plain), "key", "1", "2"], "expects 4 bytes, got 2"],
      [["lookup", "id", id(plain), "key", "1", "2", "3", "256"], '"256" is not a byte'],
      [["lookup", "id", id(plain), "kye", "1"], "expected key, got: kye"],
      [["lookup", "id", id(plain), "key", "1", "0", "0", "0", "--key", "1"], "two keys"],
      [["getnext"], "which map?"],
    ] as const) {
      const ran = ktstr(["map", ...words]);
      expect([ran.status, ran.out]).toEqual([2, ""]);
      expect(ran.err).toContain(sentence);
    }
  });
});

describe("map dump", () => {
  const values = (...options: string[]): number[] =>
    (JSON.parse(ktstr(["-j", "map", "dump", "id", id(plain), ...options]).out) as { value: string[] }[]).map(
      ({ value }) => Number(value[0]),
    );

  liveTest("filters and sorts in JSON as in text", () => {
    expect(values("--sort", "-value", "--limit", "3")).toEqual([133, 126, 119]);
    expect(values("--sort", "key", "--limit=2")).toEqual([0, 7]);
    expect(values("--filter", "key > 17", "--sort", "key")).toEqual([126, 133]);
    expect(values("--filter", "value == 0x15 || key == 1", "--sort", "key")).toEqual([7, 21]);
    expect(values("--key", "5")).toEqual([35]);
    const text = ktstr(["map", "dump", "id", id(plain), "--key", "hex 05 00 00 00"]);
    expect(text.out).toBe("key: 05 00 00 00  value: 23 00 00 00 00 00 00 00\nFound 1 element\n");
  });

  liveTest("of a typed map takes members, and JSON keys", () => {
    const map = idOf("array_of_all");
    const one = (...options: string[]): unknown[] =>
      ktstrJson("map", "dump", "id", map, ...options) as unknown[];
    expect(one("--key", "0")).toEqual((bpftoolJson("map", "dump", "id", map) as unknown[]).slice(0, 1));
    expect(one("--filter", "path[1].x == 0 && u64 == 0").length).toBe(2);
    expect(one("--filter", "u64 != 0").length).toBe(0);
    const missed = ktstr(["map", "dump", "id", idOf("hash_by_struct"), "--key", '{"cpu": 3, "comm": "x"}']);
    expect([missed.status, missed.out]).toEqual([1, ""]);
    expect(missed.err).toContain("there is no such key");
  });

  liveTest("sums over CPUs, or shows one", () => {
    const cpus = Number(run("sh", "-c", "ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l"));
    const all = u64(...Array.from({ length: cpus }, (_, cpu) => 100 + cpu));
    kit.update(perCpu, u32(1), all);
    const total = Array.from({ length: cpus }, (_, cpu) => 100 + cpu).reduce((sum, one) => sum + one, 0);
    const summed = ktstrJson("map", "dump", "id", id(perCpu), "--cpu", "sum", "--key", "1");
    const hex = (value: number): string[] =>
      [...new Uint8Array(BigUint64Array.of(BigInt(value)).buffer)].map(
        (byte) => `0x${byte.toString(16).padStart(2, "0")}`,
      );
    expect(summed).toMatchObject([{ value: hex(total) }]);
    const last = ktstrJson("map", "dump", "id", id(perCpu), "--cpu", String(cpus - 1), "--key", "1");
    expect(last).toMatchObject([{ values: [{ cpu: cpus - 1, value: hex(100 + cpus - 1) }] }]);
  });

  liveTest("options that do not fit are errors with status 2, and nothing is printed", () => {
    for (const [options, sentence] of [
      [["--filter", "pid == 3"], 'at column 1 ("pid == 3"): there is no member "pid"'],
      [["--filter", "key = 3"], "Equality is =="],
      [["--filter", ""], "at its end"],
      [["--sort", "valu"], 'there is no member "valu"'],
      [["--sort", "-"], "no member given"],
      [["--key", "4294967296"], "it does not fit in 4 bytes"],
      [["--key", "{}"], "the map's key has no type"],
      [["--limit", "-1"], "not a number of entries"],
      [["--follow", "x"], "not a number of steps"],
      [["--cpu", "1"], "is not per-CPU"],
      [["--cpu", "most"], "must be the number of a CPU, all or sum"],
      [["--limit"], "it needs a value"],
      [["--filtr", "key == 1"], "Did you mean --filter?"],
    ] as const) {
      for (const json of [[], ["-j"]]) {
        const ran = ktstr([...json, "map", "dump", "id", id(plain), ...options]);
        const [told, silent] = json.length === 0 ? [ran.err, ran.out] : [JSON.parse(ran.out).error, ran.err];
        expect([options.join(" "), ran.status, silent]).toEqual([options.join(" "), 2, ""]);
        expect(told).toContain(sentence);
      }
    }
  });
});

describe("get", () => {
  liveTest("prints only the value of a global variable, and as JSON", () => {
    const data = ["id", idOf("types.data")];
    for (const [path, bare, json] of [
      ["in_data.u64", "18446744073709551615", "18446744073709551615"],
      ["in_data.s8", "-128", "-128"],
      ["in_data.yes", "true", "true"],
      ["in_data.name", "ktstr", '"ktstr"'],
      ["in_data.quoted", 'say "hi"', '"say \\"hi\\""'],
      ["in_data.color", "BLUE", '"BLUE"'],
      ["in_data.path[1].y", "-2", "-2"],
      ["in_data.unknown_pointer", "0xffff888000001000", String(0xffff888000001000n)],
      ["in_data.path[2]", "{ x = 3, y = -3 }", '{"x":3,"y":-3}'],
      ["in_data.grid", "[[1, 2, 3], [4, 5, 6]]", "[[1,2,3],[4,5,6]]"],
    ] as const) {
      expect(ktstr(["get", ...data, path]).out).toBe(`${bare}\n`);
      expect(ktstr(["-j", "get", ...data, path]).out).toBe(`${json}\n`);
    }
    expect(ktstr(["get", "types.rodata", "in_rodata"]).out).toBe("9007199254740993\n");
    expect(ktstr(["get", "in_rodata"]).out).toBe("9007199254740993\n");
  });

  liveTest("suggests similar names for an unknown variable, and lists the maps if several have it", () => {
    for (const [words, status, sentence] of [
      [["get"], 2, "no variable given"],
      [["get", "a", "b", "c"], 2, "unexpected arguments: c"],
      [["get", "in_rodate"], 1, "Did you mean in_rodata"],
      [["get", "types.data", "in_dat"], 1, 'has no variable "in_dat". Did you mean in_data?'],
      [["get", "types.data", "in_data.u65"], 2, "Did you mean u64"],
      [["get", "types.data", "in_data.path[3]"], 2, "path has 3 elements: there is no [3]"],
      [["get", "types.dat", "in_data"], 1, "Did you mean types.data"],
      [["get", "q_plain", "x"], 1, "it holds no global variables"],
    ] as const) {
      const ran = ktstr(words);
      expect([words.join(" "), ran.status, ran.out]).toEqual([words.join(" "), status, ""]);
      expect(ran.err).toContain(sentence);
    }
    using second = LoadedObject.load();
    expect(second.objectFile).not.toBe(loaded.objectFile);
    const ran = ktstr(["get", "in_rodata"]);
    expect([ran.status, ran.out]).toEqual([1, ""]);
    expect(ran.err).toMatch(
      /several objects have a variable "in_rodata": types\.rodata \(\d+\), types\.rodata \(\d+\)/,
    );
    expect(ktstr(["get", "types.rodata", "in_rodata"]).err).toContain(
      'several maps are named "types.rodata"',
    );
  });
});

describe("btf dump", () => {
  const mapId = (): string => idOf("hash_by_struct");

  liveTest("is equal to bpftool's raw dump of maps, programs, ids and files", () => {
    const { btfId } = loaded.map("array_of_all");
    const prog = (JSON.parse(run("bpftool", "-j", "prog", "show")) as { id: number; btf_id?: number }[]).find(
      ({ btf_id }) => btf_id === btfId,
    );
    for (const source of [
      ["id", String(btfId)],
      ["prog", "id", String(prog?.id)],
      ["map", "id", mapId()],
      ["map", "id", mapId(), "key"],
      ["map", "id", mapId(), "value"],
      ["map", "id", mapId(), "kv"],
      ["map", "id", mapId(), "all", "format", "raw"],
      ["file", loaded.objectFile],
    ]) {
      expect(ktstr(["-j", "btf", "dump", ...source]).out).toBe(
        run("bpftool", "-j", "btf", "dump", ...source),
      );
      expect(ktstr(["btf", "dump", ...source]).out).toBe(run("bpftool", "btf", "dump", ...source));
    }
    const pretty = ktstr(["-p", "btf", "dump", "map", "id", mapId(), "kv"]).out;
    expect(JSON.parse(pretty)).toEqual(
      JSON.parse(run("bpftool", "-j", "btf", "dump", "map", "id", mapId(), "kv")),
    );
  });

  liveTest("of vmlinux is the running kernel's, byte for byte", () => {
    const theirs = run("bpftool", "-j", "btf", "dump", "file", "/sys/kernel/btf/vmlinux");
    expect(ktstr(["-j", "btf", "dump", "vmlinux"]).out === theirs).toBe(true);
  });

  liveTest("in C compiles: complete, and of only a map's value", () => {
    const source = join(kit.directory, "dump.c");
    for (const words of [
      ["vmlinux"],
      ["map", "id", mapId()],
      ["map", "id", mapId(), "kv"],
      ["file", loaded.objectFile],
    ]) {
      writeFileSync(source, ktstr(["btf", "dump", ...words, "format", "c"]).out);
      expect(readFileSync(source, "utf8")).toContain("#define __VMLINUX_H__");
      run("clang-19", "-Wall", "-Werror", "-fsyntax-only", "-target", "bpf", source);
    }
  });

  test.each([
    [["btf", "dump"], 2, "no source given: id, vmlinux, file, prog, map"],
    [["btf", "dump", "vmlinx"], 2, "Did you mean vmlinux?"],
    [["btf", "dump", "vmlinux", "format", "d"], 2, "neither c nor raw"],
    [["-j", "btf", "dump", "vmlinux", "format", "c"], 2, "C cannot be printed as JSON"],
    [["btf", "dump", "vmlinux", "key"], 2, "unexpected arguments: key"],
    [["btf", "dump", "file", "/nowhere"], 1, "there is no such file"],
    [["btf", "dump", "file", import.meta.path], 1, "the magic is"],
    [["btf", "dump", "map"], 2, "which map?"],
  ] as const)("%j is refused", (words, status, sentence) => {
    const { status: ended, out, err } = ktstr(words);
    const [told, silent] = words[0] === "-j" ? [out, err] : [err, out];
    expect([ended, silent]).toEqual([status, ""]);
    expect(told).toContain(sentence);
  });
});
