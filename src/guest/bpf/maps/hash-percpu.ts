/**
 * Where an element of a per-CPU hash keeps the pointer to its values: behind the key, rounded up to 8 bytes since 6.15
 * and the stable releases that took commit 11ba7ce076e5 ("bpf: Fix kmemleak warning for percpu hashmap"), and right
 * behind the key before. No type tells: what lies there does.
 */
import { KtstrError } from "../../../errors.ts";
import type { GuestKernel } from "../../kernel/kernel.ts";
import { ChainCursor } from "./chain-cursor.ts";
import type { BucketTable, ElementLayout } from "./chain-layout.ts";
import { PerCpuChunks } from "./percpu-chunks.ts";
import { type GuestMap, roundUp8 } from "./walk.ts";

/** Elements that are looked at. */
const SAMPLE_COUNT = 32;

/** The offset from the key's start. */
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
  const cursor = new ChainCursor(kernel, candidates, [table], {
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

/** undefined: the image does not tell where they lie. */
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
