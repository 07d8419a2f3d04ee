/** Compressed kdump files and flattened ones, written as makedumpfile's diskdump_mod.h and makedumpfile.h describe them. */
import { closeSync, openSync, writeSync } from "node:fs";
import { DISK_DUMP_HEADER, KDUMP_SUB_HEADER, PAGE_DESC } from "../../src/uapi/kdump.ts";
import type { Range } from "./dump-writers.ts";

const PAGE = 4096;
const PAGE_BITS = PAGE * 8;

export interface KdumpOptions {
  /** In ascending order; whole pages. */
  readonly ranges: readonly Range[];
  /** `page_desc.flags` of a compressed page. A page that does not get smaller is stored as it is, with flags of 0. */
  readonly flags: number;
  readonly compress: (page: Uint8Array<ArrayBuffer>) => Uint8Array;
  /** Page frames in this part of a split dump: from the first one up to, but not including, the second one. */
  readonly part?: readonly [number, number];
  /** "DISKDUMP" for diskdump, the older tool. */
  readonly signature?: "KDUMP   " | "DISKDUMP";
}

const pagesOf = (ranges: readonly Range[]): number =>
  ranges.reduce((sum, { bytes }) => sum + bytes.length / PAGE, 0);

function headers({ ranges, part, signature = "KDUMP   " }: KdumpOptions): Buffer {
  const last = ranges.at(-1)!;
  const endPfn = (last.first + last.bytes.length) / PAGE;
  const bitmapBlocks = Math.ceil(endPfn / PAGE_BITS);
  const head = Buffer.alloc((2 + 2 * bitmapBlocks) * PAGE);
  const main = (field: keyof typeof DISK_DUMP_HEADER.fields, value: number): unknown =>
    head.writeUInt32LE(value, DISK_DUMP_HEADER.fields[field].offset);
  head.write(signature, "latin1");
  main("header_version", 6);
  main("block_size", PAGE);
  main("sub_hdr_size", 1);
  main("bitmap_blocks", 2 * bitmapBlocks);
  main("max_mapnr", endPfn);
  const sub = (field: keyof typeof KDUMP_SUB_HEADER.fields, value: number): unknown =>
    head.writeBigUInt64LE(BigInt(value), PAGE + KDUMP_SUB_HEADER.fields[field].offset);
  sub("max_mapnr_64", endPfn);
  if (part !== undefined) {
    head.writeUInt32LE(1, PAGE + KDUMP_SUB_HEADER.fields.split.offset);
    sub("start_pfn_64", part[0]);
    sub("end_pfn_64", part[1]);
  }
  for (const at of [2 * PAGE, (2 + bitmapBlocks) * PAGE])
    for (const { first, bytes } of ranges)
      for (let pfn = first / PAGE; pfn < (first + bytes.length) / PAGE; pfn++)
        head[at + (pfn >>> 3)]! |= 1 << (pfn & 7);
  return head;
}

/** Writes the file. Pages of zeros share their data, as makedumpfile has it. */
export function writeKdump(path: string, options: KdumpOptions): void {
  const { ranges, flags, compress, part = [0, Number.MAX_SAFE_INTEGER] } = options;
  const fd = openSync(path, "w");
  const head = headers(options);
  writeSync(fd, head, 0, head.length, 0);
  const table = Buffer.alloc(pagesOf(ranges) * PAGE_DESC.size);
  const zeros = new Uint8Array(PAGE);
  let zerosAt = -1;
  let zerosBytes = 0;
  let end = head.length + table.length;
  let count = 0;
  for (const { first, bytes } of ranges)
    for (let at = 0; at < bytes.length; at += PAGE) {
      const pfn = (first + at) / PAGE;
      if (pfn < part[0] || pfn >= part[1]) continue;
      const page = bytes.slice(at, at + PAGE) as Uint8Array<ArrayBuffer>;
      const isZeros = Buffer.compare(page, zeros) === 0;
      const small = isZeros && zerosAt >= 0 ? undefined : compress(page);
      const data = small !== undefined && small.length < PAGE ? small : page;
      const where = isZeros && zerosAt >= 0 ? zerosAt : end;
      const size = isZeros && zerosAt >= 0 ? zerosBytes : data.length;
      const row = count++ * PAGE_DESC.size;
      table.writeBigUInt64LE(BigInt(where), row + PAGE_DESC.fields.offset.offset);
      table.writeUInt32LE(size, row + PAGE_DESC.fields.size.offset);
      table.writeUInt32LE(size < PAGE ? flags : 0, row + PAGE_DESC.fields.flags.offset);
      if (where !== end) continue;
      writeSync(fd, data, 0, data.length, end);
      end += data.length;
      if (isZeros) [zerosAt, zerosBytes] = [where, size];
    }
  writeSync(fd, table, 0, table.length, head.length);
  closeSync(fd);
}

/** A file in makedumpfile's flattened format: a header, then records with their offsets, big-endian. */
export function flattened(file: Uint8Array, recordBytes: number): Buffer {
  const pair = (first: bigint, second: bigint): Buffer => {
    const bytes = Buffer.alloc(16);
    bytes.writeBigInt64BE(first);
    bytes.writeBigInt64BE(second, 8);
    return bytes;
  };
  const head = Buffer.alloc(PAGE);
  head.write("makedumpfile", "latin1");
  pair(1n, 1n).copy(head, 16);
  const parts: Uint8Array[] = [head];
  for (let at = 0; at < file.length; at += recordBytes) {
    const record = file.subarray(at, at + recordBytes);
    parts.push(pair(BigInt(at), BigInt(record.length)), record);
  }
  return Buffer.concat([...parts, pair(-1n, -1n)]);
}
