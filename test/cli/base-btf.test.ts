/** `--base-btf FILE`: the base of split BTF, compared with bpftool on the same two files. */
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { Btf } from "../../src/btf/btf.ts";
import { BtfWriter } from "../btf/support/encode.ts";
import { LONG_MS, which } from "../btf/support/live.ts";
import { labDir } from "../lab-dir.ts";
import { kernelSkipReason, ktstr, spawn } from "../live/bpftool.ts";

const dir = mkdtempSync(join(tmpdir(), "ktstr-base-"));
afterAll(() => rmSync(dir, { recursive: true }));

const noBpftool = kernelSkipReason() !== "";

interface Pair {
  readonly base: string;
  readonly split: string;
}

/** Requires equal dumps, with -j and without, and of single types. */
function expectSameDumps({ base, split }: Pair, rootId: number): void {
  for (const words of [
    ["btf", "dump", "file", split],
    ["btf", "dump", "file", split, "format", "raw", "root_id", String(rootId)],
    ["-j", "btf", "dump", "file", split],
  ]) {
    const theirs = spawn(["bpftool", "-B", base, ...words]);
    expect([theirs.status, theirs.out.length > 50]).toEqual([0, true]);
    const mine = ktstr([`--base-btf=${base}`, ...words]);
    expect([mine.status, mine.err]).toEqual([0, ""]);
    expect(mine.out.trimEnd() === theirs.out.trimEnd()).toBe(true);
  }
}

function synthetic(): Pair {
  const writer = new BtfWriter();
  const int = writer.int("int", 4, 1);
  writer.struct("of_base", 4, [["number", int, 0]]);
  const bytes = writer.bytes();
  const { typeCount } = Btf.parse(bytes);
  const stringStart = new DataView(bytes.buffer).getUint32(20, true);
  const split = new BtfWriter({ firstId: typeCount, stringStart });
  split.struct("of_module", 8, [["number", int, 0]]);
  const pair = { base: join(dir, "base"), split: join(dir, "split") };
  writeFileSync(pair.base, bytes);
  writeFileSync(pair.split, split.bytes());
  return pair;
}

/** Returns an unpacked module of a kernel in the lab's cache, and the types of that kernel. */
function modulePair(): Pair | undefined {
  const [trees, btfs] = ["trees", "btf"].map((name) => join(labDir(), name)) as [string, string];
  if (!existsSync(trees) || !existsSync(btfs) || which("xz") === null) return undefined;
  for (const tree of readdirSync(trees)) {
    const modules = join(trees, tree, "usr/lib/modules");
    for (const release of existsSync(modules) ? readdirSync(modules) : []) {
      const packed = join(modules, release, "kernel/net/vmw_vsock/vsock.ko.xz");
      const base = readdirSync(btfs).find((name) => name.startsWith(release) && name.endsWith(".btf"));
      if (base === undefined || !existsSync(packed)) continue;
      const split = join(dir, basename(packed, ".xz"));
      writeFileSync(split, Bun.spawnSync(["xz", "-dc", packed]).stdout);
      return { base: join(btfs, base), split };
    }
  }
  return undefined;
}

describe.skipIf(noBpftool)("the dump of split BTF is equal to bpftool's", () => {
  test("of two small files", () => expectSameDumps(synthetic(), 3));

  test("with a missing or invalid base", () => {
    const { base, split } = synthetic();
    expect(spawn(["bpftool", "btf", "dump", "file", split]).status).not.toBe(0);
    const { status, err } = ktstr(["btf", "dump", "file", split]);
    expect(status).toBe(1);
    expect(err).toContain("Split BTF, such as a module's, takes --base-btf FILE");
    for (const wrong of ["/nowhere", "/proc/version"]) {
      expect(spawn(["bpftool", "-B", wrong, "btf", "dump", "file", split]).status).not.toBe(0);
      expect(ktstr(["-B", wrong, "btf", "dump", "file", split])).toMatchObject({ status: 1, out: "" });
    }
    expect(ktstr(["-B"]).err).toContain("option -B: it needs a value");
    expect(ktstr(["btf", "dump", "file", base]).status).toBe(0);
  });
});

const pair = noBpftool ? undefined : modulePair();
const noModule = pair === undefined ? ": skipped, the lab's cache has no kernel's modules and its types" : "";

describe.skipIf(pair === undefined)(`a kernel's module${noModule}`, () => {
  test("has a dump equal to bpftool's", () => expectSameDumps(pair!, firstIdOf(pair!)), LONG_MS);

  test(
    "as C has its own types and those that they need, each as in bpftool's dump of all types",
    () => {
      const words = ["-B", pair!.base, "btf", "dump", "file", pair!.split, "format", "c"];
      const mine = ktstr(words);
      expect([mine.status, mine.err]).toEqual([0, ""]);
      const theirs = new Set(blocksOf(spawn(["bpftool", ...words]).out));
      const own = blocksOf(mine.out);
      expect(own.length).toBeGreaterThan(50);
      expect(own.length).toBeLessThan(theirs.size / 10);
      expect(own.filter((block) => !theirs.has(block))).toEqual([]);
      expect(mine.out).toContain("struct sockaddr_vm {");
    },
    LONG_MS,
  );
});

/** Returns the first id of a dump. */
const firstIdOf = ({ base, split }: Pair): number =>
  Number(/^\[(\d+)\]/.exec(spawn(["bpftool", "-B", base, "btf", "dump", "file", split]).out)?.[1]);

/** Returns a header's definitions without declarations: a header with all definitions needs fewer of them. bpftool writes a blank between `*` and `(`. */
const blocksOf = (header: string): string[] =>
  header
    .replaceAll("* (", "*(")
    .split(/\n\n+/)
    .filter((block) => /^(struct|union|enum|typedef)/.test(block) && !/^\w+ \w+;$/.test(block));
