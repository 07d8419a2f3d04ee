/**
 * Memory files with damaged headers: opening one soon gives memory or a KtstrError. Tests of the other formats' headers are next to
 * their other tests: AVML, VMware, VirtualBox (dumps.test.ts), migration streams, libvirt (migration.test.ts), compression (compressed.test.ts).
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateSync } from "node:zlib";
import { MemoryImage } from "../../src/guest/image/image.ts";
import {
  DUMP_DH_COMPRESSED_SNAPPY,
  DUMP_DH_COMPRESSED_ZLIB,
  DUMP_DH_COMPRESSED_ZSTD,
} from "../../src/uapi/kdump.ts";
import { avmlPlainBlocks, type Range, snappy } from "./dump-writers.ts";
import { flattened, type KdumpOptions, writeKdump } from "./kdump-writer.ts";
import { Mutator, type Place } from "./mutate.ts";

const ROUNDS = Number(process.env["KTSTR_FUZZ_ROUNDS"] ?? 400);
const PAGE = 4096;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-format-fuzz-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Pages of one repeated byte, of noise and of zeros, in turn. */
function memory(first: number, pages: number): Range {
  const bytes = new Uint8Array(pages * PAGE);
  for (let page = 0; page < pages; page++) {
    const part = bytes.subarray(page * PAGE, (page + 1) * PAGE);
    if (page % 3 === 0) part.fill(page + 1);
    if (page % 3 === 1) crypto.getRandomValues(part);
  }
  return { first, bytes };
}

const RANGES: readonly Range[] = [memory(0, 40), memory(2 ** 28, 25)];
const zlib: KdumpOptions = { ranges: RANGES, flags: DUMP_DH_COMPRESSED_ZLIB, compress: deflateSync };
const compress = snappy();

function holds(image: MemoryImage, { first, bytes }: Range): boolean {
  const into = new Uint8Array(bytes.length);
  return image.physicalMemory().copyOut(first, into) === bytes.length && Buffer.compare(into, bytes) === 0;
}

const hold = (paths: readonly string[], format?: string): boolean => {
  using image = new MemoryImage(paths.map((path) => (format === undefined ? { path } : { path, format })));
  return RANGES.every((range) => holds(image, range));
};

describe("a kdump file has its pages, compressed by", () => {
  test("zlib, zstd, and not at all", () => {
    const path = join(folder, "kdump");
    writeKdump(path, zlib);
    expect(hold([path])).toBe(true);
    writeKdump(path, {
      ...zlib,
      flags: DUMP_DH_COMPRESSED_ZSTD,
      compress: (page) => Bun.zstdCompressSync(page),
    });
    expect(hold([path])).toBe(true);
    writeKdump(path, { ...zlib, compress: (page) => page });
    expect(hold([path])).toBe(true);
  });

  // Debian's makedumpfile and QEMU are built without Snappy.
  test.skipIf(compress === undefined)(
    `Snappy${compress === undefined ? ": no libsnappy on this machine" : ""}`,
    () => {
      const path = join(folder, "kdump-snappy");
      writeKdump(path, { ranges: RANGES, flags: DUMP_DH_COMPRESSED_SNAPPY, compress: compress! });
      expect(hold([path])).toBe(true);
    },
  );
});

/** Main header, sub header, bitmaps, descriptors. */
const kdumpPlaces = (path: string): Place[] => {
  const bitmapBlocks = readFileSync(path).readUInt32LE(436);
  const tableAt = (2 + bitmapBlocks) * PAGE;
  return [
    { name: "header", offset: 0, length: 464 },
    { name: "words", offset: 424, length: 40 },
    { name: "sub header", offset: PAGE, length: 104 },
    { name: "bitmap", offset: 2 * PAGE, length: 64 },
    { name: "descriptors", offset: tableAt, length: 24 * 65 },
  ];
};

interface Subject {
  readonly format: string;
  /** The damaged file is first. */
  readonly paths: readonly string[];
  readonly places: readonly Place[];
}

const SUBJECTS: readonly (readonly [string, () => Subject])[] = [
  ...(["KDUMP   ", "DISKDUMP"] as const).map(
    (signature) =>
      [
        signature.trim(),
        () => {
          const path = join(folder, `fuzz-${signature.trim()}`);
          writeKdump(path, { ...zlib, signature });
          return { format: "kdump", paths: [path], places: kdumpPlaces(path) };
        },
      ] as const,
  ),
  [
    "one part of a split kdump",
    () => {
      const [path, other] = [join(folder, "fuzz-split-1"), join(folder, "fuzz-split-2")];
      writeKdump(path, { ...zlib, part: [0, 20] });
      writeKdump(other, { ...zlib, part: [20, 2 ** 17] });
      return { format: "kdump", paths: [path, other], places: kdumpPlaces(path) };
    },
  ],
  [
    "a flattened kdump",
    () => {
      const [path, whole] = [join(folder, "fuzz-flat"), join(folder, "fuzz-whole")];
      writeKdump(whole, zlib);
      writeFileSync(path, flattened(readFileSync(whole), 1000));
      const records = Array.from({ length: 20 }, (_, index) => ({
        name: `record ${index}`,
        offset: PAGE + index * 1016,
        length: 16,
      }));
      return {
        format: "flat",
        paths: [path],
        places: [{ name: "header", offset: 0, length: 32 }, ...records],
      };
    },
  ],
  [
    "LiME",
    () => {
      const path = join(folder, "fuzz-lime");
      writeFileSync(path, Buffer.concat(RANGES.flatMap((range) => [...avmlPlainBlocks(range, "header")])));
      const places = [0, 32 + 40 * PAGE].map((offset) => ({ name: "header", offset, length: 32 }));
      return { format: "lime", paths: [path], places };
    },
  ],
];

test.each(SUBJECTS)(
  `a damaged file gives memory or a KtstrError: %s, ${ROUNDS} rounds`,
  (name, make) => {
    const { format, paths, places } = make();
    expect(hold(paths)).toBe(true);
    const sizeBytes = statSync(paths[0]!).size;
    using mutator = new Mutator(paths[0]!, places, 43);
    let named = false;
    const outcomes = mutator.rounds(ROUNDS, () => {
      named = !named;
      return hold(paths, named ? format : undefined) ? "same" : "other";
    });
    console.log(
      `${name}: ${JSON.stringify(Object.fromEntries(outcomes))}, at most ${mutator.longestMs.toFixed(0)} ms`,
    );
    expect(outcomes.get("error") ?? 0).toBeGreaterThan(0);
    expect(statSync(paths[0]!).size).toBe(sizeBytes);
    expect(hold(paths)).toBe(true);
  },
  300_000,
);
