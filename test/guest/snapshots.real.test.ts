/**
 * Frozen machines of the lab as snapshots of Firecracker and Cloud Hypervisor: a state that a test writes (snapshot-writers.ts)
 * next to the machine's memory. Every answer is that of the raw memory at its known addresses.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openGuest } from "../../src/guest/guest.ts";
import type { MemorySource } from "../../src/guest/image/image.ts";
import { buildInspection } from "../../src/report/inspection.ts";
import { inspectionJson } from "../../src/report/inspection-json.ts";
import { stringify } from "../../src/report/json.ts";
import { type LabImage, labImages, testEachMachine } from "./images.ts";
import { cloudHypervisorState, firecrackerState, type Region } from "./snapshot-writers.ts";

const images = await labImages();
const GIB = 2 ** 30;
const LOW_BYTES = 3 * GIB;
const TEST_MS = 300_000;

let root = "";
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "ktstr-real-snapshots-"));
});
afterAll(() => rmSync(root, { recursive: true }));

function answer(...memory: readonly MemorySource[]): string {
  using guest = openGuest({ memory });
  const { warnings, ...inspection } = inspectionJson(buildInspection(guest, 4)) as {
    readonly warnings: readonly string[];
  };
  // The layout of two pieces in one raw file is guessed, which is a warning.
  return stringify({
    warnings: warnings.filter(
      (each) => !each.startsWith("The file does not contain the addresses of its memory"),
    ),
    ...inspection,
  });
}

const rawAnswer = ({ memory, pieces }: LabImage): string =>
  answer(pieces.length === 1 ? { path: memory, physical: pieces[0]!.gpa } : { path: memory });

function folderOf(image: LabImage, name: string): string {
  const folder = join(root, `${image.name}-${name}`);
  mkdirSync(folder);
  return folder;
}

const regionsOf = ({ pieces }: LabImage): Region[] =>
  pieces.map(({ gpa, size }) => ({ first: gpa, length: size }));

// QEMU's arm64 machine has its RAM at 1 GiB, Firecracker's at 2 GiB.
const x86 = images.filter(({ pieces }) => pieces[0]?.gpa === 0);

testEachMachine(
  x86,
  "Firecracker: %s",
  (image) => {
    const raw = rawAnswer(image);
    const folder = folderOf(image, "firecracker");
    symlinkSync(image.memory, join(folder, "mem"));
    for (const form of ["versionize", "slots"] as const) {
      const path = join(folder, "state");
      writeFileSync(path, firecrackerState({ form, machine: "x86_64", regions: regionsOf(image) }));
      expect(answer({ path })).toBe(raw);
    }
  },
  TEST_MS,
);

testEachMachine(
  x86.filter(({ pieces }) => pieces.length === 1),
  "Firecracker, with RAM above the hole: %s",
  (image) => {
    const raw = rawAnswer(image);
    const folder = folderOf(image, "hole");
    const memory = join(folder, "mem");
    Bun.spawnSync(["cp", "--sparse=always", image.memory, memory]);
    truncateSync(memory, LOW_BYTES + GIB);
    const regions = [
      { first: 0, length: LOW_BYTES },
      { first: 4 * GIB, length: GIB },
    ];
    writeFileSync(join(folder, "state"), firecrackerState({ form: "plain", machine: "x86_64", regions }));
    expect(answer({ path: join(folder, "state") })).toBe(raw);
    rmSync(folder, { recursive: true });
  },
  TEST_MS,
);

testEachMachine(
  images,
  "Cloud Hypervisor: %s",
  (image) => {
    const folder = folderOf(image, "ch");
    symlinkSync(image.memory, join(folder, "memory-ranges"));
    writeFileSync(join(folder, "state.json"), cloudHypervisorState("text", regionsOf(image)));
    expect(answer({ path: join(folder, "memory-ranges") })).toBe(rawAnswer(image));
  },
  TEST_MS,
);
