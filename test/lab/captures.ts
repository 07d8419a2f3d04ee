/** Makes captures of frozen guests for the repository: the sample of `ktstr --sample`, and the captures that tests read. */
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { constants, zstdCompressSync } from "node:zlib";
import { readForCapture } from "../../src/commands/capture-reads.ts";
import { captureGuest } from "../../src/guest/capture/capture.ts";
import { compressedFrames } from "../../src/guest/capture/compress.ts";
import type { MemorySource } from "../../src/guest/image/image.ts";
import { labDir } from "./cache.ts";
import { type CpioEntry, cpio } from "./cpio.ts";
import type { FrozenImage } from "./frozen.ts";
import { frozenRow } from "./matrix.ts";
import { LabError } from "./process.ts";

const project = join(import.meta.dir, "../..");
export const SAMPLE_PATH: string = join(project, "sample/sid.vmcore.zst");
/** The statement of the scheduler's loader in the sample's guest. */
export const STATEMENT_PATH: string = join(project, "test/fixtures/sample-stall.json");
export const CAPTURES_PATH: string = join(project, "test/fixtures/machines.cpio.zst");

/** `--follow` of the captures: number of steps along kernel pointers. */
const FOLLOW = 3;

/** A higher level saves a tenth of the size, and decompression takes a quarter longer. */
const SAMPLE_LEVEL = 12;

/** Compresses with level 19 and a window of 2^27 bytes, because the machines have similar BTF and the same maps of the zoo. */
function compress(bytes: Uint8Array): Uint8Array {
  return zstdCompressSync(bytes, {
    params: {
      [constants.ZSTD_c_compressionLevel]: 19,
      [constants.ZSTD_c_windowLog]: 27,
      [constants.ZSTD_c_enableLongDistanceMatching]: 1,
      [constants.ZSTD_c_checksumFlag]: 1,
    },
  });
}

/** Returns the capture of a frozen guest as pieces of a file. Throws `LabError` if it contains a path of this machine. */
function captureOf(image: FrozenImage): readonly Uint8Array[] {
  using capture = captureGuest({ memory: [sourceOf(image)] }, (state) => {
    readForCapture(state, FOLLOW);
  });
  const file = [...capture.pieces()];
  refusePaths(image.memoryPath, Buffer.concat(file));
  return file;
}

/** Returns the memory to open. A core is preferred: it has physical addresses and the CPUs' registers. */
function sourceOf({ memoryPath: path, pieces, vmcorePath }: FrozenImage): MemorySource {
  if (vmcorePath !== undefined) return { path: vmcorePath };
  // If the file has several pieces, the kernel's list of RAM gives their addresses.
  return pieces.length === 1 ? { path, physical: pieces[0]!.gpa } : { path };
}

function refusePaths(what: string, bytes: Uint8Array): void {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (const path of [project, labDir()])
    if (text.includes(path))
      throw new LabError(`lab: ${what} contains ${path}: a program was built with this path`);
}

/** The row of the sample: a scheduler that stalls, and the zoo. */
const SAMPLE_ROW = "stall-lost-dsq";

/** Makes the capture of `ktstr --sample`. Returns its size in bytes. */
export async function makeSample(onProgress: (line: string) => void): Promise<number> {
  onProgress(SAMPLE_ROW);
  const image = await frozenRow(SAMPLE_ROW);
  onProgress("capture");
  const file = Buffer.concat([...compressedFrames(captureOf(image), SAMPLE_LEVEL)]);
  await mkdir(join(project, "sample"), { recursive: true });
  await writeFile(SAMPLE_PATH, file);
  const statement: unknown = JSON.parse((await image.answers.text("stall.json"))!);
  await writeFile(STATEMENT_PATH, `${JSON.stringify(statement, undefined, 2)}\n`);
  return file.length;
}

/** Answers without BPF state, and large answers about symbols that a capture does not have. */
const LEFT_OUT =
  /^(kallsyms|iomem|modules|vmcoreinfo|cmdline|uptime|task-|scx-dump|sched-debug|schedstat|loadavg|sleepers)/;

/** Makes an archive with the captures and answers of frozen rows, by row name. Returns its size in bytes. */
export async function makeCaptures(
  rows: ReadonlyMap<string, FrozenImage>,
  onProgress: (line: string) => void,
): Promise<number> {
  const entries: CpioEntry[] = [];
  for (const [name, image] of rows) {
    onProgress(`capture ${name}`);
    entries.push({ kind: "file", path: `${name}/vmcore`, data: Buffer.concat(captureOf(image)) });
    for (const file of answerFiles(image.answers.dir)) {
      const data = readFileSync(join(image.answers.dir, file));
      refusePaths(`${name}'s ${file}`, data);
      entries.push({ kind: "file", path: `${name}/answers/${file}`, data });
    }
  }
  onProgress("compress");
  const file = compress(cpio(entries));
  await mkdir(join(project, "test/fixtures"), { recursive: true });
  await writeFile(CAPTURES_PATH, file);
  return file.length;
}

function answerFiles(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(dir, join(entry.parentPath, entry.name)))
    .filter((name) => !LEFT_OUT.test(name))
    .sort();
}
