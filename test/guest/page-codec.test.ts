/** Single pages of kdump files, compressed by zlib and zstd. */
import { describe, expect, test } from "bun:test";
import { deflateSync, zstdCompressSync } from "node:zlib";
import { pageCodec } from "../../src/guest/image/page-codec.ts";
import { DUMP_DH_COMPRESSED_ZLIB, DUMP_DH_COMPRESSED_ZSTD } from "../../src/uapi/kdump.ts";

const PAGE_BYTES = 4096;
const page = Uint8Array.from({ length: PAGE_BYTES }, (_, at) => (at * at) >>> 5);

for (const [name, flag, compress] of [
  ["zlib", DUMP_DH_COMPRESSED_ZLIB, deflateSync],
  ["zstd", DUMP_DH_COMPRESSED_ZSTD, zstdCompressSync],
] as const)
  describe(name, () => {
    const decode = pageCodec(flag)!;
    const compressed = new Uint8Array(compress(page));

    test("a page is decompressed into a part of a larger buffer", () => {
      const buffer = new Uint8Array(3 * PAGE_BYTES).fill(0xaa);
      expect(decode(compressed, new Uint8Array(buffer.buffer, PAGE_BYTES, PAGE_BYTES))).toBe(true);
      expect(buffer.slice(PAGE_BYTES, 2 * PAGE_BYTES)).toEqual(page);
      expect(buffer.slice(0, PAGE_BYTES).every((byte) => byte === 0xaa)).toBe(true);
      expect(buffer.slice(2 * PAGE_BYTES).every((byte) => byte === 0xaa)).toBe(true);
    });

    test("data that is cut off, no data, and pages of another size are refused", () => {
      const into = (bytes: number): Uint8Array<ArrayBuffer> => new Uint8Array(bytes);
      expect(decode(compressed.slice(0, compressed.length >> 1), into(PAGE_BYTES))).toBe(false);
      expect(decode(compressed.slice(0, 1), into(PAGE_BYTES))).toBe(false);
      expect(decode(compressed, into(PAGE_BYTES - 1))).toBe(false);
      expect(decode(compressed, into(2 * PAGE_BYTES))).toBe(false);
      expect(decode(new Uint8Array(compressed.length).fill(0x5a), into(PAGE_BYTES))).toBe(false);
    });
  });
