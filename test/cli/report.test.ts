/** `ktstr report` as a command: its file, its usage, and the running kernel. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildPackage } from "../../tools/pack.ts";
import { bpftoolJson, CLI, kernelSkipReason, ktstr, spawn } from "../live/bpftool.ts";
import { Kit } from "../live/kit.ts";
import { loadProg, testRun, usesMaps } from "../live/kit-progs.ts";
import { readPage } from "../report/html/read-page.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-report-"));
});
afterEach(() => rmSync(folder, { recursive: true }));
const path = (name: string): string => join(folder, name);

describe("the file", () => {
  test("is complete, accessible to its owner only, and no temporary file is left", () => {
    const ran = ktstr(["report", "--sample", "-o", path("page.html")]);
    expect(ran).toMatchObject({ status: 0, err: "" });
    expect(ran.out).toMatch(/page\.html: [\d.]+ KiB\n$/);
    const page = readFileSync(path("page.html"), "utf8");
    expect(page).toStartWith("<!DOCTYPE html>\n");
    expect(page).toEndWith("</html>\n");
    expect(statSync(path("page.html")).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(["page.html"]);
  });

  test("replaces an existing file, but not if the machine cannot be read", () => {
    writeFileSync(path("page.html"), "the page of yesterday");
    writeFileSync(path("mem"), "no memory");
    const failed = ktstr(["report", "--memory", path("mem"), "-o", path("page.html")]);
    expect(failed.status).toBe(1);
    expect(readFileSync(path("page.html"), "utf8")).toBe("the page of yesterday");
    const ran = JSON.parse(ktstr(["-j", "report", "--sample", "-o", path("page.html")]).out);
    expect(ran).toEqual({ file: path("page.html"), file_bytes: statSync(path("page.html")).size });
  });

  test("has no names of folders of the machine that made it", () => {
    expect(ktstr(["report", "--sample", "-o", "-"]).out).not.toContain(join(import.meta.dir, "../.."));
  });

  test.each([
    [["report", "--sample"], "no output file given"],
    [["report", "--sample", "-o", ""], "no output file given"],
    [["report", "a", "b", "c", "-o", "-"], "unexpected arguments: c"],
    [["report", "a", "--sample", "-o", "-"], "--memory cannot be combined with files to report on"],
    [["report", "a", "--limit", "3", "-o", "-"], "--limit applies to a machine"],
    [["report", "--sample", "--stats", "1", "-o", "-"], "counters do not change"],
  ])("%j is wrong usage", (args, sentence) => {
    const { status, out, err } = ktstr(args);
    expect([status, out]).toEqual([2, ""]);
    expect(err).toContain(sentence);
  });

  test("cannot be a folder", () => {
    mkdirSync(path("folder"));
    const { status, err } = ktstr(["report", "--sample", "-o", path("folder")]);
    expect([status, err.includes("not a regular file")]).toEqual([1, true]);
  });
});

test("a file that cannot be looked up is an error with the path", () => {
  const long = path("x".repeat(300));
  const { status, err } = ktstr(["report", "--sample", "-o", long]);
  expect([status, err]).toEqual([1, `ktstr: error: stat ${long}: ENAMETOOLONG (errno 36)\n`]);
});

describe("of files", () => {
  const docs = join(import.meta.dir, "../docs");
  const files = [join(docs, "before.json"), join(docs, "after.json")] as const;

  test("two snapshots: the page has the output of `diff`", async () => {
    const { out } = ktstr(["report", ...files, "-o", "-"]);
    const { texts } = await readPage(out);
    const words = [...texts.values()].join("\n").split(/\s+/);
    const printed = ktstr(["diff", ...files]).out;
    const costs = /^Costs[^\n]*\n(.*?)\n\n/ms.exec(printed)?.[1]?.split("\n") ?? [];
    expect(costs.length).toBeGreaterThan(3);
    for (const word of costs.flatMap((line) => line.trim().split(/\s+/))) expect(words).toContain(word);
    for (const word of ["vtime_now", "780651088", "2862424278", "395,774,362/s", "flows"])
      expect(words).toContain(word);
    expect(out).not.toContain("uPlot");
  });

  test("a file that is not a record is an error that says what is expected", () => {
    const { status, err } = ktstr(["report", files[0], "-o", "-"]);
    expect([status, err.includes("not a ktstr record")]).toEqual([1, true]);
  });

  test.each([[["report", "FOLDER", "-o", "-"]], [["top", "-b", "--replay", "FOLDER"]]])(
    "%j is an error with the path and a hint",
    (words) => {
      const { status, err } = ktstr(words.map((word) => (word === "FOLDER" ? folder : word)));
      expect([status, err]).toEqual([
        1,
        `ktstr: error: read ${folder}: EISDIR (errno 21). Give a file, not a folder.\n`,
      ]);
    },
  );

  test("the packed command contains the code of the charts", async () => {
    await buildPackage(join(folder, "package/dist"));
    writeFileSync(path("run.ktstr"), `${HEADER}\n${ROUNDS.join("\n")}\n`);
    const ran = spawn([
      process.execPath,
      path("package/dist/cli.js"),
      "report",
      path("run.ktstr"),
      "-o",
      "-",
    ]);
    expect([ran.status, ran.err]).toEqual([0, ""]);
    expect(ran.out).toContain("var uPlot=");
    expect(ran.out).toContain("MIT License");
    const { texts } = await readPage(ran.out);
    expect(texts.get("programs")).toMatch(
      /\b12\s+dispatch\s+struct_ops\s+100\.0%\s+40\.000%\s+50\s+100\s+8 ms\s/,
    );
    // A record cut by a crash: the page reports it and has the rest.
    writeFileSync(path("run.ktstr"), `${HEADER}\n${ROUNDS.join("\n")}`);
    expect(ktstr(["report", path("run.ktstr"), "-o", "-"]).out).toContain("incomplete round");
  });
});

const HEADER = JSON.stringify({
  schema: "ktstr-record",
  schema_version: 1,
  ktstr: "0",
  source: "the running kernel",
  interval_ms: 1000,
  kernel: { release: "7.2", machine: "x86_64" },
  globals: [],
});
const PROG = {
  id: 12,
  type: "struct_ops",
  name: "dispatch",
  tag: "0123456789abcdef",
  load_time_ns: 5,
  map_ids: [],
};
/** A program's `loaded_at` is computed from two clocks, so it may differ by a second. */
const near = (key: string, value: unknown): readonly unknown[] =>
  key === "loaded_at" ? [Number(value) - 1, value, Number(value) + 1] : [value];

/** Runs a program 100 times. The calls take 0.8 s of 2 s. */
const ROUNDS = [
  {
    at_us: 0,
    unix_ms: 1_795_865_481_856,
    programs_added: [{ ...PROG, run_cnt: 7, run_time_ns: 9, recursion_misses: 0 }],
  },
  { at_us: 1_000_000, unix_ms: 1_795_865_482_856, programs: [[12, 40, 300_000_000, 0]] },
  { at_us: 2_000_000, unix_ms: 1_795_865_483_856, programs: [[12, 60, 500_000_000, 0]] },
].map((round) => JSON.stringify(round));

describe.skipIf(kernelSkipReason() !== "")(`of the running kernel${kernelSkipReason()}`, () => {
  test("has a program and its map as bpftool shows them, with links to each other", async () => {
    using kit = new Kit();
    const map = kit.map({ type: "hash", name: "page_map", valueSize: 8, maxEntries: 100 });
    kit.fill(map, 3);
    const prog = loadProg(kit, { type: "socket_filter", name: "page_prog", code: usesMaps(map) });
    const ran = ktstr(["report", "-o", "-"]);
    expect(ran.status).toBe(0);
    const { texts } = await readPage(ran.out);
    for (const [kind, { id }] of [
      ["map", map],
      ["prog", prog],
    ] as const) {
      const words = (texts.get(`${kind}-${id}`) ?? "").split(/[\s,]+/);
      const { pids: _, ...theirs } = bpftoolJson(kind, "show", "id", String(id)) as {
        [key: string]: unknown;
      };
      for (const [key, value] of Object.entries(theirs).flatMap(([name, one]) =>
        Array.isArray(one) ? one.map((each) => [name, each]) : [[name, one]],
      ))
        expect([key, near(key, value).some((each) => words.includes(String(each)))]).toEqual([key, true]);
    }
    expect(texts.get(`map-${map.id}`)).toContain("3 in all");
    expect(ran.out).toContain(`<a href="#map-${map.id}">${map.id} page_map</a>`);
    expect(ran.out).toContain(`<a href="#prog-${prog.id}">${prog.id} page_prog</a>`);
  });

  test("a record has as many calls as bpftool counts", async () => {
    using kit = new Kit();
    const prog = loadProg(kit, { type: "socket_filter", name: "page_record" });
    const file = path("run.ktstr");
    const recording = Bun.spawn(
      [process.execPath, CLI, "record", "-o", file, "--interval", "0.2", "--for", "2"],
      { stdout: "ignore", stderr: "inherit" },
    );
    // When the first round is in the file, statistics are on.
    while (!(existsSync(file) && readFileSync(file, "utf8").split("\n").length > 2)) await Bun.sleep(20);
    testRun(prog, 4321);
    expect(await recording.exited).toBe(0);
    const { run_cnt: calls, run_time_ns: ns } = bpftoolJson("prog", "show", "id", String(prog.id)) as {
      run_cnt: number;
      run_time_ns: number;
    };
    expect(calls).toBe(4321);
    const { texts } = await readPage(ktstr(["report", file, "-o", "-"]).out);
    const cells = (texts.get("programs") ?? "").replace(/\s+/g, " ");
    expect(cells).toMatch(
      new RegExp(` ${prog.id} page_record socket_filter .* 4,321 ${(ns / calls).toPrecision(4)} ns `),
    );
  });
});
