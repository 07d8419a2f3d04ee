/** What the project carries of frozen guests: the sample that ships with it, and the captures that tests read. */
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
/** What the scheduler's loader stated in the sample's guest. */
export const STATEMENT_PATH: string = join(project, "test/fixtures/sample-stall.json");
export const CAPTURES_PATH: string = join(project, "test/fixtures/machines.cpio.zst");

/** Steps that are captured of what kernel pointers lead to. */
const FOLLOW = 3;

/** Higher levels save a tenth, and take a quarter longer to decompress. */
const SAMPLE_LEVEL = 12;

/** Level 19, and a window over all of it (2^27 bytes): the machines' types and the zoo's maps are much the same. */
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

/** The capture of a frozen guest, the file in pieces. Throws `LabError` where it tells of this machine's folders. */
function captureOf(image: FrozenImage): readonly Uint8Array[] {
  using capture = captureGuest({ memory: [sourceOf(image)] }, (state) => {
    readForCapture(state, FOLLOW);
  });
  const file = [...capture.pieces()];
  refusePaths(image.memoryPath, Buffer.concat(file));
  return file;
}

/** A core says where its memory belongs, and has the CPUs' registers; a lone piece's address is told. */
function sourceOf({ memoryPath: path, pieces, vmcorePath }: FrozenImage): MemorySource {
  if (vmcorePath !== undefined) return { path: vmcorePath };
  // Parts of one file are laid out by the kernel's own list of RAM.
  return pieces.length === 1 ? { path, physical: pieces[0]!.gpa } : { path };
}

function refusePaths(what: string, bytes: Uint8Array): void {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (const path of [project, labDir()])
    if (text.includes(path))
      throw new LabError(`lab: ${what} has ${path} in it: a program was built with its path`);
}

/** The row of the matrix that `--sample` reads: a scheduler that stalls, and the zoo. */
const SAMPLE_ROW = "stall-lost-dsq";

/** What `--sample` reads; its size. */
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

/** Answers that are about no BPF state, or large and about symbols that a capture does not have. */
const LEFT_OUT =
  /^(kallsyms|iomem|modules|vmcoreinfo|cmdline|uptime|task-|scx-dump|sched-debug|schedstat|loadavg|sleepers)/;

/** One archive of the captures and answers of frozen rows, by their names; its size. */
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
