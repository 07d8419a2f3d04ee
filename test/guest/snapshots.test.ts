/** Snapshots of Firecracker and Cloud Hypervisor, written from their sources' descriptions (snapshot-writers.ts). */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc64 } from "../../src/guest/image/firecracker.ts";
import { MemoryImage } from "../../src/guest/image/image.ts";
import { Mutator } from "./mutate.ts";
import {
  CLOUD_HYPERVISOR_FORMS,
  cloudHypervisorState,
  crc64Bits,
  FIRECRACKER_FORMS,
  firecrackerState,
  type Region,
  withCrc,
} from "./snapshot-writers.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const X86: readonly Region[] = [
  { first: 0, length: 2 * MIB },
  { first: 4 * GIB, length: MIB },
];
const ARM: readonly Region[] = [{ first: 2 * GIB, length: 3 * MIB }];
const PLUGGED: Region = { first: 512 * GIB, length: 4 * MIB, plugged: [true, true, false, true] };

let root = "";
let serial = 0;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "ktstr-snapshots-"));
});
afterAll(() => rmSync(root, { recursive: true }));

/** Writes files to a new folder. Returns a function that returns a file's path. */
function folder(files: Readonly<Record<string, string | Uint8Array>>): (name: string) => string {
  const dir = join(root, `${serial++}`);
  mkdirSync(dir);
  for (const [name, content] of Object.entries(files)) writeFileSync(join(dir, name), content);
  return (name) => join(dir, name);
}

/** Memory in which each page has its own bytes. */
const memoryOf = (mib: number): Uint8Array => {
  const bytes = new Uint8Array(mib * MIB);
  crypto.getRandomValues(bytes.subarray(0, 65_536));
  for (let at = 0; at < bytes.length; at += 4096)
    bytes.set(bytes.subarray(at % 61_440, (at % 61_440) + 64), at);
  new Uint32Array(bytes.buffer).forEach((_, index, words) => {
    if (index % 1024 === 0) words[index] = index;
  });
  return bytes;
};

function bytesAt(image: MemoryImage, first: number, length: number): Uint8Array {
  const into = new Uint8Array(length);
  return into.subarray(0, image.physicalMemory().copyOut(first, into));
}

/** Whether the regions have the memory, in order, and no memory is after them. */
function holds(image: MemoryImage, regions: readonly Region[], memory: Uint8Array): boolean {
  let offset = 0;
  return regions.every(({ first, length }) => {
    const expected = memory.subarray(offset, offset + length);
    offset += length;
    return (
      Buffer.compare(bytesAt(image, first, length), expected) === 0 &&
      bytesAt(image, first + length, 1).length === 0
    );
  });
}

/** Damages a state in several rounds. Each must give memory, or an error with a message. */
function damaged(
  state: string,
  length: number,
  seed: number,
  open: () => MemoryImage,
  memory: Uint8Array,
): void {
  using mutator = new Mutator(state, [{ name: "state", offset: 0, length }], seed);
  const outcomes = mutator.rounds(2000, () => {
    using image = open();
    return holds(image, X86, memory) ? "same" : "other";
  });
  console.log(`${JSON.stringify(Object.fromEntries(outcomes))}, at most ${mutator.longestMs.toFixed(0)} ms`);
  expect(outcomes.get("error") ?? 0).toBeGreaterThan(100);
  expect(outcomes.get("same") ?? 0).toBeGreaterThan(10);
}

describe("Firecracker's checksum", () => {
  // The values are those of the tests in Firecracker's src/vmm/src/snapshot/crc.rs and of the crc64 package's documentation.
  test.each([
    [Uint8Array.of(1, 2, 3, 4, 5), 0xfb04_60de_0638_3654n],
    [new Uint8Array(16).fill(123), 0x29d5_3572_1632_6566n],
    [Uint8Array.from(Buffer.from("123456789")), 0xe9c6_d914_c4b8_d9can],
  ])("%#", (bytes, expected) => {
    const { hi, lo } = crc64(bytes);
    expect([(BigInt(hi) << 32n) | BigInt(lo), crc64Bits(bytes)]).toEqual([expected, expected]);
  });
});

describe("a snapshot of Firecracker", () => {
  const memory = memoryOf(3);

  for (const form of FIRECRACKER_FORMS)
    test.each([
      ["x86_64", X86],
      ["aarch64", ARM],
    ] as const)(`in the layout ${form} has each region at its address: %s`, (machine, regions) => {
      const at = folder({ vmstate: firecrackerState({ form, machine, regions }), "mem.img": memory });
      using image = new MemoryImage([{ path: at("vmstate") }]);
      expect([image.format, image.layoutIsKnown, image.warnings, image.doubts]).toEqual([
        "Firecracker snapshot",
        true,
        [],
        [],
      ]);
      expect(holds(image, regions, memory)).toBe(true);
      // The memory file alone is raw memory.
      using raw = new MemoryImage([{ path: at("mem.img") }]);
      expect([raw.format, raw.layoutIsKnown]).toEqual(["raw", false]);
    });

  test("slots that are not plugged are not in the dump", () => {
    const state = firecrackerState({ form: "slots", machine: "x86_64", regions: [...X86, PLUGGED] });
    const whole = memoryOf(7);
    const at = folder({ vmstate: state, mem: whole });
    using image = new MemoryImage([{ path: at("vmstate") }]);
    const slots = [0, 1, 2, 3].map((slot) => {
      const bytes = bytesAt(image, PLUGGED.first + slot * MIB, MIB);
      return Buffer.compare(bytes, whole.subarray((3 + slot) * MIB, (4 + slot) * MIB)) === 0;
    });
    expect(slots).toEqual([true, true, false, true]);
    expect(bytesAt(image, PLUGGED.first + 2 * MIB, 1).length).toBe(0);
  });

  test("with a wrong checksum is raw memory, unless the format is named", () => {
    const state = firecrackerState({ form: "plain", machine: "x86_64", regions: X86 });
    state[state.length - 100]! ^= 1;
    const at = folder({ vmstate: state, mem: memory });
    using image = new MemoryImage([{ path: at("vmstate") }]);
    expect([image.format, image.doubts.join()]).toEqual([
      "raw",
      expect.stringContaining("its checksum does not match (--format firecracker overrides)"),
    ]);
    using named = new MemoryImage([{ path: at("vmstate"), format: "firecracker" }]);
    expect(holds(named, X86, memory)).toBe(true);
  });

  const state = (options: Partial<Parameters<typeof firecrackerState>[0]>): Buffer =>
    firecrackerState({ form: "plain", machine: "x86_64", regions: X86, ...options });

  test.each<[string, Readonly<Record<string, Uint8Array>>, string]>([
    [
      "without its memory",
      { vmstate: state({}), other: memoryOf(2) },
      `its memory, a file of ${3 * MIB} bytes, is not in the same folder`,
    ],
    [
      "with two files of its memory's size",
      { vmstate: state({}), base: memory, diff: memory },
      "several files in its folder have the size of its memory",
    ],
    [
      "whose regions do not have the size of its RAM",
      { vmstate: state({ ramMib: 4 }), mem: memory },
      `it has no table of memory regions of ${4 * MIB} bytes`,
    ],
    [
      "with two different tables",
      { vmstate: state({ more: [{ first: 0, length: 3 * MIB }] }), mem: memory },
      "it has 2 tables of memory regions",
    ],
    ["with no RAM", { vmstate: state({ ramMib: 0 }), mem: memory }, "its memory size is not valid"],
    [
      "of x86-64 whose RAM starts at 2 GiB",
      { vmstate: state({ regions: ARM }), mem: memory },
      "it has no table of memory regions",
    ],
  ])("%s is an error", (_, files, says) => {
    expect(() => new MemoryImage([{ path: folder(files)("vmstate") }])).toThrow(says);
  });

  test("a state made of tables with many slots is read in bounded time", () => {
    // Bytes 0 and 1 alone: each table's slots are the tables after it.
    const u64 = (value: number): number[] => [...Buffer.from(new BigUint64Array([BigInt(value)]).buffer)];
    const table = [...u64(1), ...u64(0), ...u64(2 ** 24), 0, 0, 0, 0, ...u64(65_536)];
    const head = firecrackerState({ form: "plain", machine: "x86_64", regions: X86 }).subarray(0, 100);
    const body = Buffer.concat([head, Buffer.alloc(4 * MIB, Buffer.from(table))]);
    const at = folder({ vmstate: withCrc(body.subarray(0, 65_536)), large: body, mem: memory });
    const began = performance.now();
    for (const name of ["vmstate", "large"])
      expect(() => new MemoryImage([{ path: at(name), format: "firecracker" }])).toThrow("memory regions");
    expect(performance.now() - began).toBeLessThan(20_000);
  });

  test.each(["versionize", "slots"] as const)(
    "2,000 damaged states: %s",
    (form) => {
      const at = folder({ vmstate: state({ form }), mem: memory });
      const open = (): MemoryImage => new MemoryImage([{ path: at("vmstate"), format: "firecracker" }]);
      damaged(at("vmstate"), 200, 61, open, memory);
    },
    120_000,
  );
});

describe("a snapshot of Cloud Hypervisor", () => {
  const memory = memoryOf(3);
  const snapshot = (state: string, bytes = memory): ((name: string) => string) =>
    folder({ "state.json": state, "memory-ranges": bytes, "config.json": "{}" });

  test.each(CLOUD_HYPERVISOR_FORMS)("has each range at its address: %s", (form) => {
    // A range that was plugged later is first in the file.
    const regions = [X86[1]!, X86[0]!];
    const at = snapshot(cloudHypervisorState(form, regions));
    using image = new MemoryImage([{ path: at("memory-ranges") }]);
    expect([image.format, image.layoutIsKnown, image.warnings]).toEqual([
      "Cloud Hypervisor snapshot",
      true,
      [],
    ]);
    expect(holds(image, regions, memory)).toBe(true);
    using raw = new MemoryImage([{ path: at("memory-ranges"), format: "raw" }]);
    expect([raw.format, raw.layoutIsKnown]).toEqual(["raw", false]);
  });

  test("without its state is raw memory", () => {
    using image = new MemoryImage([{ path: folder({ "memory-ranges": memory })("memory-ranges") }]);
    expect([image.format, image.layoutIsKnown]).toEqual(["raw", false]);
  });

  test("whose memory ends early reports the number of missing bytes", () => {
    const at = snapshot(cloudHypervisorState("text", X86), memory.subarray(0, 2 * MIB + 4096));
    using image = new MemoryImage([{ path: at("memory-ranges") }]);
    expect([image.sizeBytes, image.warnings.join()]).toEqual([
      2 * MIB + 4096,
      expect.stringContaining(`is truncated: ${MIB - 4096} bytes of memory are missing`),
    ]);
  });

  test.each([
    ["that is not JSON", "{", "it is not JSON"],
    ["of another program", '{"snapshots": 3}', "it has no state of the memory manager"],
    [
      "with an empty range",
      cloudHypervisorState("text", [{ first: 0, length: 0 }]),
      "it has no valid list of memory ranges",
    ],
    [
      "with a range that does not begin at a page",
      cloudHypervisorState("versionize", [{ first: 1, length: 3 * MIB }]),
      "it has no valid list of memory ranges",
    ],
    [
      "of less memory",
      cloudHypervisorState("text", X86.slice(0, 1)),
      `its memory has ${2 * MIB} bytes, and `,
    ],
  ])("with a state %s is an error", (_, state, says) => {
    const at = snapshot(state);
    expect(() => new MemoryImage([{ path: at("memory-ranges") }])).toThrow(says);
  });

  test("given as a folder is an error that names the file", () => {
    const at = snapshot(cloudHypervisorState("text", X86));
    let hint = "";
    try {
      new MemoryImage([{ path: join(at("state.json"), "..") }]);
    } catch (error) {
      hint = (error as { hint: string }).hint;
    }
    expect(hint).toContain("it is memory-ranges");
  });

  test.each(["text", "versionize"] as const)(
    "2,000 damaged states: %s",
    (form) => {
      const state = cloudHypervisorState(form, X86);
      const at = snapshot(state);
      const open = (): MemoryImage => new MemoryImage([{ path: at("memory-ranges") }]);
      damaged(at("state.json"), state.length, 67, open, memory);
    },
    120_000,
  );
});
