/** `ktstr diff` of saved reports, and of a report and the running kernel. */
import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Json, stringify } from "../../src/report/json.ts";
import { parseJson } from "../../src/report/parse-json.ts";
import { CLI, kernelSkipReason, ktstr, type Ran, spawn } from "../live/bpftool.ts";
import { Kit } from "../live/kit.ts";
import { map, ran, report, scheduler, section } from "../report/reports.ts";
import { diffProblems } from "../report/schema.ts";

const NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"];
const dir = mkdtempSync(join(tmpdir(), "ktstr-diff-"));
afterAll(() => rmSync(dir, { recursive: true }));

function saved(name: string, content: Json | string, indent = ""): string {
  const path = join(dir, name);
  writeFileSync(path, typeof content === "string" ? content : stringify(content, indent));
  return path;
}

const before = report(10, {
  scheduler: scheduler("simple", [1]),
  programs: [ran(1, "simple_enqueue", 1000, 2_000_000), ran(2, "gone", 1, 1)],
  maps: [map(4, "filling", { count: 10 }), section(5, "scx_simp.bss", { big: 2n ** 63n, "nr\u001b[31m": 1 })],
});
const after = report(12.5, {
  scheduler: scheduler("central", [8]),
  programs: [ran(1, "simple_enqueue", 2000, 7_000_000), ran(8, "central_run", 10, 10)],
  maps: [
    map(4, "filling", { count: 50 }),
    section(5, "scx_simp.bss", { big: 2n ** 63n + 1n, "nr\u001b[31m": 2 }),
  ],
  warnings: ["something is full"],
});

describe("ktstr diff of two saved reports", () => {
  const a = saved("a.json", before);
  const b = saved("b.json", after, "  ");

  test("as text has costs as rates, fill of maps, globals, the scheduler, and no control characters", () => {
    const { status, out, err } = ktstr(["diff", a, b]);
    expect([status, err]).toEqual([0, ""]);
    for (const line of [
      "the same boot, 2.500 s later",
      "Scheduler  simple -> central",
      "warning  only in B: something is full",
      "100.0%  1,000 calls (400/s), 5 us each (2 us before), 0.200% of a CPU",
      "10 -> 50 of 100 (10.0% -> 50.0%)",
      "big: u64  9223372036854775808 -> 9223372036854775809  (+1, 0.4/s)",
      "nr\\x1b[31m: u64  1 -> 2",
      "+    8  central_run  struct_ops  new",
      "-    2  gone         struct_ops  gone",
    ])
      expect(out).toContain(line);
    expect(out).not.toContain("\u001b");
  });

  test("as JSON follows its schema", () => {
    for (const flag of ["-j", "-p"]) {
      const { status, out } = ktstr([flag, "diff", a, b]);
      expect(status).toBe(0);
      expect(diffProblems(JSON.parse(out))).toEqual([]);
      expect(parseJson(out, "diff")).toMatchObject({
        schema: "ktstr-diff",
        elapsed_ns: 2_500_000_000,
        costs: [{ id: 1, between: { run_cnt: 1000, calls_per_second: 400 } }, { id: 8 }],
        maps: { changed: [{ id: 4, a: { count: 10 }, b: { count: 50 } }] },
        globals: [
          {
            id: 5,
            variables: [
              { changes: [{ path: "big", a: 9223372036854775808n, b: 9223372036854775809n }] },
              { changes: [{ a: 1, b: 2 }] },
            ],
          },
        ],
      });
    }
  });

  test("of a report with itself says that nothing changed", () => {
    const { status, out } = ktstr(["diff", a, a]);
    expect(status).toBe(0);
    expect(out.split("\n").slice(2)).toEqual(["Scheduler  simple", "", "Nothing changed.", ""]);
    expect(ktstr(["diff", a, b]).out).not.toContain("Nothing changed");
  });

  test("reads a pipe", () => {
    const cli = join(import.meta.dir, "../../src/cli.ts");
    const script = `'${process.execPath}' '${cli}' diff <(cat '${a}') <(cat '${b}')`;
    const piped: Ran = spawn(["bash", "-c", script]);
    expect([piped.status, piped.err]).toEqual([0, ""]);
    expect(piped.out).toContain("Scheduler  simple -> central");
  });
});

describe("invalid comparisons are errors with a reason", () => {
  const a = saved("good.json", before);
  test.each([
    [["diff"], 2, "diff: no files given"],
    [["diff", a, a, a], 2, "unexpected arguments"],
    [["--memory", "mem", "diff", a, a], 2, "without --memory"],
    [["diff", a, join(dir, "absent")], 1, "absent"],
    [["diff", saved("half.json", stringify(before).slice(0, 900)), a], 1, "half.json: "],
    [["diff", saved("other.json", { schema: "something" }), a], 1, "JSON, but not a ktstr report"],
    [["diff", saved("b.json", after), a], 1, "A was made 2.5 s after B. Put the older one first"],
    [["diff", saved("text", "no report and no memory"), a], 1, "text"],
    [["diff", `${a}@0x1000`, a], 2, "good.json is JSON. Give "],
    [["diff", join(dir, "x".repeat(300)), a], 1, "ENAMETOOLONG"],
    [["diff", dir, a], 1, "EISDIR"],
  ])("%j", (words, status, sentence) => {
    const run = ktstr(words);
    expect([run.status, run.out]).toEqual([status, ""]);
    expect(run.err).toContain(sentence);
    expect(run.err).toMatch(/^ktstr: error: [^\n]+\n$/);
  });
});

describe.skipIf(
  Bun.which("setpriv") === null || spawn([...NOBODY, process.execPath, CLI, "--version"]).status !== 0,
)("without permission", () => {
  test("to read a file, the error has the call, the path and a hint", () => {
    const path = saved("secret.json", before);
    chmodSync(dir, 0o755);
    chmodSync(path, 0o600);
    const { status, err } = ktstr(["diff", path], { under: NOBODY });
    expect([status, err]).toEqual([
      1,
      `ktstr: error: open ${path}: EACCES (errno 13). Check the path, and that this user may read the file.\n`,
    ]);
  });
});

describe.skipIf(kernelSkipReason() !== "")("ktstr diff of a report and the running kernel", () => {
  test("shows the new map, and the new entries", () => {
    using kit = new Kit();
    const held = kit.map({ type: "hash", name: "diff_held", keySize: 4, valueSize: 4, maxEntries: 10 });
    kit.fill(held, 2);
    const path = saved("live.json", ktstr(["-j", "inspect"]).out);
    kit.fill(held, 5);
    const fresh = kit.map({ type: "array", name: "diff_fresh" });
    const { status, out } = ktstr(["-j", "diff", path]);
    expect(status).toBe(0);
    const told = parseJson(out, "diff") as unknown as {
      same_boot: boolean;
      elapsed_ns: number;
      maps: { new: { id: number }[]; changed: { id: number }[] };
    };
    expect(told.same_boot).toBe(true);
    expect(told.elapsed_ns).toBeGreaterThan(0);
    expect(told.maps.new).toContainEqual(expect.objectContaining({ id: fresh.id, name: "diff_fresh" }));
    expect(told.maps.changed.find(({ id }) => id === held.id)).toMatchObject({
      a: { count: 2 },
      b: { count: 5 },
    });
  });
});
