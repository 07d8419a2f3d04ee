/** QEMU's migration streams, written by hand, in states that a saved guest does not have on demand. Real ones: test/lab/streams.lab.test.ts. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KtstrError } from "../../src/errors.ts";
import { MemoryImage } from "../../src/guest/image/image.ts";
import {
  EOS,
  end,
  footer,
  header,
  MAPPED_AT,
  mapped,
  PAGE,
  page,
  part,
  u8,
  u32,
  u64,
} from "./migration-stream.ts";
import { Mutator } from "./mutate.ts";

let folder = "";
let serial = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-migration-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(...contents: readonly Uint8Array[]): string {
  const path = join(folder, `stream-${serial++}`);
  writeFileSync(path, Buffer.concat(contents));
  return path;
}

const full = (byte: number, bytes: number = PAGE): Uint8Array => new Uint8Array(bytes).fill(byte);

/** Returns the byte that a page is filled with; "mixed"; undefined if it cannot be read. */
function pageAt(image: MemoryImage, address: number, pageBytes: number = PAGE): number | string | undefined {
  const into = new Uint8Array(pageBytes);
  if (image.physicalMemory().copyOut(address, into) < pageBytes) return undefined;
  return into.every((byte) => byte === into[0]) ? into[0] : "mixed";
}

const BLOCKS = [
  ["pc.ram", 4 * PAGE],
  ["vga.vram", 2 * PAGE],
] as const;

/** Pages 0 to 2 of RAM, of which the first is sent twice. Page 3 is never sent. */
const STREAM = [
  ...[header({ blocks: BLOCKS }), EOS, footer],
  ...[part, page(0, full(1), "pc.ram"), page(PAGE, full(2)), page(PAGE, full(9), "vga.vram"), EOS, footer],
  ...[part, page(0, full(3)), page(0, full(4), "pc.ram"), EOS, footer],
  ...[end, page(2 * PAGE, 0), EOS, footer],
  ...[u8(4), u32(7), Buffer.from("the state of devices")],
];

describe("a migration stream", () => {
  test("has the pages of the largest block: the last copy of each page, and no page that was never sent", () => {
    using image = new MemoryImage([{ path: file(...STREAM) }]);
    expect([image.format, image.sizeBytes, image.layoutIsKnown]).toEqual([
      "QEMU migration stream",
      4 * PAGE,
      false,
    ]);
    // A record without a name belongs to the block of the record before, even in another part: the 3 belongs to video memory.
    expect([0, 1, 2, 3].map((index) => pageAt(image, index * PAGE))).toEqual([4, 2, 0, undefined]);
    expect(image.warnings).toEqual([]);
  });

  test("is at the address of FILE@ADDRESS", () => {
    using image = new MemoryImage([{ path: file(...STREAM), physical: 2 ** 30 }]);
    expect([image.layoutIsKnown, pageAt(image, 0), pageAt(image, 2 ** 30 + PAGE)]).toEqual([
      true,
      undefined,
      2,
    ]);
  });

  test("can be given another layout, as a raw file, and pages are read at their new addresses", () => {
    using image = new MemoryImage([{ path: file(...STREAM) }]);
    image.arrange([
      { fileOffset: 0, physical: 0, length: PAGE },
      { fileOffset: PAGE, physical: 2 ** 32, length: 3 * PAGE },
    ]);
    expect([0, PAGE, 2 ** 32, 2 ** 32 + PAGE].map((address) => pageAt(image, address))).toEqual([
      4,
      undefined,
      2,
      0,
    ]);
  });

  test("of an old machine without a configuration is read", () => {
    const old = [header({ machine: "", blocks: BLOCKS }), EOS, end, page(0, full(5), "pc.ram"), EOS];
    using image = new MemoryImage([{ path: file(...old) }]);
    expect(pageAt(image, 0)).toBe(5);
  });

  test("has the machine's page size, and may begin with commands and the machine's UUID", () => {
    const large = 65_536;
    const parts = [
      ["configuration/target-page-bits", u32(16)],
      ["configuration/uuid", Buffer.alloc(16)],
    ] as const;
    const head = header({ machine: "virt-7.2", parts, blocks: [["mach-virt.ram", 2 * large]] });
    const at = head.indexOf("\x01\0\0\0\x02\x03ram");
    const command = Buffer.from([8, 0, 3, 0, 2, 0xaa, 0xbb]);
    using image = new MemoryImage([
      {
        path: file(
          ...[head.subarray(0, at), command, head.subarray(at), EOS, end],
          ...[page(large, full(6, large), "mach-virt.ram"), page(0, 0), EOS],
        ),
      },
    ]);
    expect([pageAt(image, 0, large), pageAt(image, large, large)]).toEqual([0, 6]);
  });

  test("that ends early has its pages, and a warning", () => {
    using image = new MemoryImage([{ path: file(...STREAM.slice(0, 6), u8(0)) }]);
    expect(image.warnings.join()).toContain("is incomplete: it ends before the last page of memory");
    expect([0, 1].map((index) => pageAt(image, index * PAGE))).toEqual([1, 2]);
  });
});

test("zeros are read correctly wherever the reader's buffer ends", () => {
  const count = 60_000;
  const head = header({ blocks: [["pc.ram", count * PAGE]] });
  const zeros = Array.from({ length: count - 1 }, (_, index) => page((index + 1) * PAGE, 0));
  const path = file(head, EOS, end, page(0, 7, "pc.ram"), ...zeros, EOS);
  using image = new MemoryImage([{ path }]);
  const other = Array.from({ length: count }, (_, index) => pageAt(image, index * PAGE));
  expect([other[0], other.slice(1).findIndex((byte) => byte !== 0)]).toEqual([7, -1]);
});

describe("a stream with mapped-ram", () => {
  const rest = [EOS, footer, end, EOS, footer];
  const pages = [1, undefined, 3, ...Array.from({ length: 70 }, () => undefined), 9];

  test("has the pages of its bitmap, and zeros elsewhere", () => {
    using image = new MemoryImage([{ path: file(mapped(pages), ...rest) }]);
    expect([image.format, image.sizeBytes, image.warnings]).toEqual([
      "QEMU migration stream",
      pages.length * PAGE,
      [],
    ]);
    expect(pages.map((_, index) => pageAt(image, index * PAGE))).toEqual(pages.map((byte) => byte ?? 0));
  });

  test("has offsets from the start of libvirt's file", () => {
    const head = saved(6);
    using image = new MemoryImage([{ path: file(head, mapped(pages, head.length), ...rest) }]);
    expect(pages.map((_, index) => pageAt(image, index * PAGE))).toEqual(pages.map((byte) => byte ?? 0));
  });

  test.each<[string, readonly Uint8Array[], string]>([
    ["ends in its pages", [mapped(pages).subarray(0, MAPPED_AT + PAGE)], "before its bitmaps were written"],
    ["ends before its bitmaps were written", [mapped(pages), EOS, footer], "before its bitmaps were written"],
    ["has another version", [mapped(pages, 0, 2), ...rest], "header has version 2"],
    ["begins later than it says", [mapped(pages, 4096).subarray(1), ...rest], "it does not start with QEVM"],
    [
      "counts from before its start",
      [Buffer.alloc(0), mapped(pages, -16), ...rest],
      "do not match its position",
    ],
  ])("that %s is an error", (_, contents, says) => {
    expect(() => new MemoryImage([{ path: file(...contents), format: "qemu" }])).toThrow(says);
  });

  test("2,000 damaged headers and bitmaps give memory or a KtstrError", () => {
    const stream = mapped(pages);
    const path = file(stream, ...rest);
    const length = stream.indexOf("pc.ram") + 6 + 8 + 28 + 16;
    using mutator = new Mutator(path, [{ name: "header", offset: 4, length: length - 4 }], 23);
    const outcomes = mutator.rounds(2000, () => {
      using image = new MemoryImage([{ path, format: "qemu" }]);
      return pageAt(image, 0) === 1 ? "same" : "other";
    });
    expect([...outcomes.keys()].sort()).toEqual(["error", "other", "same"]);
  });
});

describe("an unsupported migration stream is an error:", () => {
  const start = [header({ blocks: BLOCKS }), EOS, footer, part];
  const shared = Buffer.concat([u32(1), u8(15), Buffer.from("x-ignore-shared")]);
  const ignored = [
    header({ parts: [["configuration/capabilities", shared]], blocks: [["m", 2 ** 30]] }),
    u64(0),
    EOS,
  ];
  test.each<[string, readonly Uint8Array[], string]>([
    [
      "compressed pages",
      [...start, page(0, full(1), "pc.ram", 0x100)],
      "saved with the unsupported capability compress",
    ],
    [
      "differences",
      [...start, page(0, full(1), "pc.ram", 0x40)],
      "saved with the unsupported capability xbzrle",
    ],
    ["an unknown kind of page", [...start, page(0, full(1), "pc.ram", 0x80)], "a page has the flags 0x80"],
    [
      "a block that is not in the list",
      [...start, page(0, 0, "\x1b[m")],
      "a page belongs to a block that is not in",
    ],
    ["no block at all", [...start, page(0, 0)], "a page belongs to a block that is not in"],
    [
      "a page past the end of its block",
      [...start, page(4 * PAGE, 0, "pc.ram")],
      "a page is past the end of the block pc.ram",
    ],
    ["no pages, as in a stream of multifd", [...start, EOS, end, EOS], "it holds no page of memory"],
    [
      "a section with a disk's bitmaps within the RAM section",
      [...start, EOS, footer, u8(1), u32(3), u8(5), Buffer.from("dirty")],
      "the section dirty",
    ],
    [
      "another section's part",
      [...start, EOS, footer, u8(2), u32(3)],
      "section 3 interrupts the RAM section",
    ],
    [
      "the end of the stream within the RAM section",
      [...start, EOS, footer, u8(0)],
      "a section of type 0 interrupts the RAM section",
    ],
    [
      "more RAM than the file can hold",
      [header({ blocks: [["pc.ram", 2 ** 40]] }), EOS, end],
      "its block pc.ram has 1099511627776 bytes, but the file has ",
    ],
  ])("%s", (_, contents, says) => {
    expect(() => new MemoryImage([{ path: file(...contents), format: "qemu" }])).toThrow(says);
  });

  test.each<[string, readonly Uint8Array[], string]>([
    [
      "compressed pages",
      [...start, page(0, full(1), "pc.ram", 0x100)],
      "the unsupported capability compress",
    ],
    ["memory that was left out", ignored, "It was saved with x-ignore-shared."],
  ])("%s, even without --format", (_, contents, says) => {
    const open = (): unknown => new MemoryImage([{ path: file(...contents) }]);
    try {
      open();
    } catch (error) {
      expect(`${error} ${(error as KtstrError).hint}`).toContain(says);
      return;
    }
    throw new Error("it was read");
  });

  test.each<[string, Uint8Array, string]>([
    [
      "a configuration without a machine's name",
      header({ machine: "\x07", blocks: BLOCKS }),
      "its configuration has no machine name",
    ],
    ["an empty list of blocks", Buffer.concat([header({ blocks: [] }), u8(1)]), "it has no blocks of RAM"],
    [
      "another first section",
      Buffer.concat([Buffer.from("QEVM"), u32(3), u8(4)]),
      "its first section has the type 4",
    ],
  ])("%s: it is raw memory; with --format the error has the reason", (_, head, says) => {
    const path = file(head, full(0x11, 8 * PAGE));
    using image = new MemoryImage([{ path }]);
    expect(image.format).toBe("raw");
    expect(image.doubts.join()).toContain(says);
    expect(() => new MemoryImage([{ path, format: "qemu" }])).toThrow(says);
  });
});

test("2,000 damaged streams give memory or a KtstrError", () => {
  const path = file(...STREAM);
  const places = [{ name: "stream", offset: 4, length: Buffer.concat(STREAM).length - 4 - PAGE }];
  const head = { name: "header", offset: 4, length: STREAM[0]!.length - 4 };
  using mutator = new Mutator(path, [...places, head, head], 18);
  let read = 0;
  for (let round = 0; round < 2000; round++) {
    const told = mutator.damage();
    try {
      using image = new MemoryImage([{ path, format: "qemu" }]);
      pageAt(image, 0);
      read++;
    } catch (error) {
      if (!(error instanceof KtstrError)) throw new Error(`${told}: ${error}`, { cause: error });
    }
    mutator.undo();
  }
  expect(read).toBeGreaterThan(100);
  expect(read).toBeLessThan(1900);
});

test("the time to read a list of blocks is bounded by the size of the file", () => {
  const endless = Buffer.concat([
    header({ blocks: [] }).subarray(0, -8),
    u64(2 ** 52 + 4),
    full(1, 64 * PAGE),
  ]);
  expect(() => new MemoryImage([{ path: file(endless), format: "qemu" }])).toThrow(/blocks/);
});

/** Writes a header of libvirt's qemu_saveimage.h. */
function saved(format: number, { magic = "LibvirtQemudSave", version = 2, xml = "<domain/>" } = {}): Buffer {
  const bytes = Buffer.alloc(92);
  bytes.write(magic);
  bytes.writeUInt32LE(version, 16);
  bytes.writeUInt32LE(xml.length + 100, 20);
  bytes.writeUInt32LE(format, 28);
  return Buffer.concat([bytes, Buffer.from(xml), Buffer.alloc(100)]);
}

describe("a libvirt save file", () => {
  test("is the stream after its XML", () => {
    using image = new MemoryImage([{ path: file(saved(0), ...STREAM) }]);
    expect([image.format, ...[0, 1, 2, 3].map((index) => pageAt(image, index * PAGE))]).toEqual([
      "QEMU migration stream",
      ...[4, 2, 0, undefined],
    ]);
  });

  test.each<[string, Buffer, string]>([
    ["of an unknown format", saved(7), "its stream has the unsupported format 7"],
    ["of something else", saved(3), "its contents are not a memory dump"],
    ["half written", saved(0, { magic: "LibvirtQemudPart" }), "it was not written completely"],
  ])("that is %s is an error", (_, head, says) => {
    expect(() => new MemoryImage([{ path: file(head, full(0x11)) }])).toThrow(says);
  });

  for (const tool of ["gzip", "bzip2", "xz", "lzop", "zstd"]) {
    const isThere = Bun.which(tool) !== null;
    test.skipIf(!isThere)(
      `with a stream compressed by ${tool} is decompressed${isThere ? "" : `: no ${tool} on this machine`}`,
      () => {
        const child = Bun.spawnSync([tool, "-c"], { stdin: Buffer.concat(STREAM), stdout: "pipe" });
        expect(child.exitCode).toBe(0);
        using image = new MemoryImage([{ path: file(saved(1), child.stdout) }]);
        expect([image.format, ...[0, 1, 2, 3].map((index) => pageAt(image, index * PAGE))]).toEqual([
          "QEMU migration stream",
          ...[4, 2, 0, undefined],
        ]);
      },
    );
  }

  test("2,000 damaged headers give memory or a KtstrError", () => {
    const head = saved(0);
    const path = file(head, ...STREAM);
    using mutator = new Mutator(path, [{ name: "header", offset: 0, length: 92 }], 29);
    const outcomes = mutator.rounds(2000, () => {
      using image = new MemoryImage([{ path, format: "libvirt" }]);
      return pageAt(image, 0) === 4 ? "same" : "other";
    });
    expect(Math.min(...["same", "error"].map((outcome) => outcomes.get(outcome) ?? 0))).toBeGreaterThan(10);
  });

  test.each<[string, Buffer, string]>([
    ["an unknown version", saved(0, { version: 9 }), "its version is 9"],
    ["no XML", saved(0, { xml: "domain" }), "no XML follows its header"],
  ])("with %s is raw memory", (_, head, says) => {
    using image = new MemoryImage([{ path: file(head, full(0x11, 4 * PAGE)) }]);
    expect([image.format, image.doubts.join()]).toEqual(["raw", expect.stringContaining(says)]);
  });
});
