/** Detection of a memory file's format: complete files of each format, and raw memory whose first page is a page of one. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { FORMAT_NAMES } from "../../src/guest/image/formats.ts";
import { MemoryImage } from "../../src/guest/image/image.ts";
import { openKernel } from "../../src/guest/kernel/kernel.ts";
import { capturedImages } from "./captured.ts";
import { labImages } from "./images.ts";
import { EOS, end, header, page } from "./migration-stream.ts";

const PAGE = 4096;
/** A program, because it is an ELF file whose first page has the header and the program headers. */
const PROGRAM = process.execPath;

let folder = "";
let serial = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-formats-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(...contents: readonly Uint8Array[]): string {
  const path = join(folder, `file-${serial++}`);
  writeFileSync(path, Buffer.concat(contents));
  return path;
}

/** Returns bytes that compress to more than a page and look like no header. */
const noise = (bytes: number): Uint8Array => {
  const made = new Uint8Array(bytes);
  for (let at = 0, state = 1; at < bytes; at++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) | 0;
    made[at] = state >>> 16;
  }
  return made;
};

const pipeThrough = (command: readonly string[], bytes: Uint8Array): Uint8Array =>
  Bun.spawnSync([...command, "-c"], { stdin: bytes }).stdout;

/** Compressors of this machine. */
const compressedFiles: readonly (readonly [string, (bytes: Uint8Array) => Uint8Array])[] = [
  ["zstd", (bytes) => Bun.zstdCompressSync(bytes as Uint8Array<ArrayBuffer>)],
  ["gzip", gzipSync],
  ...[["xz"], ["lz4", "-q", "-B4"]]
    .filter(([tool = ""]) => Bun.which(tool) !== null)
    .map((command) => [command[0]!, (bytes: Uint8Array) => pipeThrough(command, bytes)] as const),
];

const big = (...words: readonly bigint[]): Buffer => {
  const bytes = Buffer.alloc(words.length * 8);
  for (const [index, word] of words.entries()) bytes.writeBigInt64BE(word, index * 8);
  return bytes;
};

/** Returns a file of each format without a machine: its name, the error for it, the error for its first page, its bytes. */
function filesOfNoMachine(): [string, string, string, Uint8Array][] {
  const content = noise(20 * PAGE);
  const kdump = Buffer.alloc(64 * PAGE, 0x11);
  kdump.fill(0, 0, 2 * PAGE);
  kdump.write("KDUMP   ", "latin1");
  kdump.writeUInt32LE(6, 8);
  kdump.writeUInt32LE(PAGE, 428);
  kdump.writeUInt32LE(1, 432);
  kdump.writeUInt32LE(2, 436);
  kdump.writeBigUInt64LE(BigInt(5 * PAGE), 4 * PAGE);
  kdump.writeUInt32LE(100, 4 * PAGE + 8);
  const flat = Buffer.alloc(PAGE);
  flat.write("makedumpfile", "latin1");
  big(1n, 1n).copy(flat, 16);
  const migration = header({ blocks: [["pc.ram", 16 * PAGE]] });
  const compressed = page(PAGE, content.subarray(0, PAGE), undefined, 0x100);
  return [
    ["kdump", "it holds no page of memory", "kdump file", kdump],
    [
      "flat",
      "its contents are not a memory dump",
      "flattened dump",
      Buffer.concat([flat, big(0n, 81_920n), content, big(-1n, -1n)]),
    ],
    [
      "qemu",
      "the unsupported capability compress",
      "migration stream",
      Buffer.concat([migration, EOS, end, page(0, content.subarray(0, PAGE), "pc.ram"), compressed, content]),
    ],
  ];
}

describe.each(filesOfNoMachine())("a file of the format %s", (name, whole, cut, bytes) => {
  test("is an error of its format, and with --format raw it is memory", () => {
    const path = file(bytes);
    expect(() => new MemoryImage([{ path }])).toThrow(whole);
    using image = new MemoryImage([{ path, format: "raw" }]);
    expect([image.format, image.sizeBytes]).toEqual(["raw", bytes.length]);
  });

  test("memory that begins with its first page is raw memory, and --format overrides this", () => {
    const path = file(bytes.subarray(0, PAGE), noise(40 * PAGE));
    using image = new MemoryImage([{ path }]);
    expect([image.format, image.sizeBytes, image.layoutIsKnown]).toEqual([
      "raw",
      Math.min(bytes.length, PAGE) + 40 * PAGE,
      false,
    ]);
    expect(image.doubts.join()).toContain("but was read as raw memory: ");
    expect(() => new MemoryImage([{ path, format: name }])).toThrow(cut);
  });
});

describe.each(compressedFiles)("a file that was compressed by %s", (name, compress) => {
  // More than the bytes that are read to detect the format.
  const content = noise(200 * PAGE);
  const compressed = compress(content);

  test("is its contents, and with --format raw its own bytes", () => {
    const path = file(compressed);
    using image = new MemoryImage([{ path }]);
    expect([image.format, image.sizeBytes]).toEqual(["raw", content.length]);
    using raw = new MemoryImage([{ path, format: "raw" }]);
    expect(raw.sizeBytes).toBe(compressed.length);
  });

  test("is damaged if it is cut, and not raw memory", () => {
    const path = file(compressed.subarray(0, compressed.length - 100));
    expect(() => new MemoryImage([{ path }])).toThrow("decompress");
  });

  test.each([
    ["a page of it", compressed.subarray(0, PAGE)],
    [
      "a small one, and zeros to the end of the page",
      Buffer.alloc(PAGE).fill(compress(new Uint8Array(100)), 0),
    ],
    ["the first bytes of it", compressed.subarray(0, 6)],
  ])("%s at the beginning of memory leaves it memory", (_, page) => {
    const path = file(page, new Uint8Array(PAGE), noise(40 * PAGE));
    using image = new MemoryImage([{ path }]);
    expect([image.format, image.sizeBytes]).toEqual(["raw", page.length + 41 * PAGE]);
    expect(() => new MemoryImage([{ path, format: name }])).toThrow("decompress");
  });
});

/** Writes a range as LiME's README describes it: with the first and the last address. */
function limeRange(first: number, bytes: Uint8Array): Buffer {
  const range = Buffer.alloc(32);
  range.write("EMiL\x01", "latin1");
  range.writeBigUInt64LE(BigInt(first), 8);
  range.writeBigUInt64LE(BigInt(first + bytes.length - 1), 16);
  return Buffer.concat([range, bytes]);
}

describe("a LiME dump", () => {
  const ranges = [limeRange(PAGE, noise(40 * PAGE)), limeRange(2 ** 32, noise(3 * PAGE))];

  test("has its ranges at their addresses; without the end of the last one it says so", () => {
    using image = new MemoryImage([{ path: file(...ranges) }]);
    expect([image.format, image.warnings]).toEqual(["LiME dump", []]);
    expect(image.pieces.map(({ physical, length }) => [physical, length])).toEqual([
      [PAGE, 40 * PAGE],
      [2 ** 32, 3 * PAGE],
    ]);
    using cut = new MemoryImage([{ path: file(ranges[0]!, ranges[1]!.subarray(0, 32 + PAGE)) }]);
    expect([cut.sizeBytes, cut.warnings.join()]).toEqual([
      41 * PAGE,
      expect.stringContaining("ends within its last range"),
    ]);
  });

  test("with overlapping or invalid ranges is an error", () => {
    const twice = file(ranges[0]!, ranges[0]!);
    expect(() => new MemoryImage([{ path: twice }])).toThrow("both");
    const backwards = Buffer.from(ranges[0]!);
    backwards.writeBigUInt64LE(0n, 16);
    const path = file(backwards);
    expect(() => new MemoryImage([{ path, format: "lime" }])).toThrow("the address range at byte");
  });

  test("memory that begins with its first page is raw memory", () => {
    const path = file(ranges[0]!.subarray(0, PAGE), noise(80 * PAGE));
    using image = new MemoryImage([{ path }]);
    expect(image.format).toBe("raw");
  });
});

describe("an ELF file", () => {
  test("that is complete but not a core has its own error, such as for a vmlinux given by mistake", () => {
    expect(() => new MemoryImage([{ path: PROGRAM }])).toThrow("it is an ELF file but not a core");
    try {
      new MemoryImage([{ path: PROGRAM }]);
    } catch (error) {
      expect((error as { hint: string }).hint).toContain("--vmlinux");
    }
  });

  test("memory that begins with its first page is raw memory", () => {
    const header = readFileSync(PROGRAM).subarray(0, PAGE);
    using image = new MemoryImage([{ path: file(header, noise(40 * PAGE)) }]);
    expect(image.format).toBe("raw");
  });

  test.each(capturedImages().map(({ name, memory }) => [name, memory] as const))(
    "the first pages of a core in front of other memory do not change the format: %s",
    (_, memory) => {
      const core = readFileSync(memory);
      using whole = new MemoryImage([{ path: memory }]);
      expect(whole.format).toBe("capture");
      // Ten times the length that the segments have; other memory follows the pages of the file.
      const path = file(core, new Uint8Array(core.length * 9));
      using image = new MemoryImage([{ path }]);
      expect(image.format).toBe("raw");
    },
  );
});

const [image] = await labImages();

describe.skipIf(image === undefined)("a real machine's memory", () => {
  let copy = "";
  let first: Buffer = Buffer.alloc(0);
  beforeAll(() => {
    copy = join(folder, "mem");
    copyFileSync(image!.memory, copy);
    first = readFileSync(copy).subarray(0, PAGE);
  });

  const replaceFirstPage = (page: Uint8Array): void => {
    const fd = openSync(copy, "r+");
    writeSync(fd, Buffer.concat([page, first]).subarray(0, PAGE), 0, PAGE, 0);
    closeSync(fd);
  };

  test.each([
    ["ELF program", () => readFileSync(PROGRAM).subarray(0, PAGE)],
    ["ELF core", () => readFileSync(capturedImages()[0]!.memory).subarray(0, PAGE)],
    ...compressedFiles.map(
      ([name, compress]) => [`${name} file`, () => compress(noise(20 * PAGE)).subarray(0, PAGE)] as const,
    ),
    ...filesOfNoMachine().map(
      ([name, , , bytes]) => [`${name} file`, () => bytes.subarray(0, PAGE)] as const,
    ),
  ])("whose first page is that of an %s is read as raw memory", (_, page) => {
    replaceFirstPage(page());
    using kernel = openKernel({ memory: [{ path: copy }] });
    expect(kernel.info.release).toBe(image!.answer("release")!.trim());
    expect(kernel.explain().map(({ what }) => what)).toContain("format");
    expect(statSync(copy).size).toBe(statSync(image!.memory).size);
  });
});

test("the names of --format are those of the table", () => {
  expect(FORMAT_NAMES[0]).toBe("raw");
  expect(new Set(FORMAT_NAMES).size).toBe(FORMAT_NAMES.length);
});
