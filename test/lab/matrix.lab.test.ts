import { describe, expect, test } from "bun:test";
import { stat } from "node:fs/promises";
import { checkImage } from "./check.ts";
import type { FrozenImage } from "./frozen.ts";
import { frozenRow, labRows, type RowName, rows } from "./matrix.ts";
import { whyNoLab } from "./promise.ts";

const bootMs = 600_000;
const ids = (value: unknown): number[] => (value as { id: number }[]).map(({ id }) => id);

interface LoaderMap {
  readonly id: number;
  readonly name: string;
}

describe.skipIf((await whyNoLab()) !== "")("frozen guests", () => {
  test.each(labRows())(
    "%s: memory holds what /proc says where it says, and bpftool lists what the zoo's loader holds",
    async (row: RowName) => {
      const image = await frozenRow(row);
      const { maps, progs } = await checkImage(image);
      expect(maps).toBeGreaterThan(50);
      expect(progs).toBeGreaterThan(3);
      await seesLoad(image, row);
    },
    bootMs,
  );
});

async function seesLoad(image: FrozenImage, row: RowName): Promise<void> {
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
  // What bpftool dumped and what the loader stored meet in the maps themselves: one entry of one map will do here.
  const loader = (await answers.json("loader"))?.value as { maps: LoaderMap[] };
  const listed = ids((await answers.json("map-show"))?.value);
  expect(loader.maps.map(({ id }) => id).every((id) => listed.includes(id))).toBe(true);
}
