/** The layout of a hash table and of its elements, for walks over chains. */
import type { Pointer } from "../../memory/pointer.ts";
import type { ValueReader } from "./value-reader.ts";

/** An array of buckets. The tables of one map have buckets of the same size. */
export interface BucketTable {
  readonly at: Pointer;
  /** A power of two if elements store their hash. */
  readonly count: number;
  /** Bytes per bucket, and the offset of the first node's address in a bucket. */
  readonly bytesEach: number;
  readonly first: number;
  /** Whether bit 0 of that address is a lock instead of an end marker. */
  readonly hasLockBit?: boolean;
}

/** The memory of all elements of a preallocated table. */
export interface Elements {
  readonly hi: number;
  readonly lo: number;
  /** Length in bytes. */
  readonly length: number;
}

/** Offsets from an element's start. */
export interface ElementLayout {
  /** The list node, which the chain's pointers point to. Its first word is the address of the next node. */
  readonly node: number;
  /** The hash, which selects the bucket; -1 if elements do not store it. */
  readonly hash: number;
  readonly key: number;
  /** The value, or the input of `reader`. */
  readonly value: number;
  /** Undefined if the value is stored in the element. */
  readonly reader: ValueReader | undefined;
  readonly cpuCount: number;
  /** Absent if each element has memory of its own. */
  readonly elements?: Elements | undefined;
}
