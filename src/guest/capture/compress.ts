/** A capture compressed, so that it opens fast. */
import { constants, zstdCompressSync } from "node:zlib";

/** Pieces go together into a frame of up to this many bytes; a longer piece is a frame of its own. */
const FRAME_BYTES = 4 * 2 ** 20;

/**
 * Frames of zstd, each with a checksum, that end where pieces end. Whoever opens the file decompresses several at a time,
 * and has each segment in one of them.
 */
export function* compressedFrames(pieces: Iterable<Uint8Array>, level: number): Generator<Uint8Array> {
  let group: Uint8Array[] = [];
  let size = 0;
  for (const piece of pieces) {
    if (size > 0 && size + piece.length > FRAME_BYTES) {
      yield compressedFrame(group, level);
      group = [];
      size = 0;
    }
    group.push(piece);
    size += piece.length;
  }
  if (size > 0) yield compressedFrame(group, level);
}

function compressedFrame(pieces: readonly Uint8Array[], level: number): Uint8Array {
  const params = { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 };
  return zstdCompressSync(Buffer.concat(pieces), { params });
}
