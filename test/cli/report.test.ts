/** `ktstr report` as a command: its file, its usage, and the running kernel. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bpftools, ktstr, whyNoKernel } from "../live/bpftool.ts";
import { Kit } from "../live/kit.ts";
import { loadProg, usesMaps } from "../live/kit-progs.ts";
import { readPage } from "../report/html/read-page.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-report-"));
});
afterEach(() => rmSync(folder, { recursive: true }));
const path = (name: string): string => join(folder, name);

describe("the file", () => {
  test("is there whole, for its owner alone, and nothing is left beside it", () => {
    const ran = ktstr(["report", "--sample", "-o", path("page.html")]);
    expect(ran).toMatchObject({ status: 0, err: "" });
    expect(ran.out).toMatch(/page\.html: [\d.]+ KiB\n$/);
    const page = readFileSync(path("page.html"), "utf8");
    expect(page).toStartWith("<!DOCTYPE html>\n");
    expect(page).toEndWith("</html>\n");
    expect(statSync(path("page.html")).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(["page.html"]);
  });

  test("replaces one that is there, and leaves it where the machine cannot be read", () => {
    writeFileSync(path("page.html"), "the page of yesterday");
    writeFileSync(path("mem"), "no memory");
    const failed = ktstr(["report", "--memory", path("mem"), "-o", path("page.html")]);
    expect(failed.status).toBe(1);
    expect(readFileSync(path("page.html"), "utf8")).toBe("the page of yesterday");
    const ran = JSON.parse(ktstr(["-j", "report", "--sample", "-o", path("page.html")]).out);
    expect(ran).toEqual({ file: path("page.html"), file_bytes: statSync(path("page.html")).size });
  });

  test("has no folder's name of the machine that made it", () => {
    expect(ktstr(["report", "--sample", "-o", "-"]).out).not.toContain(join(import.meta.dir, "../.."));
  });

  test.each([
    [["report", "--sample"], "into which file"],
    [["report", "--sample", "-o", ""], "into which file"],
    [["report", "what", "--sample", "-o", "-"], "too much: what"],
    [["report", "--sample", "--stats", "1", "-o", "-"], "counts no further"],
  ])("%j is wrong usage", (args, sentence) => {
    const { status, out, err } = ktstr(args);
    expect([status, out]).toEqual([2, ""]);
    expect(err).toContain(sentence);
  });

  test("cannot be a folder", () => {
    mkdirSync(path("folder"));
    const { status, err } = ktstr(["report", "--sample", "-o", path("folder")]);
    expect([status, err.includes("no regular file")]).toEqual([1, true]);
  });
});

describe.skipIf(whyNoKernel() !== "")(`of the running kernel${whyNoKernel()}`, () => {
  test("has a program and its map as bpftool shows them, and each leads to the other", async () => {
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
      const { pids: _, ...theirs } = bpftools(kind, "show", "id", String(id)) as { [key: string]: unknown };
      for (const [key, value] of Object.entries(theirs).flatMap(([name, one]) =>
        Array.isArray(one) ? one.map((each) => [name, each]) : [[name, one]],
      ))
        expect([key, words.includes(String(value))]).toEqual([key, true]);
    }
    expect(texts.get(`map-${map.id}`)).toContain("3 in all");
    expect(ran.out).toContain(`<a href="#map-${map.id}">${map.id} page_map</a>`);
    expect(ran.out).toContain(`<a href="#prog-${prog.id}">${prog.id} page_prog</a>`);
  });
});
