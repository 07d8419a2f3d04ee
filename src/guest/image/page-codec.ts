/** Decompresses the single pages of kdump files. */
import { KtstrError } from "../../errors.ts";
import { sharedLibrary } from "../../ffi.ts";
import {
  DUMP_DH_COMPRESSED_LZO,
  DUMP_DH_COMPRESSED_SNAPPY,
  DUMP_DH_COMPRESSED_ZLIB,
  DUMP_DH_COMPRESSED_ZSTD,
} from "../../uapi/kdump.ts";

/** Decompresses one page into `into`. Returns false if the data is damaged or does not fill `into`. */
export type PageCodec = (from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>) => boolean;

/**
 * Returns the codec for `page_desc.flags`, or undefined if it is not known. Throws `KtstrError` if the codec's library is
 * not installed.
 */
export function pageCodec(flags: number): PageCodec | undefined {
  switch (flags & ALL) {
    case 0:
      return stored;
    case DUMP_DH_COMPRESSED_ZLIB:
      return libdeflateCodec() ?? inflate;
    case DUMP_DH_COMPRESSED_ZSTD:
      return unzstd;
    case DUMP_DH_COMPRESSED_LZO:
      return lzoCodec();
    case DUMP_DH_COMPRESSED_SNAPPY:
      return snappyCodec();
    default:
      return undefined;
  }
}

const ALL =
  DUMP_DH_COMPRESSED_ZLIB | DUMP_DH_COMPRESSED_LZO | DUMP_DH_COMPRESSED_SNAPPY | DUMP_DH_COMPRESSED_ZSTD;

function stored(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): boolean {
  if (from.length !== into.length) return false;
  into.set(from);
  return true;
}

/** windowBits from 8 to 15 select the zlib format (RFC 1950). */
const ZLIB_CONTAINER = { windowBits: 15 } as const;

/**
 * Returns a codec that uses libdeflate, or undefined if the library is not installed. `enum libdeflate_result
 * libdeflate_zlib_decompress(d, in, in_nbytes, out, out_nbytes_avail, actual_out)` returns 0 if the output has exactly this
 * size. It takes two thirds of the time of `Bun.inflateSync`, and writes into `out`.
 */
function libdeflateCodec(): PageCodec | undefined {
  try {
    const { libdeflate_alloc_decompressor, libdeflate_zlib_decompress } = sharedLibrary(
      ["libdeflate.so.0"],
      {
        libdeflate_alloc_decompressor: { args: [], returns: "i64_fast" },
        libdeflate_zlib_decompress: { args: ["ptr", "ptr", "u64", "ptr", "u64", "ptr"], returns: "i32" },
      },
      (why) => missing("zlib", "libdeflate0", why, WITH_ZLIB),
    );
    // It has 11 KB, and is freed when the process exits.
    const decompressor = libdeflate_alloc_decompressor();
    if (decompressor === 0) return undefined;
    return (from, into) =>
      libdeflate_zlib_decompress(decompressor, from, from.length, into, into.length, null) === 0;
  } catch {
    return undefined;
  }
}

function inflate(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): boolean {
  return decompressInto(() => Bun.inflateSync(from, ZLIB_CONTAINER), into);
}

function unzstd(from: Uint8Array<ArrayBuffer>, into: Uint8Array<ArrayBuffer>): boolean {
  return decompressInto(() => Bun.zstdDecompressSync(from), into);
}

function decompressInto(decompress: () => Uint8Array, into: Uint8Array<ArrayBuffer>): boolean {
  try {
    const bytes = decompress();
    if (bytes.length !== into.length) return false;
    into.set(bytes);
    return true;
  } catch {
    return false;
  }
}

/** Advice for readers of kdump files if a library is missing. */
const WITH_ZLIB = "write the dump again with zlib: `makedumpfile -c`";

/**
 * liblzo2: `int lzo1x_decompress_safe(src, src_len, dst, lzo_uint *dst_len, wrkmem)`, which returns 0 on success. Throws
 * `KtstrError` if the library is not installed; `instead` is the alternative in its hint.
 */
export function lzoCodec(instead: string = WITH_ZLIB): PageCodec {
  const { lzo1x_decompress_safe } = sharedLibrary(
    ["liblzo2.so.2"],
    { lzo1x_decompress_safe: { args: ["ptr", "u64", "ptr", "ptr", "ptr"], returns: "i32" } },
    (why) => missing("LZO", "liblzo2-2", why, instead),
  );
  const length = new BigUint64Array(1);
  return (from, into) => {
    length[0] = BigInt(into.length);
    return (
      lzo1x_decompress_safe(from, from.length, into, length, null) === 0 && length[0] === BigInt(into.length)
    );
  };
}

/**
 * libsnappy's C binding (snappy-c.h): `snappy_status snappy_uncompress(src, src_len, dst, size_t *dst_len)`. Throws
 * `KtstrError` if the library is not installed; `instead` is the alternative in its hint.
 */
export function snappyCodec(instead: string = WITH_ZLIB): PageCodec {
  const { snappy_uncompress } = sharedLibrary(
    ["libsnappy.so.1"],
    { snappy_uncompress: { args: ["ptr", "u64", "ptr", "ptr"], returns: "i32" } },
    (why) => missing("Snappy", "libsnappy1v5", why, instead),
  );
  const length = new BigUint64Array(1);
  return (from, into) => {
    length[0] = BigInt(into.length);
    return snappy_uncompress(from, from.length, into, length) === 0 && length[0] === BigInt(into.length);
  };
}

function missing(compression: string, debian: string, why: string, instead: string): KtstrError {
  return new KtstrError(
    `decompress: this file uses ${compression}, and the library for it cannot be opened (${why})`,
    { hint: `Install it (Debian: ${debian}), or ${instead}.` },
  );
}
