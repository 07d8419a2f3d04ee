/** How a hash table and its elements lie in memory: what a walk over chains has to know of a kind of map. */
import type { Pointer } from "../../memory/pointer.ts";
import type { ValueReader } from "./value-reader.ts";

/** Buckets in a row. Those of one map's tables are all of one size. */
export interface BucketTable {
  readonly at: Pointer;
  /** A power of two where elements keep their hash. */
  readonly count: number;
  /** From one to the next, and where in each the first node's address lies. */
  readonly bytesEach: number;
  readonly first: number;
  /** Whether bit 0 of that address is a lock, and not a marker that ends the chain. */
  readonly hasLockBit?: boolean;
}

/** Where things lie in an element; all from its start. */
export interface ElementLayout {
  /** The list node: what the chain's pointers point to. The next one's address is its first word. */
  readonly node: number;
  /** What decides the bucket; -1: elements do not keep it. */
  readonly hash: number;
  readonly key: number;
  /** The value, or what `reader` starts from. */
  readonly value: number;
  /** undefined: the value is the bytes that lie there. */
  readonly reader: ValueReader | undefined;
  readonly cpuCount: number;
}
