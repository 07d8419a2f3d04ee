/**
 * Finds the offset of the per-CPU pointer in an element of a per-CPU hash: after the key, rounded up to 8 bytes since 6.15 and
 * in the stable releases with commit 11ba7ce076e5 ("bpf: Fix kmemleak warning for percpu hashmap"), not rounded before. No type
 * shows it, so the words at both offsets are checked.
 */
import { KtstrError } from "../../../errors.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { ChainCursor } from "./chain-cursor.ts";
import type { BucketTable, ElementLayout } from "./chain-layout.ts";
import { PerCpuChunks } from "./percpu-chunks.ts";
import { type GuestMap, roundUp8 } from "./walk.ts";

/** Limit on the elements that are checked. */
const SAMPLE_COUNT = 32;

/** Returns the offset from the key's start. */
export function perCpuPointerAt(
  kernel: GuestKernel,
  map: GuestMap,
  table: BucketTable,
  layout: Pick<ElementLayout, "node" | "hash" | "key">,
): number {
  const { keySize } = map.info;
  const rounded = roundUp8(keySize);
  if (rounded === keySize) return rounded;
  const chunks = chunksOf(kernel);
  if (chunks === undefined) return rounded;
  const window = rounded - keySize + 8;
  const candidates: GuestMap = { ...map, info: { ...map.info, valueSize: window } };
  using cursor = new ChainCursor(kernel, candidates, [table], {
    ...layout,
    value: layout.key + keySize,
    reader: undefined,
    cpuCount: 0,
  });
  let votes = 0;
  for (let n = 0; n < SAMPLE_COUNT && cursor.next(); n++) {
    const { buffer, byteOffset } = cursor.valueBytes;
    const view = new DataView(buffer, byteOffset + cursor.valueOffset, window);
    if (chunks.holds(view.getBigUint64(0, true))) votes++;
    if (chunks.holds(view.getBigUint64(rounded - keySize, true))) votes--;
  }
  return votes > 0 ? keySize : rounded;
}

const known = new WeakMap<GuestKernel, PerCpuChunks | undefined>();

/** Undefined if the image does not have the information. */
function chunksOf(kernel: GuestKernel): PerCpuChunks | undefined {
  if (!known.has(kernel)) {
    let chunks: PerCpuChunks | undefined;
    try {
      chunks = new PerCpuChunks(kernel);
    } catch (error) {
      if (!(error instanceof KtstrError)) throw error;
    }
    known.set(kernel, chunks);
  }
  return known.get(kernel);
}
