/** Dumps of AVML, VMware and VirtualBox, written by dump-writers.ts from the formats' descriptions. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KtstrError } from "../../src/errors.ts";
import { MemoryImage } from "../../src/guest/image/image.ts";
import {
  avmlBlocks,
  avmlPlainBlocks,
  type Range,
  rangeHeader,
  snappy,
  VMWARE_END,
  vboxCoreHead,
  vmwareState,
} from "./dump-writers.ts";
import { Mutator } from "./mutate.ts";

const PAGE = 4096;
const MIB = 2 ** 20;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-dump-formats-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, ...contents: readonly Uint8Array[]): string {
  const path = join(folder, name);
  writeFileSync(path, Buffer.concat(contents));
  return path;
}

/** Returns pages of text, of zeros, and of bytes that do not compress. */
function memory(first: number, length: number): Range {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += PAGE) {
    const kind = (at / PAGE) % 3;
    if (kind === 0) bytes.fill(`page ${first + at} `, at, at + PAGE);
    if (kind === 1) crypto.getRandomValues(bytes.subarray(at, at + PAGE));
  }
  return { first, bytes };
}

/** Memory of blocks of 16 MiB: the first block, and each block after `zeros` blocks of zeros, has one page of data. */
function sparseMemory(blocks: number, zeros: number): Range {
  const bytes = new Uint8Array(blocks * 16 * MIB);
  for (let at = 0; at < blocks; at += zeros + 1) bytes.set(memory(0, PAGE).bytes, at * 16 * MIB);
  return { first: 0, bytes };
}

const RANGES: readonly Range[] = [memory(0, 40 * PAGE), memory(2 ** 32, 25 * PAGE)];
const PLACES = RANGES.map(({ first, bytes }) => ({ first, length: bytes.length }));
const BYTES = RANGES.map(({ bytes }) => bytes);

/** Whether the image has a range, byte for byte. */
function hasRange(image: MemoryImage, { first, bytes }: Range): boolean {
  const into = new Uint8Array(bytes.length);
  return image.physicalMemory().copyOut(first, into) === bytes.length && Buffer.compare(into, bytes) === 0;
}

const isThere = (image: MemoryImage, address: number): boolean =>
  image.physicalMemory().copyOut(address, new Uint8Array(1)) === 1;

/** Damages a header in several rounds. Each must give memory, or an error with a message. */
function damaged(path: string, length: number, seed: number, format: string): void {
  using mutator = new Mutator(path, [{ name: "header", offset: 0, length }], seed);
  const outcomes = mutator.rounds(2000, () => {
    using image = new MemoryImage([{ path, format }]);
    return RANGES.every((range) => hasRange(image, range)) ? "same" : "other";
  });
  console.log(
    `${format}: ${JSON.stringify(Object.fromEntries(outcomes))}, at most ${mutator.longestMs.toFixed(0)} ms`,
  );
  expect(outcomes.get("error") ?? 0).toBeGreaterThan(100);
  expect(outcomes.get("same") ?? 0).toBeGreaterThan(10);
}

const compress = snappy();
const snappySkipReason = compress === undefined ? ": no libsnappy on this machine" : "";
describe.skipIf(compress === undefined)(`AVML's compressed dump${snappySkipReason}`, () => {
  const blocks = (range: Range): Uint8Array[] => [...avmlBlocks(range, compress!)];

  test("has its blocks at their addresses", () => {
    using image = new MemoryImage([{ path: file("avml", ...RANGES.flatMap(blocks)) }]);
    expect([image.format, image.warnings]).toEqual(["LiME dump", []]);
    expect(RANGES.every((range) => hasRange(image, range))).toBe(true);
    expect(isThere(image, 40 * PAGE)).toBe(false);
  });

  test("has zeros where a block has no data, even at the end, and no memory where there is no block", () => {
    const large = { first: 0, bytes: sparseMemory(3, 2).bytes.subarray(0, 40 * MIB) };
    using image = new MemoryImage([{ path: file("avml-zeros", ...blocks(large)) }]);
    expect([hasRange(image, large), isThere(image, 40 * MIB)]).toEqual([true, false]);
  });

  test("has no memory where its writer left a block of zeros out", () => {
    const large = sparseMemory(3, 1);
    using image = new MemoryImage([
      { path: file("avml-left-out", ...avmlBlocks(large, compress!, "nothing")) },
    ]);
    expect([0, 16, 31, 32].map((at) => isThere(image, at * MIB))).toEqual([true, false, false, true]);
  });

  test.each<[string, (bytes: Buffer) => Uint8Array, string]>([
    ["cut short", (bytes) => bytes.subarray(0, bytes.length - 3000), "the file is truncated"],
    ["without its last length", (bytes) => bytes.subarray(0, bytes.length - 3), "the file is truncated"],
    ["with another chunk", (bytes) => bytes.fill(5, 42, 43), "a chunk has the type 5"],
    ["with more data than a block has", (bytes) => bytes.fill(15, 17, 18), "more data than its header says"],
  ])("%s is an error", (name, damage, says) => {
    const bytes = Buffer.concat(blocks(RANGES[0]!));
    const path = file(`avml-${name}`, damage(bytes));
    expect(() => new MemoryImage([{ path }])).toThrow(says);
  });

  test("memory that begins with its header is raw memory, and a header of a terabyte without data is an error", () => {
    using image = new MemoryImage([
      { path: file("avml-raw", rangeHeader("AVML", 2, 0, PAGE), memory(0, 40 * PAGE).bytes) },
    ]);
    expect(image.format).toBe("raw");
    const path = file("avml-huge", rangeHeader("AVML", 2, 0, 2 ** 40));
    expect(() => new MemoryImage([{ path, format: "avml" }])).toThrow(
      "a block of 1099511627776 bytes has no data",
    );
  });

  test("2,000 damaged headers give memory or a KtstrError", () => {
    damaged(file("avml-damaged", ...RANGES.flatMap(blocks)), 60, 31, "avml");
  });
});

describe("AVML's dump without compression", () => {
  const large = sparseMemory(3, 1);

  test.each(["nothing", "header"] as const)(
    "has no memory in a block of zeros, of which the writer kept %s",
    (zeros) => {
      const path = file(
        "avml-plain",
        ...avmlPlainBlocks(large, zeros),
        ...avmlPlainBlocks(RANGES[1]!, zeros),
      );
      using image = new MemoryImage([{ path }]);
      expect([image.format, image.warnings]).toEqual(["LiME dump", []]);
      const ends = [0, 32 * MIB].map((first) => ({
        first,
        bytes: large.bytes.subarray(first, first + 16 * MIB),
      }));
      expect([...ends, RANGES[1]!].map((range) => hasRange(image, range))).toEqual([true, true, true]);
      expect([16, 31].map((at) => isThere(image, at * MIB))).toEqual([false, false]);
    },
  );

  test("of zeros alone is an error, and a range whose data begins with a header is a range", () => {
    const path = file(
      "avml-zeros-alone",
      rangeHeader("EMiL", 1, 0, PAGE),
      rangeHeader("EMiL", 1, PAGE, PAGE),
    );
    expect(() => new MemoryImage([{ path, format: "lime" }])).toThrow(KtstrError);
    const first = { first: 0, bytes: new Uint8Array(PAGE) };
    first.bytes.set(rangeHeader("EMiL", 1, PAGE, PAGE));
    const second = memory(PAGE, PAGE);
    const parts = [first, second].flatMap(({ first: at, bytes }) => [
      rangeHeader("EMiL", 1, at, PAGE),
      bytes,
    ]);
    using image = new MemoryImage([{ path: file("lime-in-lime", ...parts) }]);
    expect([first, second].map((range) => hasRange(image, range))).toEqual([true, true]);
  });
});

describe("a state of VMware", () => {
  test("with its memory in it has each region at its address", () => {
    const head = vmwareState({ ranges: PLACES, hasMemory: true });
    using image = new MemoryImage([{ path: file("a.vmss", head, ...BYTES, VMWARE_END) }]);
    expect([image.format, image.layoutIsKnown, image.warnings]).toEqual(["VMware memory", true, []]);
    expect(RANGES.every((range) => hasRange(image, range))).toBe(true);
    expect(isThere(image, 40 * PAGE)).toBe(false);
  });

  test.each([".vmss", ".vmsn"])(
    "next to its memory is found from the memory, and the memory from it: %s",
    (suffix) => {
      const state = file(`b${suffix}`, vmwareState({ ranges: PLACES, hasMemory: false }));
      const vmem = file("b.vmem", ...BYTES);
      for (const path of [state, vmem]) {
        using image = new MemoryImage([{ path }]);
        expect([image.format, ...RANGES.map((range) => hasRange(image, range))]).toEqual([
          "VMware memory",
          true,
          true,
        ]);
      }
      using raw = new MemoryImage([{ path: vmem, format: "raw" }]);
      expect([raw.format, raw.layoutIsKnown]).toEqual(["raw", false]);
      rmSync(state);
    },
  );

  test("of 32 bits has its memory at the same places", () => {
    const head = vmwareState({ ranges: PLACES, hasMemory: true, is32Bit: true });
    using image = new MemoryImage([{ path: file("old.vmss", head, ...BYTES, VMWARE_END) }]);
    expect([image.format, ...RANGES.map((range) => hasRange(image, range))]).toEqual([
      "VMware memory",
      true,
      true,
    ]);
  });

  test("without regions has one region, at address 0", () => {
    const head = vmwareState({ ranges: PLACES.slice(0, 1), hasMemory: true, withoutRegions: true });
    using image = new MemoryImage([{ path: file("c.vmss", head, BYTES[0]!, VMWARE_END) }]);
    expect(hasRange(image, RANGES[0]!)).toBe(true);
  });

  test("whose memory ends early reports the number of missing bytes", () => {
    const head = vmwareState({ ranges: PLACES, hasMemory: true });
    using cut = new MemoryImage([{ path: file("cut.vmss", head, BYTES[0]!) }]);
    expect([cut.sizeBytes, cut.warnings.length]).toEqual([40 * PAGE, 1]);
    const state = file("d.vmss", vmwareState({ ranges: PLACES, hasMemory: false }));
    file("d.vmem", BYTES[0]!, BYTES[1]!.subarray(0, PAGE));
    using image = new MemoryImage([{ path: state }]);
    expect([image.sizeBytes, image.warnings.join()]).toEqual([
      41 * PAGE,
      expect.stringContaining(`is truncated: ${24 * PAGE} bytes of memory are missing`),
    ]);
  });

  test("a .vmem without a state is raw memory", () => {
    using image = new MemoryImage([{ path: file("lone.vmem", ...BYTES) }]);
    expect([image.format, image.layoutIsKnown]).toEqual(["raw", false]);
  });

  test.each<[string, Buffer, string]>([
    [
      "compressed",
      vmwareState({ ranges: PLACES, hasMemory: true, isCompressed: true }),
      "its memory is compressed",
    ],
    [
      "whose memory is not there",
      vmwareState({ ranges: PLACES, hasMemory: false }),
      "its memory is in another file",
    ],
  ])("%s is an error", (name, head, says) => {
    const path = file(`${name}.vmss`, head, ...BYTES, VMWARE_END);
    expect(() => new MemoryImage([{ path }])).toThrow(says);
  });

  test("memory that begins with its first page is raw memory", () => {
    const head = vmwareState({ ranges: PLACES, hasMemory: true });
    using image = new MemoryImage([{ path: file("raw", head.subarray(0, 60), ...BYTES) }]);
    expect([image.format, image.doubts.join()]).toEqual([
      "raw",
      expect.stringContaining("a VMware state file"),
    ]);
  });

  test("2,000 damaged headers give memory or a KtstrError", () => {
    const head = vmwareState({ ranges: PLACES, hasMemory: true });
    const path = file("damaged.vmss", head, ...BYTES, VMWARE_END);
    damaged(path, head.indexOf("Memory") + 40, 37, "vmware");
  });
});

describe("a VirtualBox core", () => {
  const device = { first: 0xe000_0000, length: 16 * MIB };
  const head = vboxCoreHead(PLACES, device);

  test("has its ranges at their addresses, and no memory in a device's range", () => {
    using image = new MemoryImage([{ path: file("vbox.elf", head, ...BYTES) }]);
    expect([image.format, image.warnings]).toEqual(["ELF core", []]);
    expect(RANGES.every((range) => hasRange(image, range))).toBe(true);
    expect(isThere(image, device.first)).toBe(false);
  });

  test("2,000 damaged headers give memory or a KtstrError", () => {
    damaged(file("vbox-damaged.elf", head, ...BYTES), 64 + 56 * 4 + 60, 41, "elf");
  });
});
