/** Parts of a capture: the ELF core, its note, and facts that it does not have. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, openSync, rmSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FormatError, KtstrError } from "../../src/errors.ts";
import { type CaptureNote, captureNoteText, parseCaptureNote } from "../../src/guest/capture/note.ts";
import { TouchedPages } from "../../src/guest/capture/pages.ts";
import { CapturedSymbols } from "../../src/guest/capture/symbols.ts";
import { coreFile } from "../../src/guest/capture/vmcore.ts";
import { MemoryImage } from "../../src/guest/image/image.ts";
import { PhysicalMemory, windowOf } from "../../src/guest/image/physical.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-core-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const note: CaptureNote = {
  memoryBytes: 2 ** 30,
  symbolCount: 200_000,
  addresses: new Map([
    ["map_idr", { hi: 0xffff_ffff | 0, lo: 0x8123_4567 | 0 }],
    ["scx_ops", undefined],
  ]),
  nearest: new Map([
    ["0xffffffff81000010", { name: "start+er", offset: 16 }],
    ["0x0000000000000001", undefined],
  ]),
  values: new Set([3, 1]),
  warnings: ["It is assumed = so.", "And (so)=on."],
};

describe("the note", () => {
  test("is read back as written, and does not depend on the order of the reads", () => {
    const bytes = Buffer.from(captureNoteText(note));
    expect(parseCaptureNote(bytes)).toEqual(note);
    const turned = {
      ...note,
      addresses: new Map([...note.addresses].reverse()),
      nearest: new Map([...note.nearest].reverse()),
      values: new Set([1, 3]),
    };
    expect(captureNoteText(turned)).toBe(bytes.toString());
  });

  test("a line break in a warning does not begin a fact", () => {
    const text = captureNoteText({ ...note, warnings: ["one\nSYMBOL(map_idr)=0x0000000000000001"] });
    expect(parseCaptureNote(Buffer.from(text)).addresses).toEqual(note.addresses);
  });

  test.each([
    ["", "its format is"],
    ["KTSTR=2\nMEMORY=1\nSYMBOLS=1\n", 'its format is "2", not 1'],
    ["KTSTR=1\nSYMBOLS=1\n", 'MEMORY is ""'],
    ["KTSTR=1\nMEMORY=-5\nSYMBOLS=1\n", 'MEMORY is "-5"'],
    ["KTSTR=1\nMEMORY=99999999999999999999\nSYMBOLS=1\n", "MEMORY is"],
    ["KTSTR=1\nMEMORY=1\nSYMBOLS=1\nSYMBOL(x)=12\n", '"12" is not an address'],
    ["KTSTR=1\nMEMORY=1\nSYMBOLS=1\nNEAREST(x)=name\n", '"name" is not a symbol with an offset'],
  ])("%j is refused", (text, sentence) => {
    expect(() => parseCaptureNote(Buffer.from(text))).toThrow(FormatError);
    expect(() => parseCaptureNote(Buffer.from(text))).toThrow(sentence);
  });

  test("a symbol that was not looked up is an error; one that the kernel does not have is not", () => {
    const symbols = new CapturedSymbols(note);
    expect(symbols.address("map_idr")).toEqual({ hi: -1, lo: 0x8123_4567 | 0 });
    expect(symbols.address("scx_ops")).toBeUndefined();
    expect(() => symbols.address("prog_idr")).toThrow(KtstrError);
    expect(symbols.nearest({ hi: -1, lo: 0x8100_0010 | 0 })).toEqual({ name: "start+er", offset: 16 });
    expect(symbols.nearest({ hi: -1, lo: 0x8100_0011 | 0 })).toBeUndefined();
  });
});

test("pages that were read in any order become runs sorted by address", () => {
  const pages = new TouchedPages();
  pages.note(0x5fff, 2);
  pages.note(0x1000, 1);
  pages.note(0x1800, 0);
  pages.note(2 ** 40 + 10, 4096);
  pages.note(0x4000, 4096);
  expect(pages.count).toBe(6);
  expect(pages.runs(2 ** 30)).toEqual([
    { physical: 0x1000, length: 0x1000 },
    { physical: 0x4000, length: 0x3000 },
    { physical: 2 ** 40, length: 0x2000 },
  ]);
  expect(pages.runs(0x1000)).toHaveLength(6);
});

describe("the core", () => {
  const contents = { machine: "x86_64", notes: [], directBase: undefined, image: undefined } as const;

  test.skipIf(Bun.which("readelf") === null)(
    "with more segments than its header can count has the number in section 0",
    () => {
      const count = 70_000;
      const runs = Array.from({ length: count }, (_, index) => ({ physical: index * 8192, length: 4096 }));
      const path = join(folder, "many");
      const file = coreFile(new PhysicalMemory([]), { ...contents, runs });
      writeSync(openSync(path, "w"), file.pieces().next().value as Uint8Array);
      truncateSync(path, file.sizeBytes);
      using image = new MemoryImage([{ path }]);
      expect(image.pieces.length).toBe(count);
      expect(image.pieces.at(-1)).toMatchObject({ physical: (count - 1) * 8192, length: 4096 });
      expect(image.warnings).toEqual([]);
      const header = Bun.spawnSync(["readelf", "-h", path]);
      expect(header.stderr.toString()).toBe("");
      expect(header.stdout.toString()).toContain(`Number of program headers:         65535 (${count + 1})`);
    },
  );

  test.skipIf(Bun.which("readelf") === null)(
    "pages of the kernel's image also have the image's addresses, and are in the file once",
    () => {
      const bytes = Uint8Array.from({ length: 0x8000 }, (_, at) => at >>> 12);
      const runs = [
        { physical: 0x1000, length: 0x3000 },
        { physical: 0x6000, length: 0x1000 },
      ];
      const image = { physical: 0x2000, length: 0x5000, virtual: 0xffff_ffff_8100_0000n };
      const directBase = 0xffff_8880_0000_0000n;
      const path = join(folder, "aliases");
      const file = coreFile(new PhysicalMemory([windowOf(0, bytes)]), {
        ...contents,
        runs,
        image,
        directBase,
      });
      writeFileSync(path, Buffer.concat([...file.pieces()]));
      using opened = new MemoryImage([{ path }]);
      expect(opened.sizeBytes).toBe(0x4000);
      for (const { physical, bytes: part } of opened.physicalMemory().windows)
        expect([...part].every((byte, at) => byte === (physical + at) >>> 12)).toBe(true);
      const listed = Bun.spawnSync(["readelf", "-lW", path]).stdout.toString();
      const loads = [...listed.matchAll(/LOAD +(0x\w+) (0x\w+) (0x\w+) (0x\w+)/g)].map(([, ...words]) =>
        words.map(BigInt),
      );
      const data = loads[2]![0]!;
      expect(loads).toEqual([
        [data + 0x1000n, image.virtual, 0x2000n, 0x2000n],
        [data + 0x3000n, image.virtual + 0x4000n, 0x6000n, 0x1000n],
        [data, directBase + 0x1000n, 0x1000n, 0x3000n],
        [data + 0x3000n, directBase + 0x6000n, 0x6000n, 0x1000n],
      ]);
    },
  );
});
