/** Ring buffers whose positions and records no kernel produces on demand. */
import { afterAll, describe, expect, test } from "bun:test";
import { closeSync, openSync, writeFileSync } from "node:fs";
import { mmap } from "../../src/ffi.ts";
import { openLive } from "../../src/live/live.ts";
import type { MapContents } from "../../src/state.ts";
import { EPERM } from "../../src/uapi/errno.ts";
import { MapType } from "../../src/uapi/names.ts";
import { FakeKernel } from "./fake.ts";
import { Kit } from "./kit.ts";

const PAGE = 4096;
const SIZE = 4096;
const BUSY = 0x8000_0000;
const DISCARDED = 0x4000_0000;

interface Ring {
  readonly consumer: bigint;
  readonly producer: bigint;
  /** Record headers by their offset in the ring. */
  readonly headers: Readonly<Record<number, number>>;
}

const kit = new Kit();
afterAll(() => kit[Symbol.dispose]());

/** Reads a ring buffer whose pages are in a file, with the data twice, as the kernel maps it. */
function read({ consumer, producer, headers }: Ring): MapContents {
  const bytes = Buffer.alloc(2 * PAGE + 2 * SIZE, 0x11);
  bytes.writeBigUInt64LE(consumer, 0);
  bytes.writeBigUInt64LE(producer, PAGE);
  for (const [offset, header] of Object.entries(headers)) {
    for (const copy of [0, SIZE]) bytes.writeUInt32LE(header, 2 * PAGE + copy + Number(offset));
  }
  const path = `${kit.directory}/ring`;
  writeFileSync(path, bytes);
  const fd = openSync(path, "r");
  try {
    const kernel = new FakeKernel();
    kernel.mmap = (options) => mmap({ ...options, fd });
    kernel.addMap({ id: 1, type: MapType.ringbuf, keySize: 0, valueSize: 0, maxEntries: SIZE });
    using live = openLive({ sys: kernel });
    const [map] = live.maps();
    return live.contents(map!);
  } finally {
    closeSync(fd);
  }
}

describe("a ring buffer's pages", () => {
  test("with busy and discarded records", () => {
    const contents = read({
      consumer: 8n,
      producer: 64n,
      headers: { 8: 4, 24: BUSY + 8, 40: DISCARDED + 16 },
    });
    const records = [
      { value: new Uint8Array(4).fill(0x11) },
      { value: new Uint8Array(8).fill(0x11), note: "busy" },
      { value: new Uint8Array(16).fill(0x11), note: "discarded" },
    ];
    expect(contents).toEqual({
      kind: "records",
      records,
      end: { complete: true, stopped: "", skipped: new Map() },
    });
  });

  test("with a record that wraps around the end give it completely", () => {
    const at = BigInt(SIZE) * 7n + 4088n;
    const contents = read({ consumer: at, producer: at + 24n, headers: { 4088: 16 } });
    expect(contents).toMatchObject({
      records: [{ value: new Uint8Array(16).fill(0x11) }],
      end: { complete: true },
    });
  });

  test("with a record longer than the ring end there", () => {
    const contents = read({ consumer: 0n, producer: 64n, headers: { 0: 8, 16: SIZE + 8 } });
    expect(contents).toMatchObject({ records: [{}], end: { complete: false } });
  });

  for (const [what, consumer, producer] of [
    ["further apart than the ring is long", 0n, BigInt(SIZE) + 8n],
    ["in the wrong order", 64n, 8n],
    ["that no record begins at", 4095n, 8192n],
    ["at the end of all numbers", 2n ** 64n - 8n, 2n ** 64n - 1n],
  ] as const) {
    test(`with positions ${what} are reported as invalid, and not read`, () => {
      const contents = read({ consumer, producer, headers: {} });
      expect(contents).toMatchObject({ kind: "records", records: [], end: { complete: false } });
    });
  }

  test("that may not be mapped give an error", () => {
    const kernel = new FakeKernel();
    kernel.mmap = () => -EPERM;
    kernel.addMap({ id: 1, type: MapType.ringbuf, keySize: 0, valueSize: 0, maxEntries: SIZE });
    using live = openLive({ sys: kernel });
    const [map] = live.maps();
    expect(live.contents(map!)).toMatchObject({ kind: "unreadable", why: { reason: "not-permitted" } });
  });
});
