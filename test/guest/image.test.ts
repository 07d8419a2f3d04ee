/** Memory files: raw files in pieces, sparse files, and ELF cores. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { FormatError, KtstrError, UsageError } from "../../src/errors.ts";
import { MemoryImage } from "../../src/guest/image/image.ts";
import { EHDR, PHDR } from "../../src/uapi/elf.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ktstr-image-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

let serial = 0;
/** Writes a file of pages; page `n` is filled with `n + first`. */
function pages(count: number, first = 1): string {
  const path = join(folder, `mem-${serial++}`);
  const bytes = new Uint8Array(count * 4096);
  for (let page = 0; page < count; page++) bytes.fill(page + first, page * 4096, (page + 1) * 4096);
  writeFileSync(path, bytes);
  return path;
}

interface Segment {
  readonly type?: number;
  readonly physical?: number;
  readonly offset: number;
  readonly size: number;
}

/** Writes an ELF core with these segments, and this tail from byte 0x1000 on. */
function core(segments: readonly Segment[], tail: Uint8Array, change?: (view: DataView) => void): string {
  const bytes = new Uint8Array(0x1000 + tail.length);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(EHDR.fields.type.offset, 4, true);
  view.setUint16(EHDR.fields.machine.offset, 62, true);
  view.setBigUint64(EHDR.fields.phoff.offset, 64n, true);
  view.setUint16(EHDR.fields.phentsize.offset, 56, true);
  view.setUint16(EHDR.fields.phnum.offset, segments.length, true);
  for (const [index, { type = 1, physical = 0, offset, size }] of segments.entries()) {
    const at = 64 + index * PHDR.size;
    view.setUint32(at, type, true);
    view.setBigUint64(at + PHDR.fields.offset.offset, BigInt(offset), true);
    view.setBigUint64(at + PHDR.fields.paddr.offset, BigInt(physical), true);
    view.setBigUint64(at + PHDR.fields.filesz.offset, BigInt(size), true);
  }
  bytes.set(tail, 0x1000);
  change?.(view);
  const path = join(folder, `core-${serial++}`);
  writeFileSync(path, bytes);
  return path;
}

const tailOf = (count: number): Uint8Array => {
  const bytes = new Uint8Array(count * 4096);
  for (let page = 0; page < count; page++) bytes.fill(page + 1, page * 4096, (page + 1) * 4096);
  return bytes;
};

/** Returns the byte at each physical address; undefined if the image does not have it. */
function bytesAt(image: MemoryImage, ...addresses: number[]): (number | undefined)[] {
  const memory = image.physicalMemory();
  return addresses.map((address) => {
    const at = memory.locate(address, 1);
    return at < 0 ? undefined : memory.window.bytes[at];
  });
}

describe("raw memory", () => {
  test("pieces are at their given addresses, with no memory between them", () => {
    using image = new MemoryImage([
      { path: pages(2), physical: 0 },
      { path: pages(2, 11), physical: 0x1_0000_0000 },
    ]);
    expect(
      bytesAt(image, 0, 0x1fff, 0x2000, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_1fff, 0x1_0000_2000),
    ).toEqual([1, 2, undefined, undefined, 11, 12, undefined]);
    expect(image.layoutIsKnown).toBe(true);
  });

  test("a single file without an address can be given another layout, with a hole", () => {
    using image = new MemoryImage([{ path: pages(3) }]);
    expect(image.layoutIsKnown).toBe(false);
    image.arrange([
      { fileOffset: 0, physical: 0, length: 4096 },
      { fileOffset: 4096, physical: 0x10_0000, length: 8192 },
    ]);
    expect(bytesAt(image, 0, 0x1000, 0x10_0000, 0x10_1000)).toEqual([1, undefined, 2, 3]);
  });

  test("a read that crosses from one piece to the next is copied from both", () => {
    using image = new MemoryImage([
      { path: pages(1), physical: 0 },
      { path: pages(1, 7), physical: 4096 },
    ]);
    const into = new Uint8Array(4);
    expect(image.physicalMemory().copyOut(4094, into)).toBe(4);
    expect([...into]).toEqual([1, 1, 7, 7]);
    expect(image.physicalMemory().copyOut(8190, into)).toBe(2);
  });

  test("overlapping pieces are an error, and so are two files without addresses", () => {
    expect(
      () =>
        new MemoryImage([
          { path: pages(2), physical: 0 },
          { path: pages(1), physical: 4096 },
        ]),
    ).toThrow("hold it");
    expect(() => new MemoryImage([{ path: pages(1) }, { path: pages(1) }])).toThrow(UsageError);
    expect(() => new MemoryImage([])).toThrow(UsageError);
  });

  test("a file that cannot be memory is an error with the reason", () => {
    const file = (content: string | Uint8Array): string => {
      const path = join(folder, `other-${serial++}`);
      writeFileSync(path, content);
      return path;
    };
    expect(() => new MemoryImage([{ path: join(folder, "none") }])).toThrow(/^open .*none: ENOENT/);
    expect(() => new MemoryImage([{ path: folder }])).toThrow(/EISDIR/);
    expect(() => new MemoryImage([{ path: file("") }])).toThrow("the file is empty");
    const path = pages(1);
    expect(() => new MemoryImage([{ path, format: "elf" }])).toThrow("it is not an ELF file");
    expect(() => new MemoryImage([{ path, format: "tape" }])).toThrow(UsageError);
  });

  test("a file that shrank is an error", () => {
    const path = pages(4);
    using image = new MemoryImage([{ path, physical: 0 }]);
    image.check();
    truncateSync(path, 4096);
    expect(() => image.check()).toThrow(KtstrError);
    expect(() => image.search(() => false)).toThrow("the file shrank from 16384 to 4096 bytes");
  });

  test("closing twice is allowed, and unmaps the file", () => {
    const image = new MemoryImage([{ path: pages(1), physical: 0 }]);
    const memory = image.physicalMemory();
    image[Symbol.dispose]();
    image[Symbol.dispose]();
    expect(memory.windows[0]!.bytes.length).toBe(0);
    expect(() => image.check()).toThrow("used after it was closed");
  });
});

describe("search", () => {
  /** 64 GiB of hole, with data at three places. */
  function sparse(): { path: string; places: number[] } {
    const path = join(folder, `sparse-${serial++}`);
    const fd = openSync(path, "w");
    ftruncateSync(fd, 64 * 2 ** 30);
    const places = [0x10_0000, 5 * 2 ** 30 + 0x3000, 63 * 2 ** 30];
    for (const place of places) writeSync(fd, Buffer.alloc(4096, 0x5a), 0, 4096, place);
    closeSync(fd);
    return { path, places };
  }

  test("holes of a sparse file are not visited, and every page of data is", () => {
    const { path, places } = sparse();
    using image = new MemoryImage([{ path, physical: 0 }]);
    const seen: number[] = [];
    let visitedBytes = 0;
    image.search((view, physical) => {
      visitedBytes += view.byteLength;
      for (let at = 0; at < view.byteLength; at += 4096)
        if (view.getUint8(at) === 0x5a) seen.push(physical + at);
      return false;
    });
    expect(seen).toEqual(places);
    expect(visitedBytes).toBeLessThan(16 * 2 ** 20);
  });

  test("all windows of a file past 4 GiB are readable", () => {
    const { path, places } = sparse();
    using image = new MemoryImage([{ path, physical: 0 }]);
    expect(bytesAt(image, ...places, 2 ** 32, 64 * 2 ** 30)).toEqual([0x5a, 0x5a, 0x5a, 0, undefined]);
  });

  test("pages are aligned as in the guest, even if a piece begins within one", () => {
    using image = new MemoryImage([{ path: pages(4), physical: 0x1800 }]);
    const firsts: [number, number][] = [];
    image.search((view, physical) => {
      for (let at = 0; at + 4096 <= view.byteLength; at += 4096)
        firsts.push([physical + at, view.getUint8(at)]);
      return false;
    });
    expect(firsts).toEqual([
      [0x2000, 1],
      [0x3000, 2],
      [0x4000, 3],
    ]);
  });

  test("it ends when the visitor says so, and progress ends at the total", () => {
    const path = join(folder, `long-${serial++}`);
    writeFileSync(path, new Uint8Array(40 * 2 ** 20).fill(1));
    using image = new MemoryImage([{ path, physical: 0 }]);
    let visits = 0;
    image.search(() => ++visits === 2);
    expect(visits).toBe(2);
    const progress: [number, number][] = [];
    image.search(
      () => false,
      (done, total) => progress.push([done, total]),
    );
    expect(progress.at(-1)).toEqual([40 * 2 ** 20, 40 * 2 ** 20]);
    expect(progress.length).toBe(11);
  });
});

describe("ELF cores", () => {
  test("segments are at their physical addresses, for any position in the file", () => {
    const path = core(
      [
        { physical: 0x1_0000_0000, offset: 0x1000, size: 0x1000 },
        { physical: 0, offset: 0x2001, size: 0xfff },
      ],
      tailOf(2),
    );
    using image = new MemoryImage([{ path }]);
    expect([image.format, image.layoutIsKnown]).toEqual(["ELF core", true]);
    expect(bytesAt(image, 0, 0xffe, 0xfff, 0x1_0000_0000)).toEqual([2, 2, undefined, 1]);
  });

  test("of memory in two segments, the first by address is used", () => {
    const path = core(
      [
        { physical: 0x800, offset: 0x2000, size: 0x1000 },
        { physical: 0, offset: 0x1000, size: 0x1000 },
        { physical: 0x100, offset: 0x1000, size: 0x200 },
      ],
      tailOf(2),
    );
    using image = new MemoryImage([{ path }]);
    expect(bytesAt(image, 0x7ff, 0xfff, 0x1000, 0x17ff, 0x1800)).toEqual([1, 1, 2, 2, undefined]);
  });

  test.each([[[0, 1]], [[1, 0]]])(
    "one and a raw file with an address have a known layout: order %j",
    (order) => {
      const sources = [
        { path: core([{ physical: 0, offset: 0x1000, size: 0x1000 }], tailOf(1)) },
        { path: pages(1, 7), physical: 0x10_0000 },
      ];
      using image = new MemoryImage(order.map((index) => sources[index]!));
      expect(image.layoutIsKnown).toBe(true);
      expect(bytesAt(image, 0, 0x1000, 0x10_0000)).toEqual([1, undefined, 7]);
    },
  );

  test("a layout larger than the file has the part that is in the file", () => {
    // Like an ELF file: it is read whole, not mapped.
    const path = core([], tailOf(1));
    using image = new MemoryImage([{ path, format: "raw" }]);
    image.arrange([{ fileOffset: 0, physical: 0, length: 0x4000 }]);
    expect(bytesAt(image, 0x1000, 0x1fff, 0x2000)).toEqual([1, 1, undefined]);
  });

  test("one that ends early keeps the existing part, and reports the missing one", () => {
    const path = core([{ physical: 0, offset: 0x1000, size: 0x3000 }], tailOf(1));
    using image = new MemoryImage([{ path }]);
    expect(image.sizeBytes).toBe(0x1000);
    expect(image.warnings).toEqual([
      `${basename(path)}: 8192 bytes of the memory at 0x0 are missing: the file is truncated.`,
    ]);
  });

  test("its VMCOREINFO note is found among others", () => {
    const note = (name: string, type: number, content: string): Buffer => {
      const head = Buffer.alloc(12);
      head.writeUInt32LE(name.length + 1, 0);
      head.writeUInt32LE(content.length, 4);
      head.writeUInt32LE(type, 8);
      const padded = (text: string): Buffer =>
        Buffer.from(text.padEnd(Math.ceil(text.length / 4) * 4, "\0"), "latin1");
      return Buffer.concat([head, padded(`${name}\0`), padded(content)]);
    };
    const notes = Buffer.concat([note("CORE", 1, "status"), note("VMCOREINFO", 0, "OSRELEASE=7.2\n")]);
    const tail = Buffer.concat([Buffer.alloc(4096), notes]);
    const path = core(
      [
        { type: 4, offset: 0x2000, size: notes.length },
        { physical: 0, offset: 0x1000, size: 0x1000 },
      ],
      tail,
    );
    using image = new MemoryImage([{ path }]);
    expect(Buffer.from(image.vmcoreinfo!).toString()).toBe("OSRELEASE=7.2\n");
  });

  const good: readonly Segment[] = [{ physical: 0, offset: 0x1000, size: 0x1000 }];
  test.each<[string, readonly Segment[], (view: DataView) => void]>([
    ["it is not a 64-bit ELF file", good, (view) => view.setUint8(4, 1)],
    ["it is not little-endian", good, (view) => view.setUint8(5, 2)],
    ["machine 3 is neither x86-64 (62) nor arm64 (183)", good, (view) => view.setUint16(18, 3, true)],
    ["a program header has 8 bytes", good, (view) => view.setUint16(54, 8, true)],
    ["extend past the end of the file", good, (view) => view.setBigUint64(32, 2n ** 63n, true)],
    ["extend past the end of the file", good, (view) => view.setUint16(56, 0x4000, true)],
    ["section 0 gives", good, (view) => view.setUint16(56, 0xffff, true)],
    ["no segment holds memory", [], () => {}],
    ["no segment holds memory", [{ physical: 0, offset: 2 ** 52, size: 0x1000 }], () => {}],
    ["no segment holds memory", [{ physical: 2 ** 52, offset: 0x1000, size: 0x1000 }], () => {}],
  ])(
    "a file with a bad header is raw memory, and an error with --format elf: %s",
    (problem, segments, change) => {
      const path = core(segments, tailOf(1), change);
      expect(() => new MemoryImage([{ path, format: "elf" }])).toThrow(FormatError);
      expect(() => new MemoryImage([{ path, format: "elf" }])).toThrow(problem);
      using image = new MemoryImage([{ path }]);
      expect([image.format, image.sizeBytes]).toEqual(["raw", 0x2000]);
      // The assumed format is part of the error if no kernel is found.
      expect(image.doubts.join()).toContain(`${path} starts like an ELF file but was read as raw memory: `);
    },
  );

  test("one that is cut anywhere is an error, or the part that is left", () => {
    const path = core(good, tailOf(1));
    for (let length = 0x2000; length > 0; length -= 97) {
      truncateSync(path, length);
      try {
        using image = new MemoryImage([{ path }]);
        expect(image.sizeBytes).toBeLessThanOrEqual(Math.max(length, 64));
      } catch (error) {
        expect(error).toBeInstanceOf(KtstrError);
      }
    }
  });
});
