/** Damaged maps of a frozen machine: every read ends soon, with a result or a KtstrError. */
import { afterAll, beforeAll, expect } from "bun:test";
import { constants, copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { listMaps } from "../../src/guest/bpf/map-info.ts";
import { readContents } from "../../src/guest/bpf/maps/contents.ts";
import type { GuestMap } from "../../src/guest/bpf/maps/walk.ts";
import { type GuestKernel, openKernel } from "../../src/guest/kernel/kernel.ts";
import { labImages, testEachMachine } from "./images.ts";
import { Mutator, type Place } from "./mutate.ts";

const ROUNDS = Number(process.env["KTSTR_FUZZ_ROUNDS"] ?? 200);
/** Number of bytes to damage at the target of a pointer. */
const REACH = 256;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-maps-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Reads all contents and returns the number of elements. */
function readAll(kernel: GuestKernel): number {
  let elements = 0;
  for (const map of listMaps(kernel, () => {})) {
    const contents = readContents(kernel, map);
    if (contents.kind === "records") elements += contents.records.length;
    if (contents.kind === "arena") elements += contents.arena.pages.length;
    if (contents.kind !== "entries") continue;
    using cursor = contents.cursor;
    while (cursor.next()) elements++;
  }
  return elements;
}

/** Returns the places of maps, of the targets of their pointers, and of the targets of those, in a raw file of one piece. */
function placesOf(kernel: GuestKernel, maps: readonly GuestMap[], base: number): Place[] {
  const { memory } = kernel;
  const places = new Map<number, Place>();
  const follow = (name: string, hi: number, lo: number, length: number, depth: number): void => {
    const at = memory.locate(hi, lo, 0, length);
    if (at < 0) return;
    const bytes = memory.bytes.slice(at, at + length);
    const offset = memory.physicalOf(hi, lo, name) - base;
    if (places.has(offset)) return;
    places.set(offset, { name, offset, length });
    if (depth === 0) return;
    const view = new DataView(bytes.buffer);
    for (let word = 0; word + 8 <= length; word += 8)
      follow(`${name}+${word}`, view.getInt32(word + 4, true), view.getInt32(word, true), REACH, depth - 1);
  };
  for (const { info, at } of maps) follow(`map ${info.id}`, at.hi, at.lo, 1024, 2);
  return [...places.values()];
}

const images = (await labImages()).filter(
  ({ pieces, answer }) => pieces.length === 1 && answer("loader.json") !== undefined,
);

testEachMachine(
  images.slice(0, 3),
  `reads of damaged maps of %s end with a result or a KtstrError: ${ROUNDS} rounds`,
  (image) => {
    const path = join(folder, image.name);
    copyFileSync(image.memory, path, constants.COPYFILE_FICLONE);
    using kernel = openKernel({ memory: [{ path }] });
    const elements = readAll(kernel);
    const maps = listMaps(kernel, () => {});
    const places = placesOf(kernel, maps, image.pieces[0]!.gpa);
    expect(places.length).toBeGreaterThan(500);
    using mutator = new Mutator(path, places, Number(process.env["KTSTR_FUZZ_SEED"] ?? 4_711));
    // The memory is a mapping of the file, so writes to the file are visible in it.
    const outcomes = mutator.rounds(ROUNDS, () => (readAll(kernel) === elements ? "same" : "changed"));
    expect(outcomes.get("changed")).toBeGreaterThan(0);
    expect(readAll(kernel)).toBe(elements);
  },
  600_000,
);
