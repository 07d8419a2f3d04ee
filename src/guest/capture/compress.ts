/** Compresses a capture into zstd frames that can be decompressed in parallel. */
import { constants, zstdCompressSync } from "node:zlib";

/** Pieces are grouped into frames of up to this size; a longer piece gets its own frame. */
const FRAME_BYTES = 4 * 2 ** 20;

/**
 * Yields zstd frames, each with a checksum. A piece is never split, so that a reader that decompresses the frames in
 * parallel has each segment in one buffer.
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
