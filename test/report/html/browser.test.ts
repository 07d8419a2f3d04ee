/** The page in Debian's headless Chromium. These tests are skipped if it is not installed. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ktstr } from "../../live/bpftool.ts";
import { CHROMIUM, Chromium } from "./chromium.ts";
import { HOSTILE, pageWith, recordPageWith } from "./hostile-page.ts";

const LIGHT = { width: 1280, dark: false, script: true };
const PAINTS = 5;
const folder = mkdtempSync(join(tmpdir(), "ktstr-page-"));
afterAll(() => rmSync(folder, { recursive: true }));

const urlOf = (name: string, page: string): string => {
  writeFileSync(join(folder, name), page);
  return `file://${join(folder, name)}`;
};

describe.skipIf(CHROMIUM === null)(
  `in a browser${CHROMIUM === null ? ": skipped, chromium is not installed" : ""}`,
  () => {
    let browser: Chromium;
    let sample = "";
    /** A map that a link on the page points to, and a program of the scheduler. */
    let map = "";
    let program = "";

    beforeAll(async () => {
      browser = await Chromium.start();
      const text = ktstr(["report", "--sample", "-o", "-"]).out;
      sample = urlOf("sample.html", text);
      map = /href="#(map-\d+)"/.exec(text)?.[1] ?? "";
      program = /<span>(\w+)<\/span><span>struct_ops<\/span>/.exec(text)?.[1] ?? "";
    });
    afterAll(() => browser?.[Symbol.asyncDispose]());

    test("the sample's page logs nothing, loads nothing, and fits the width of the window", async () => {
      const paints: number[] = [];
      for (const width of [1280, 400])
        for (const dark of [false, true]) {
          const page = await browser.open(sample, { width, dark, script: true });
          expect([page.said, page.requests]).toEqual([[], []]);
          expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(width);
          paints.push(page.firstPaintMs);
        }
      for (let more = 0; more < PAINTS; more++) paints.push((await browser.open(sample, LIGHT)).firstPaintMs);
      console.info(`first paint: ${paints.map((ms) => ms.toFixed(0)).join(", ")} ms`);
    });

    test("the reader's setting selects dark or light colors", async () => {
      const background = "getComputedStyle(document.documentElement).backgroundColor";
      const [light, dark] = [
        await browser.open(sample, LIGHT),
        await browser.open(sample, { ...LIGHT, dark: true }),
      ];
      expect(await light.evaluate(background)).toBe("rgb(255, 255, 255)");
      expect(await dark.evaluate(background)).toMatch(/^rgb\((\d|1\d|2\d|3\d), /);
    });

    test("a link from a program to its map unfolds the map", async () => {
      const page = await browser.open(sample, LIGHT);
      expect(await page.evaluate(`document.querySelector("#${map}").checkVisibility()`)).toBe(false);
      await page.evaluate(`document.querySelector('a[href="#${map}"]').click()`);
      await page.evaluate("new Promise((done) => setTimeout(done, 100))");
      expect(await page.evaluate(`document.querySelector("#${map}").checkVisibility()`)).toBe(true);
    });

    test("without scripts a link also unfolds its target, and there is no search box", async () => {
      const page = await browser.open(`${sample}#${map}`, { ...LIGHT, script: false });
      expect(page.said).toEqual([]);
      expect(await page.evaluate(`document.querySelector("#${map}").checkVisibility()`)).toBe(true);
      expect(await page.evaluate(`document.querySelector("#find").checkVisibility()`)).toBe(false);
      expect(await page.evaluate(`document.body.textContent.includes("${program}")`)).toBe(true);
    });

    test("the search box hides rows that do not match, and Escape shows them again", async () => {
      const page = await browser.open(sample, LIGHT);
      const shown = `[...document.querySelectorAll(".progs .item")].filter((item) => item.checkVisibility()).map((item) => item.querySelector("summary").innerText.split(/\\s+/)[1])`;
      const type = (text: string): Promise<unknown> =>
        page.evaluate(`new Promise((done) => { const box = document.querySelector("#find"); box.value = ${JSON.stringify(text)};
        box.dispatchEvent(new Event("input")); setTimeout(done, 300); })`);
      const all = (await page.evaluate(shown)) as string[];
      await type(`${program} struct_ops`);
      expect(await page.evaluate(shown)).toEqual([program]);
      expect(await page.evaluate(`document.querySelector("#found").textContent`)).toMatch(/^\d+ of \d+$/);
      await page.evaluate(
        `document.querySelector("#find").dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }))`,
      );
      expect(await page.evaluate(shown)).toEqual(all);
      expect(all.length).toBeGreaterThan(20);
    });

    test("hostile names run nothing and are shown as text", async () => {
      const page = await browser.open(
        urlOf(
          "hostile.html",
          pageWith((index) => HOSTILE[index % HOSTILE.length]!),
        ),
        LIGHT,
      );
      await page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })");
      await page.evaluate("new Promise((done) => setTimeout(done, 300))");
      expect([page.said, page.requests]).toEqual([[], []]);
      expect(
        await page.evaluate(
          "document.querySelectorAll('script, img, svg[onload], [onerror], iframe').length",
        ),
      ).toBe(1);
      for (const name of HOSTILE.slice(0, 5))
        expect(await page.evaluate(`document.body.textContent.includes(${JSON.stringify(name)})`)).toBe(true);
    });

    test("the charts of a record are drawn in both color schemes and at two widths, with hostile names of programs", async () => {
      const record = urlOf(
        "record.html",
        recordPageWith((index) => HOSTILE[index % HOSTILE.length]!),
      );
      for (const width of [1280, 400])
        for (const dark of [false, true]) {
          const page = await browser.open(record, { width, dark, script: true });
          expect([page.said, page.requests]).toEqual([[], []]);
          expect(await page.evaluate("document.querySelectorAll('.chart canvas').length")).toBe(11);
          expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(width);
          const drawn = `(() => { const one = document.querySelector("#costs canvas");
            return one.getContext("2d").getImageData(0, 0, one.width, one.height).data.some((byte) => byte !== 0); })()`;
          expect(await page.evaluate(drawn)).toBe(true);
          expect(await page.evaluate("document.querySelectorAll('img, [onerror], iframe, b').length")).toBe(
            0,
          );
        }
      const still = await browser.open(record, { ...LIGHT, script: false });
      expect(still.said).toEqual([]);
      expect(await still.evaluate("document.querySelectorAll('.spark').length")).toBeGreaterThan(10);
    });

    test("the page's policy blocks a script that was not escaped", async () => {
      const [before, after] = (await Bun.file(sample.slice("file://".length)).text()).split("<main>");
      const evil = `<script>document.title = "ran"</script><img src="x" onerror="document.title='ran'"><b style="color:red">x</b><script src="http://127.0.0.1:9/x.js"></script>`;
      const page = await browser.open(urlOf("evil.html", `${before}<main>${evil}${after}`), LIGHT);
      await page.evaluate("new Promise((done) => setTimeout(done, 300))");
      expect(await page.evaluate("document.title")).toStartWith("BPF state of ");
      expect(page.said.filter((each) => /Content Security Policy/.test(each)).length).toBeGreaterThanOrEqual(
        4,
      );
    });
  },
);
