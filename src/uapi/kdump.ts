/** The compressed kdump format of makedumpfile (diskdump_mod.h, diskdump_mod.c) and QEMU (include/sysemu/dump.h). */
import { type Layout, layout, u32, u64 } from "./layout.ts";

/** `struct disk_dump_header` of 64-bit machines, in the first block of the file. `utsname` is at offset 12. */
export const DISK_DUMP_HEADER: Layout<
  "header_version" | "status" | "block_size" | "sub_hdr_size" | "bitmap_blocks" | "max_mapnr"
> = layout("struct disk_dump_header", 464, {
  header_version: u32(8),
  status: u32(424),
  block_size: u32(428),
  /** In blocks. */
  sub_hdr_size: u32(432),
  /** Number of blocks of both bitmaps together. */
  bitmap_blocks: u32(436),
  max_mapnr: u32(440),
});

/** `struct kdump_sub_header` of 64-bit machines, in the second block. */
export const KDUMP_SUB_HEADER: Layout<
  | "phys_base"
  | "dump_level"
  | "split"
  | "start_pfn"
  | "end_pfn"
  | "offset_vmcoreinfo"
  | "size_vmcoreinfo"
  | "offset_note"
  | "size_note"
  | "start_pfn_64"
  | "end_pfn_64"
  | "max_mapnr_64"
> = layout("struct kdump_sub_header", 104, {
  phys_base: u64(0),
  dump_level: u32(8),
  split: u32(12),
  start_pfn: u64(16),
  end_pfn: u64(24),
  /** Since header version 3. */
  offset_vmcoreinfo: u64(32),
  size_vmcoreinfo: u64(40),
  /** Since header version 4. */
  offset_note: u64(48),
  size_note: u64(56),
  /** Since header version 6. Earlier versions use the 32-bit fields above. */
  start_pfn_64: u64(80),
  end_pfn_64: u64(88),
  max_mapnr_64: u64(96),
});

/** `struct page_desc`: one per bit set in the second bitmap, in ascending order of pages. */
export const PAGE_DESC: Layout<"offset" | "size" | "flags"> = layout("struct page_desc", 24, {
  offset: u64(0),
  size: u32(8),
  flags: u32(12),
});

/** `page_desc.flags`. Without a flag, the page is stored uncompressed. */
export const DUMP_DH_COMPRESSED_ZLIB = 0x1;
export const DUMP_DH_COMPRESSED_LZO = 0x2;
export const DUMP_DH_COMPRESSED_SNAPPY = 0x4;
export const DUMP_DH_COMPRESSED_ZSTD = 0x20;

/** `disk_dump_header.status`: the disk was full before all pages were written. */
export const DUMP_DH_COMPRESSED_INCOMPLETE = 0x8;
