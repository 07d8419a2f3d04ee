import { describe, expect, test } from "bun:test";
import { stat } from "node:fs/promises";
import { labSkipReason } from "./availability.ts";
import { checkImage } from "./check-image.ts";
import type { FrozenImage } from "./frozen.ts";
import { frozenRow, labRows, type RowName, rows } from "./matrix.ts";
import type { ZooAnswers } from "./zoo/answers.ts";

const bootMs = 600_000;

describe.skipIf((await labSkipReason()) !== "")("frozen guests", () => {
  test.each(labRows())(
    "%s: memory has /proc's contents at /proc's addresses, and bpftool lists and dumps the maps of the zoo's loader",
    async (row: RowName) => {
      const image = await frozenRow(row);
      const { maps, progs } = await checkImage(image);
      expect(maps).toBeGreaterThan(50);
      expect(progs).toBeGreaterThan(3);
      await checkRow(image, row);
    },
    bootMs,
  );
});

async function checkRow(image: FrozenImage, row: RowName): Promise<void> {
  const { answers, kernel, pieces } = image;
  const { scheduler, cpus = 2, vmcore } = rows[row];
  expect(await answers.text("release")).toBe(`${kernel.release}\n`);
  expect(await answers.text("cpu-possible")).toBe(`0-${cpus - 1}\n`);
  const bytes = pieces.reduce((sum, { size }) => sum + size, 0);
  expect((await stat(image.memoryPath)).size).toBe(bytes);
  if (scheduler !== undefined) {
    expect(await answers.text("sched_ext/state")).toBe("enabled\n");
    expect(await answers.text("sched_ext/root/ops")).toStartWith(scheduler.replace("scx_", ""));
  }
  if (vmcore === true) expect((await stat(image.vmcorePath ?? "")).size).toBeGreaterThan(bytes);
  await compareHashes(image);
}

const hex = (bytes: readonly string[]): string =>
  bytes.map((byte) => byte.slice(2).padStart(2, "0")).join("");

/** The contents of plain hashes by the loader and by bpftool are equal: the two oracles agree. */
async function compareHashes({ answers }: FrozenImage): Promise<void> {
  const zoo = (await answers.json("loader"))?.value as ZooAnswers;
  let compared = 0;
  for (const map of zoo.maps) {
    const dump = (await answers.mapDump(map.id))?.value;
    if (map.type !== 1 || map.btf_id !== 0 || !map.static || !Array.isArray(dump)) continue;
    const dumped = (dump as { key: string[]; value: string[] }[]).map(
      ({ key, value }) => `${hex(key)} ${hex(value)}`,
    );
    expect(dumped.sort()).toEqual(map.entries.map(({ key, value }) => `${key} ${value}`).sort());
    compared += 1;
  }
  expect(compared).toBeGreaterThan(5);
}
